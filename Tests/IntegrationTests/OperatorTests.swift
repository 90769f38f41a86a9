import Foundation
import TestDatabase
import Wire
import XCTest

/// The operator's command against running frontends.
final class OperatorTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private func start(datastore: String? = nil) throws -> ScriptedClient {
    deployment = try Deployment(datastore: datastore)
    try deployment.startAll()
    let client = try deployment.client()
    try client.enroll()
    return client
  }

  private func command(_ arguments: [String]) throws -> RunningProcess {
    try RunningProcess(
      "microraptor", ["--config", deployment.path("admin.config.yaml")] + arguments, name: "microraptor")
  }

  /// New event rows appear while `monitor` follows, each once.
  func testMonitorFollows() throws {
    let client = try start()
    try client.deliver([ScriptedClient.rows(flow: "F.Monitoring", artifact: "Custom.Events", from: 0, count: 2)])
    let monitor = try command(["monitor", "--artifact", "Custom.Events", "--format", "jsonl"])
    try monitor.wait(for: "\"n\":1,")
    try client.deliver([ScriptedClient.rows(flow: "F.Monitoring", artifact: "Custom.Events", from: 2, count: 1)])
    try monitor.wait(for: "\"n\":2,")
    XCTAssertEqual(kill(monitor.pid, SIGINT), 0)
    XCTAssertEqual(monitor.waitForEnd(), 0)
    XCTAssertEqual(monitor.lines.filter { $0.hasPrefix("{") }.count, 3)
  }

  /// Ctrl-C leaves the flow running and says how to come back.
  func testInterruptedQueryGoesOn() throws {
    let client = try start()
    let query = try command(["query", client.id, "SELECT * FROM info()"])
    let jobs = try XCTUnwrap(client.open(client.startReader().wait(seconds: 20)))
    let flow = try XCTUnwrap(jobs.first { $0.hasFlowRequest }).sessionID
    XCTAssertEqual(kill(query.pid, SIGINT), 0)
    XCTAssertEqual(query.waitForEnd(), 130)
    let line = try query.wait(for: "microraptor results")
    XCTAssertTrue(line.contains(client.id) && line.contains(flow), line)
    try client.deliver([ScriptedClient.rows(flow: flow, artifact: "Custom.Query", from: 0, count: 1)])
    XCTAssertEqual(try deployment.microraptor(["results", client.id, flow, "--format", "jsonl"]), "{\"n\":0}\n")
  }

  func testUploadsFromSQLite() throws {
    try uploads(try start())
  }

  func testUploadsFromPostgreSQL() throws {
    let server = try PostgreSQLServer()
    defer { server.dispose() }
    try uploads(try start(datastore: "postgresql://microraptor@/postgres?host=\(server.directory)"))
  }

  private func uploads(_ client: ScriptedClient) throws {
    func piece(_ data: Data, at offset: UInt64, last: Bool = false) -> Proto_VeloMessage {
      var job = Proto_VeloMessage()
      job.sessionID = "F.UPLOAD"
      job.fileBuffer.pathspec.accessor = "file"
      job.fileBuffer.pathspec.components = ["var", "log", "big file"]
      job.fileBuffer.offset = offset
      job.fileBuffer.data = data
      job.fileBuffer.eof = last
      job.fileBuffer.size = 2_500_000
      job.fileBuffer.storedSize = last ? 2_500_000 : 0
      return job
    }
    let content = Data((0..<2_500_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) })
    for start in stride(from: 0, to: content.count, by: 1_000_000) {
      try client.deliver([piece(content[start..<min(start + 1_000_000, content.count)], at: UInt64(start))])
    }
    try client.deliver([piece(Data(), at: 2_500_000, last: true)])
    let list = try deployment.microraptor(["uploads", "list", client.id, "F.UPLOAD"])
    XCTAssertTrue(list.contains("var/log/big file"), list)
    let output = deployment.path("out")
    let text = try deployment.microraptor(["uploads", "get", client.id, "F.UPLOAD", "--output", output])
    let path = text.trimmingCharacters(in: .newlines)
    XCTAssertEqual(try Data(contentsOf: URL(fileURLWithPath: path)), content)
  }

  /// Each `db` command against a store that frontends use, and `watch` with their metrics.
  func testDatabaseAndWatch() throws {
    let client = try start()
    try client.deliver([ScriptedClient.rows(flow: "F.CHAOS", from: 0, count: 3)])
    let status = try deployment.microraptor(["db", "status", "--json"])
    XCTAssertTrue(status.contains("\"clients\" : 1"), status)
    XCTAssertTrue(try deployment.microraptor(["db", "migrate"]).hasPrefix("up to date"))
    XCTAssertTrue(try deployment.microraptor(["db", "vacuum"]).hasPrefix("from "))
    let copy = deployment.path("copy.db")
    XCTAssertTrue(try deployment.microraptor(["db", "backup", copy]).hasPrefix(copy))
    try client.deliver([ScriptedClient.rows(flow: "F.CHAOS", from: 3, count: 1)])

    let targets = try ["frontend-1", "worker-1"].map { name in
      let line = try deployment.process(name).wait(for: "monitoring address=")
      return "127.0.0.1:" + (line.split(separator: ":").last ?? "")
    }
    let arguments = ["watch", "--once", "--json", "--interval", "0.1"] + targets.flatMap { ["--target", $0] }
    let look = try JSONSerialization.jsonObject(with: Data(try deployment.microraptor(arguments).utf8))
    let processes = (look as? [String: Any])?["processes"] as? [[String: Any]] ?? []
    XCTAssertEqual(processes.map { $0["role"] as? String }, ["frontend", "worker"])
    XCTAssertNotNil(processes.first?["bodies_per_second"])
  }
}
