import Foundation
import PublicIdentity
import Synchronization
import TestDatabase
import XCTest

@testable import Store

/// A value that tasks of a test share.
private final class Shared<Value: Sendable>: Sendable {
  private let value: Mutex<Value>

  init(_ value: Value) {
    self.value = Mutex(value)
  }

  func withLock<Result: Sendable>(_ body: (inout Value) -> Result) -> Result {
    value.withLock { body(&$0) }
  }
}

/// PostgreSQL dies, comes back, or is away: nothing acknowledged is lost, none is doubled, and nobody waits for ever.
final class PostgreSQLOutageTests: XCTestCase {
  private func withServer(_ body: (PostgreSQLServer) async throws -> Void) async throws {
    let server = try PostgreSQLServer()
    defer { server.dispose() }
    try await body(server)
  }

  func testKillingTheServerUnderLoadLosesAndDoublesNothing() async throws {
    try await withServer { server in
      let store = try await PostgreSQLStore.open(url: server.url("postgres"))
      let agents = try (1...12).map { try TestAgent($0) }
      for agent in agents { _ = try await store.enrolled(agent) }
      let acknowledged = Shared(0)
      let isOver = Shared(false)
      let sent = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
        for (number, agent) in agents.enumerated() {
          group.addTask {
            var part = 0
            while !isOver.withLock({ $0 }) {
              let job = agent.rows("{\"n\":\(part)}\n", start: UInt64(part), part: UInt64(part))
              let body = try agent.submission(job, agent.monitoring("{\"n\":\(part)}\n"))
              // An agent keeps its data until it is acknowledged.
              while true {
                do {
                  _ = try await store.ingest(body)
                  break
                } catch let error as StoreError where error.isTransient {
                  continue
                }
              }
              part += 1
              acknowledged.withLock { $0 += 1 }
            }
            return (number, part)
          }
        }
        // Whatever happens, the senders end.
        defer { isOver.withLock { $0 = true } }
        for _ in 0..<3 {
          let goal = acknowledged.withLock { $0 } + 200
          while acknowledged.withLock({ $0 }) < goal { await Task.yield() }
          try server.kill()
          try server.start()
        }
        let goal = acknowledged.withLock { $0 } + 200
        while acknowledged.withLock({ $0 }) < goal { await Task.yield() }
        isOver.withLock { $0 = true }
        return try await group.reduce(into: [Int: Int]()) { $0[$1.0] = $1.1 }
      }
      for (number, agent) in agents.enumerated() {
        let count = sent[number] ?? 0
        let expected = (0..<count).map { "{\"n\":\($0)}" }
        let rows = try await store.json(agent.flowName)
        XCTAssertEqual(rows, expected)
        let events = try await store.monitoring(
          org: "", artifact: "Generic.Client.Stats", client: agent.name, after: 0, limit: 1_000_000)
        XCTAssertEqual(events.count, count)
      }
      let health = await store.health()
      XCTAssertEqual(health, .healthy)
      await store.close()
    }
  }

  func testQueuedTasksAreNeitherLostNorDoubledByAnOutage() async throws {
    try await withServer { server in
      let store = try await PostgreSQLStore.open(url: server.url("postgres"))
      let agent = try await store.enrolled(TestAgent())
      let queued = Shared<[String]>([])
      let isOver = Shared(false)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            while !isOver.withLock({ $0 }) {
              let flow = FlowID.make(at: .now())
              try await store.queue([agent.flowTask(flow: flow)], by: alice)
              queued.withLock { $0.append(flow.text) }
            }
          }
        }
        defer { isOver.withLock { $0 = true } }
        for _ in 0..<2 {
          let goal = queued.withLock { $0.count } + 50
          while queued.withLock({ $0.count }) < goal { await Task.yield() }
          try server.kill()
          try server.start()
        }
        isOver.withLock { $0 = true }
        try await group.waitForAll()
      }
      let rows = try server.execute("SELECT session FROM tasks ORDER BY session", in: "postgres").map { $0[0] }
      XCTAssertEqual(rows, queued.withLock { $0.sorted() })
      await store.close()
    }
  }

  func testWithoutAServerRequestsEndAtTheirDeadlineAndItRecovers() async throws {
    try await withServer { server in
      var tuning = PostgreSQLTuning()
      tuning.deadline = .milliseconds(700)
      let store = try await PostgreSQLStore.open(url: server.url("postgres"), tuning: tuning)
      let agent = try await store.enrolled(TestAgent())
      let events = try await store.events()
      try server.stop()
      let clock = ContinuousClock()
      let start = clock.now
      await assertThrows(.unavailable) { _ = try await store.publicKey(of: agent.name) }
      await assertThrows(.unavailable) { _ = try await store.ingest(try agent.submission(agent.rows("{}\n"))) }
      await assertThrows(.unavailable) { try await store.queue([agent.flowTask()], by: alice) }
      XCTAssertLessThan(clock.now - start, .seconds(5))
      guard case .unhealthy(let reason) = await store.health() else { return XCTFail("healthy without a server") }
      XCTAssertEqual(reason.code, .unavailable)
      XCTAssertTrue(reason.message.contains("Datastore.url"), reason.message)
      try server.start()
      var health = await store.health()
      for _ in 0..<5 where health != .healthy { health = await store.health() }
      XCTAssertEqual(health, .healthy)
      let result = try await store.ingest(try agent.submission(agent.rows("{}\n")))
      XCTAssertEqual(result.rows, 1)
      try await store.queue([agent.flowTask()], by: alice)
      for await event in events where event == .tasksQueued(agent.name) { break }
      await store.close()
    }
  }

  func testARequestOutlastsAShortOutage() async throws {
    try await withServer { server in
      let store = try await PostgreSQLStore.open(url: server.url("postgres"))
      let agent = try await store.enrolled(TestAgent())
      try server.stop()
      async let result = store.ingest(try agent.submission(agent.rows("{}\n")))
      async let key = store.publicKey(of: agent.name)
      try server.start()
      let (stored, known) = (try await result, try await key)
      XCTAssertEqual(stored.rows, 1)
      XCTAssertNotNil(known)
      await store.close()
    }
  }

  /// The answer to a commit is lost: whether it took place is looked up, both ways.
  func testALostCommitIsSettledByItsToken() async throws {
    let url = try PostgreSQLServer.shared().newDatabase()
    let store = try await PostgreSQLStore.open(url: url)
    let runs = Shared(0)
    // The transaction ends its own connection before its commit can be answered: it is run again, once.
    try await store.client.transact { transaction in
      let run = runs.withLock { runs in
        runs += 1
        return runs
      }
      transaction.write(
        "INSERT INTO artifacts (org, name) VALUES ('', $1::text)", [.text("run\(run)")])
      if run == 1 { transaction.write("SELECT pg_terminate_backend(pg_backend_pid())") }
    }
    XCTAssertEqual(runs.withLock { $0 }, 2)
    XCTAssertEqual(try PostgreSQLServer.execute("SELECT name FROM artifacts", url: url), [["run2"]])
    // Committed, and the connection ends right after: it is not run again.
    runs.withLock { $0 = 0 }
    try await store.client.transact { transaction in
      runs.withLock { $0 += 1 }
      transaction.write("INSERT INTO artifacts (org, name) VALUES ('', 'once')")
      transaction.endsConnectionAfterCommit = true
    }
    XCTAssertEqual(runs.withLock { $0 }, 1)
    XCTAssertEqual(
      try PostgreSQLServer.execute("SELECT count(*) FROM artifacts WHERE name = 'once'", url: url), [["1"]])
    await store.close()
  }
}
