import Foundation
import Synchronization
import TestDatabase
import XCTest

/// Acknowledged = stored, nothing doubled, every task run exactly once, while frontends, crypto-workers and PostgreSQL
/// are killed at random and answers are cut (issue 5, "What must be shown"; S-21, H-26).
///
/// `MICRORAPTOR_CHAOS_SECONDS` sets how long the killing lasts (default 10), `MICRORAPTOR_CHAOS_AGENTS` how many agents
/// there are (default 50 from a minute on, else 15).
final class ChaosTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  func testSQLite() throws {
    deployment = try Deployment(frontends: 2, workers: 2, maxPoll: 1)
    try chaos("SQLite", database: nil)
  }

  func testPostgreSQL() throws {
    let server = try PostgreSQLServer()
    defer { server.dispose() }
    deployment = try Deployment(
      frontends: 2, workers: 2, maxPoll: 1, datastore: "postgresql://microraptor@/postgres?host=\(server.directory)")
    try chaos("PostgreSQL", database: server)
  }

  private static func setting(_ name: String, _ standard: Int) -> Int {
    ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? standard
  }

  private func chaos(_ name: String, database: PostgreSQLServer?) throws {
    let seconds = Self.setting("MICRORAPTOR_CHAOS_SECONDS", 10)
    try deployment.setFrontend(inflightCheckTime: 2, connectionsPerSecond: 1000)
    try deployment.startAll(workers: 2)
    let server = ChaosAgent.Server(
      nonce: try deployment.nonce(), pem: try deployment.messageCertificate(), ports: deployment.ports)
    let count = Self.setting("MICRORAPTOR_CHAOS_AGENTS", seconds < 60 ? 15 : 50)
    let agents = try (0..<count).map { _ in try ChaosAgent(server) }
    for agent in agents { try agent.enroll() }

    let threads = ChaosThreads()
    for agent in agents {
      threads.start { try agent.send() }
      threads.start { try agent.read() }
    }
    let operation = ChaosOperator(config: deployment.path("admin.config.yaml"), clients: agents.map(\.id))
    threads.start { operation.run() }
    let monkey = ChaosMonkey(deployment, database: database)
    let start = Date()
    do {
      try monkey.rage(until: Date(timeIntervalSinceNow: Double(seconds)))
      operation.end()
      for agent in agents { agent.drain() }
      try settle(agents)
    } catch {
      XCTFail("\(error)")
    }
    operation.end()
    for agent in agents { agent.end() }
    let settled = Date().timeIntervalSince(start) - Double(seconds)
    XCTAssertEqual(threads.join(), [])
    try compare(agents, operation)
    report("\(name), \(seconds) s and \(Int(settled)) s until all was settled", agents, operation, monkey)
  }

  /// Waits until all is acknowledged and every flow has ended.
  private func settle(_ agents: [ChaosAgent]) throws {
    let end = Date(timeIntervalSinceNow: 120)
    var open: [String] = []
    repeat {
      usleep(500_000)
      open = agents.filter { !$0.hasSentAll }.map(\.id)
      if open.isEmpty { open = try agents.filter { try hasOpenFlows($0.id) }.map(\.id) }
    } while !open.isEmpty && Date() < end
    XCTAssertEqual(open, [], "these have not sent everything or have flows that did not end")
  }

  private func hasOpenFlows(_ client: String) throws -> Bool {
    try flows(client).contains { $0.value == "WAITING" || $0.value == "IN_PROGRESS" || $0.value == "UNRESPONSIVE" }
  }

  /// The states of the flows that were asked for.
  private func flows(_ client: String) throws -> [String: String] {
    let text = try deployment.microraptor(["flows", client, "--json", "--limit", "100000"])
    let all = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]] ?? []
    var states: [String: String] = [:]
    for flow in all {
      guard let id = flow["session_id"] as? String, id != ChaosAgent.flow else { continue }
      states[id] = flow["state"] as? String
    }
    return states
  }

  private func compare(_ agents: [ChaosAgent], _ operation: ChaosOperator) throws {
    let events = try storedEvents()
    for agent in agents {
      XCTAssertEqual(agent.counts.unexpected, [], agent.id)
      XCTAssertEqual(try numbers(agent.id, ChaosAgent.flow), Array(0..<agent.rows), "rows of \(agent.id)")
      XCTAssertEqual(events[agent.id] ?? [], Array(0..<agent.events), "event rows of \(agent.id)")
      XCTAssertEqual(agent.executed.filter { $0.value != 1 }, [:], "flows that were run more than once")
      let states = try flows(agent.id)
      XCTAssertEqual(states.filter { $0.value != "FINISHED" }, [:])
      XCTAssertEqual(Set(states.keys), Set(agent.executed.keys), "what is stored was run, and nothing else")
    }
    let executed = Set(agents.flatMap { $0.executed.keys })
    XCTAssertEqual(operation.queued.subtracting(executed), [], "what the operator was told was run")
    XCTAssertFalse(executed.isEmpty)
    // One flow of each client in full: the rows that its execution brought.
    for agent in agents {
      guard let flow = agent.executed.keys.sorted().last else { continue }
      XCTAssertEqual(try numbers(agent.id, flow), Array(0..<ChaosAgent.rowsPerTask))
    }
  }

  private func numbers(_ client: String, _ flow: String) throws -> [Int] {
    try deployment.microraptor(["results", client, flow, "--format", "jsonl"]).split(separator: "\n").map { line in
      try XCTUnwrap((JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["n"] as? Int)
    }
  }

  private func storedEvents() throws -> [String: [Int]] {
    let text = try deployment.microraptor([
      "monitor", "--artifact", ChaosAgent.artifact, "--no-follow", "--format", "jsonl",
    ])
    var events: [String: [Int]] = [:]
    for line in text.split(separator: "\n") {
      let row = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      events[try XCTUnwrap(row["ClientId"] as? String), default: []].append(try XCTUnwrap(row["n"] as? Int))
    }
    return events
  }

  private func report(
    _ name: String, _ agents: [ChaosAgent], _ operation: ChaosOperator, _ monkey: ChaosMonkey
  ) {
    let counts = agents.map(\.counts)
    func sum(_ path: KeyPath<ChaosAgent.Counts, Int>) -> Int { counts.reduce(0) { $0 + $1[keyPath: path] } }
    let kills = monkey.kills.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }.joined(separator: ", ")
    print(
      """
      chaos with \(name), \(agents.count) agents: killed \(kills); \(sum(\.acknowledged)) bodies \
      acknowledged, \(sum(\.resent)) sent again, \(sum(\.cut)) answers and \(sum(\.readersCut)) readers cut; \
      \(agents.reduce(0) { $0 + $1.rows }) rows and \(agents.reduce(0) { $0 + $1.events }) event rows stored once; \
      \(agents.reduce(0) { $0 + $1.executed.count }) tasks run once (\(operation.failures) calls of the operator failed); \
      \(sum(\.conflicts)) answers 409
      """)
  }
}

/// Threads whose ends and errors are waited for.
private final class ChaosThreads: Sendable {
  private let group = DispatchGroup()
  private let errors = Mutex<[String]>([])

  func start(_ body: @escaping @Sendable () throws -> Void) {
    group.enter()
    let thread = Thread { [self] in
      do { try body() } catch { errors.withLock { $0.append("\(error)") } }
      group.leave()
    }
    thread.start()
  }

  /// - Returns: the errors that ended threads.
  func join() -> [String] {
    guard group.wait(timeout: .now() + 90) == .success else { return ["a thread did not end"] }
    return errors.withLock { $0 }
  }
}
