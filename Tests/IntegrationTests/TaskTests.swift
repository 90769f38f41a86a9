import Foundation
import Wire
import XCTest

/// Artifacts, interrogation, event tables and hunts: the operator's command, frontends and agents as processes.
final class TaskTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private func start(agents: Int = 0, maxPoll: Int = 20, interrogates: Bool = false) throws {
    deployment = try Deployment(frontends: 2, maxPoll: maxPoll, interrogates: interrogates)
    try deployment.startAll()
    for number in 0..<agents { try deployment.startAgent(number + 1) }
    if agents > 0 { _ = try clients(agents) }
  }

  // MARK: helpers

  private func objects(_ arguments: [String]) throws -> [[String: Any]] {
    let output = try deployment.microraptor(arguments)
    if output.hasPrefix("[") {
      return try XCTUnwrap(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [[String: Any]])
    }
    return try output.split(separator: "\n").map {
      try XCTUnwrap(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  /// Asks again until the answer will do, for at most a minute.
  private func wait<Value>(
    _ what: String, _ ask: () throws -> Value, until isEnough: (Value) -> Bool
  ) throws -> Value {
    let end = Date(timeIntervalSinceNow: 60)
    var last = try ask()
    while !isEnough(last) {
      guard Date() < end else { throw RunningProcess.Failure(description: "\(what): still \(last)") }
      last = try ask()
    }
    return last
  }

  private func clients(_ count: Int) throws -> [String] {
    try wait("agents enroll") {
      try objects(["clients", "--json"]).compactMap { $0["client_id"] as? String }
    } until: {
      $0.count == count
    }
  }

  private func writeArtifact(_ text: String) throws {
    let folder = deployment.path("own")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try text.write(toFile: folder + "/\(UUID().uuidString).yaml", atomically: true, encoding: .utf8)
  }

  // MARK: artifacts

  func testArtifactsAreCollectedByName() throws {
    try start(agents: 1)
    try writeArtifact(
      """
      name: Custom.Sum
      parameters: [{name: Last, type: int, default: 2}]
      sources:
        - name: Numbers
          query: SELECT _value + Last AS N FROM range(end=Last)
        - name: Called
          query: SELECT * FROM Artifact.Custom.Leaf(Word="x")
      """)
    try writeArtifact(
      "name: Custom.Leaf\nparameters: [{name: Word}]\nsources: [{query: 'SELECT Word AS W, _value AS V FROM range(end=2)'}]"
    )
    let rows = try objects([
      "query", "--all", "--artifacts", deployment.path("own"), "--artifact", "Custom.Sum", "--artifact",
      "Generic.Client.Info", "--param", "Last=3", "--format", "jsonl",
    ])
    func rowsOf(_ source: String) -> [[String: Any]] { rows.filter { $0["_Artifact"] as? String == source } }
    XCTAssertEqual(rowsOf("Custom.Sum/Numbers").map { $0["N"] as? Int }, [3, 4, 5])
    XCTAssertEqual(rowsOf("Custom.Sum/Called").map { $0["W"] as? String }, ["x", "x"])
    XCTAssertEqual(rowsOf("Generic.Client.Info/BasicInformation").map { $0["OS"] as? String }, ["linux"])
    let unknown = try RunningProcess.run(
      "microraptor",
      ["query", "--config", deployment.path("admin.config.yaml"), "--all", "--artifact", "Linux.Sys.User"])
    XCTAssertEqual(unknown.status, 64)
    XCTAssertTrue(unknown.errors.contains("Linux.Sys.Users"), unknown.errors)
  }

  // MARK: interrogation

  /// S-1, S-2 with an agent: asked once, and the record holds what only the answer tells.
  func testANewAgentIsAskedWhoItIs() throws {
    try start(agents: 2, interrogates: true)
    let records = try wait("records are filled") {
      try objects(["clients", "--json"])
    } until: { records in
      records.allSatisfy { ($0["mac_addresses"] as? [String])?.isEmpty == false }
    }
    for record in records {
      let id = try XCTUnwrap(record["client_id"] as? String)
      XCTAssertEqual(record["system"] as? String, "linux")
      _ = try deployment.microraptor(["query", id, "SELECT 1 FROM scope()"])
      let flows = try objects(["flows", id, "--json"])
      XCTAssertEqual(flows.filter { $0["creator"] as? String == "system" }.count, 1)
      XCTAssertEqual(
        flows.last?["artifacts_with_results"] as? [String], ["Generic.Client.Info/BasicInformation"])
    }
  }

  // MARK: event tables

  private func tables(_ jobs: [Proto_VeloMessage]?) -> [Proto_VQLEventTable] {
    jobs?.filter(\.hasUpdateEventTable).map(\.updateEventTable) ?? []
  }

  private func checkIn(_ client: ScriptedClient, version: UInt64) throws -> HTTPSClient.Exchange {
    var job = ScriptedClient.checkIn
    job.foremanCheckin.lastEventTableVersion = version
    return try HTTPSClient(port: client.port).start("POST", "/reader", try client.seal([job]))
  }

  /// S-10, S-11: a waiting reader is woken by a change of the table and of its labels.
  func testTablesReachWaitingReaders() throws {
    try start(maxPoll: 60)
    let client = try deployment.client(port: deployment.ports[1])
    try client.enroll()
    let first = try checkIn(client, version: 0)
    try writeArtifact("name: Custom.Tick\ntype: CLIENT_EVENT\nsources: [{query: SELECT * FROM clock(period=1)}]")
    let own = ["--artifacts", deployment.path("own")]
    _ = try deployment.microraptor(["events", "set", "--artifact", "Custom.Tick"] + own)
    let table = try XCTUnwrap(tables(try client.open(first.wait(seconds: 30))).first)
    XCTAssertEqual(table.event.flatMap(\.query).map(\.name), ["Custom.Tick"])
    XCTAssertTrue(table.event.allSatisfy { (120..<140).contains($0.maxWait) })

    _ = try deployment.microraptor(
      ["events", "set", "--label", "web", "--artifact", "Generic.Client.Stats", "--param", "Frequency=5"])
    // The client is not in it, yet its table is a new version: labels count from now on.
    let same = try XCTUnwrap(tables(try client.open(checkIn(client, version: table.version).wait(seconds: 30))).first)
    XCTAssertEqual(same.event.count, 1)
    let waiting = try checkIn(client, version: same.version)
    _ = try deployment.microraptor(["label", "add", client.id, "web"])
    let labelled = try XCTUnwrap(tables(try client.open(waiting.wait(seconds: 30))).first)
    XCTAssertGreaterThan(labelled.version, same.version)
    XCTAssertEqual(labelled.event.compactMap(\.query.last?.name), ["Custom.Tick", "Generic.Client.Stats"])
    XCTAssertEqual(labelled.event.last?.env.map(\.value), ["5"])
  }

  func testAgentsWatchWhatTheyAreTold() throws {
    try start(agents: 1)
    try writeArtifact(
      """
      name: Custom.Tick
      type: CLIENT_EVENT
      resources: {max_batch_wait: 1}
      parameters: [{name: Word, default: a}]
      sources: [{query: SELECT Word FROM clock(period=1)}]
      """)
    let own = ["--artifacts", deployment.path("own")]
    _ = try deployment.microraptor(["events", "set", "--artifact", "Custom.Tick", "--param", "Word=b"] + own)
    let monitor = ["monitor", "--artifact", "Custom.Tick", "--no-follow", "--format", "jsonl"]
    let rows = try wait("event rows") {
      try objects(monitor)
    } until: {
      $0.count >= 2
    }
    XCTAssertEqual(Set(rows.map { $0["Word"] as? String }), ["b"])
    XCTAssertEqual(Set(rows.map { $0["ClientId"] as? String }), Set(try clients(1)))
    _ = try deployment.microraptor(["events", "clear"])
    try deployment.process("agent-1").wait(for: "running 0 queries")
    let shown = try deployment.microraptor(["events", "show"])
    XCTAssertTrue(shown.contains("(nothing)"), shown)
  }

  // MARK: hunts

  /// S-13.
  func testAHuntTakesEachClientOnce() throws {
    try start(agents: 2)
    let id = try deployment.microraptor(["hunt", "create", "SELECT 7 AS N FROM scope()", "--os", "linux"])
      .trimmingCharacters(in: .whitespacesAndNewlines)
    func progress(_ count: Int) throws -> [String: Any] {
      try wait("\(count) clients complete the hunt") {
        let output = try deployment.microraptor(["hunt", "show", id, "--json"])
        return try XCTUnwrap(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
      } until: {
        $0["completed"] as? Int == count
      }
    }
    XCTAssertEqual(try progress(2)["rows"] as? Int, 2)
    try deployment.startAgent(3)
    let late = try progress(3)
    XCTAssertEqual(late["scheduled"] as? Int, 3)
    XCTAssertEqual(late["errors"] as? Int, 0)
    let rows = try objects(["hunt", "results", id, "--format", "jsonl"])
    XCTAssertEqual(Set(rows.compactMap { $0["Client"] as? String }), Set(try clients(3)))
    XCTAssertEqual(rows.map { $0["N"] as? Int }, [7, 7, 7])

    _ = try deployment.microraptor(["hunt", "stop", id])
    let list = try objects(["hunt", "list", "--json"])
    XCTAssertEqual(list.map { $0["state"] as? String }, ["STOPPED"])
  }

  // MARK: keys

  /// S-17: the message key is replaced under running agents; all come back and none enrolls again.
  func testAgentsSurviveANewMessageKey() throws {
    try start(agents: 3, maxPoll: 2)
    let ids = try clients(3)
    let before = try deployment.messageCertificate()
    let rotated = try RunningProcess.run(
      "microraptor", ["config", "rotate", "--directory", deployment.directory.path, "--accept-old", "0"])
    XCTAssertEqual(rotated.status, 0, rotated.errors)
    try deployment.kill("worker-1")
    for number in 1...2 { try deployment.kill("frontend-\(number)") }
    try deployment.startAll()
    XCTAssertNotEqual(try deployment.messageCertificate(), before)
    for id in ids {
      let rows = try objects(["query", id, "SELECT 1 AS One FROM scope()", "--format", "jsonl"])
      XCTAssertEqual(rows.map { $0["One"] as? Int }, [1])
    }
    XCTAssertEqual(Set(try clients(3)), Set(ids))
    let enrolled = try (1...2).reduce(0.0) { try $0 + deployment.metric("frontend-\($1)", "frontend_enrolled_count") }
    XCTAssertEqual(enrolled, 0, "their keys were stored before")
    for number in 1...3 { XCTAssertEqual(try deployment.process("agent-\(number)").stop(), 0) }
  }
}
