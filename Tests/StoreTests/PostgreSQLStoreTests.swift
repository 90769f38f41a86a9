import Foundation
import PublicIdentity
import TestDatabase
import Wire
import XCTest

@testable import Store

/// What only the PostgreSQL form promises: several machines, schema versions, uploads in the database, clear errors.
final class PostgreSQLStoreTests: XCTestCase {
  private var url = ""

  override func setUpWithError() throws {
    url = try PostgreSQLServer.shared().newDatabase()
  }

  private func open(_ options: StoreOptions = StoreOptions()) async throws -> PostgreSQLStore {
    try await PostgreSQLStore.open(url: url, options: options)
  }

  private func execute(_ sql: String) throws -> [[String]] {
    try PostgreSQLServer.execute(sql, url: url)
  }

  func testCommitsAreSynchronousEvenWhereTheServerSaysOtherwise() async throws {
    let name = try XCTUnwrap(try execute("SELECT current_database()").first?.first)
    _ = try execute("ALTER DATABASE \(name) SET synchronous_commit = off")
    let store = try await open()
    for role in [PGRole.ingest, .change] {
      let answers = try await store.client.query([PGStatement("SHOW synchronous_commit")], role: role)
      XCTAssertEqual(answers.first?.first?.text(0), "on")
    }
    await store.close()
  }

  func testANewerSchemaIsRefused() async throws {
    let store = try await open()
    await store.close()
    _ = try execute("INSERT INTO schema_steps VALUES (99, 0)")
    await assertThrows(.newerSchema) { _ = try await self.open() }
  }

  func testManyMayMakeTheSchemaAtOnce() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 1...4 {
        group.addTask { [url] in
          let store = try await PostgreSQLStore.open(url: url)
          _ = try await store.enrolled(TestAgent(number))
          await store.close()
        }
      }
      try await group.waitForAll()
    }
    let store = try await open()
    let clients = try await store.clients(ClientFilter())
    XCTAssertEqual(clients.count, 4)
    await store.close()
  }

  func testBadURLsAreRefusedWithoutTheirPassword() async throws {
    do {
      _ = try await PostgreSQLStore.open(url: "postgresql://u:se%cret@[host/db")
      XCTFail("nothing was thrown")
    } catch let error as StoreError {
      XCTAssertEqual(error.code, .invalid)
      XCTAssertFalse("\(error)".contains("cret"))
    }
  }

  func testAMissingDatabaseIsSaid() async throws {
    var tuning = PostgreSQLTuning()
    tuning.deadline = .milliseconds(300)
    let missing = try PostgreSQLServer.shared().url("nowhere")
    do {
      _ = try await PostgreSQLStore.open(url: missing, tuning: tuning)
      XCTFail("nothing was thrown")
    } catch let error as StoreError {
      XCTAssertEqual(error.code, .unavailable)
      XCTAssertTrue(error.message.contains("nowhere"), error.message)
    }
  }

  func testEventsReachOtherProcesses() async throws {
    let (first, second) = (try await open(), try await open())
    let events = try await first.events()
    let agent = try await second.enrolled(TestAgent())
    var heard = events.makeAsyncIterator()
    var event = await heard.next()
    XCTAssertEqual(event, .keyChanged(agent.name))
    let clock = ContinuousClock()
    var times: [Duration] = []
    for _ in 0..<50 {
      var other = agent
      other.flow = FlowID.make(at: .now())
      let start = clock.now
      try await second.queue([other.flowTask()], by: alice)
      event = await heard.next()
      XCTAssertEqual(event, .tasksQueued(agent.name))
      times.append(clock.now - start)
    }
    times.sort()
    XCTAssertLessThan(times[times.count / 2], .milliseconds(50))
    try await second.delete(agent.name, by: alice)
    event = await heard.next()
    XCTAssertEqual(event, .clientDeleted(agent.name))
    await first.close()
    await second.close()
  }

  func testChangesMissedWhileDisconnectedAreCaughtUp() async throws {
    let (first, second) = (try await open(), try await open())
    let events = try await first.events()
    let agent = try await second.enrolled(TestAgent())
    // The listener is thrown out, and a change commits before it can be back or just after: both ways it is heard.
    for _ in 0..<5 {
      _ = try execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND (query LIKE 'LISTEN%' OR query LIKE '%pg_snapshot_xmin%')
        """)
      var other = agent
      other.flow = FlowID.make(at: .now())
      try await second.queue([other.flowTask()], by: alice)
      for await event in events where event == .tasksQueued(agent.name) { break }
    }
    await first.close()
    await second.close()
  }

  func testTwoOpenersShareADatabase() async throws {
    let (first, second) = (try await open(), try await open())
    let agents = try (1...8).map { try TestAgent($0) }
    for agent in agents { _ = try await first.enrolled(agent) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for store in [first, second] {
        for agent in agents {
          group.addTask {
            for part in 0..<25 {
              // Both send the same lists: each is stored once.
              let job = agent.rows("{\"n\":\(part)}\n", start: UInt64(part), part: UInt64(part))
              _ = try await store.ingest(try agent.submission(job, agent.monitoring("{\"n\":\(part)}\n")))
            }
          }
        }
      }
      try await group.waitForAll()
    }
    for agent in agents {
      let events = try await first.monitoring(
        org: "", artifact: "Generic.Client.Stats", client: agent.name, after: 0, limit: 100)
      XCTAssertEqual(events.count, 25)
      let rows = try await second.json(agent.flowName)
      XCTAssertEqual(Set(rows).count, rows.count, "none doubled")
    }
    await first.close()
    await second.close()
  }

  func testAFollowerMissesNothingOfConcurrentWriters() async throws {
    let (first, second) = (try await open(), try await open())
    let agents = try (1...6).map { try TestAgent($0) }
    for agent in agents { _ = try await first.enrolled(agent) }
    let total = 6 * 40
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (number, agent) in agents.enumerated() {
        let store = number % 2 == 0 ? first : second
        group.addTask {
          for part in 0..<40 {
            let job = agent.monitoring("{\"n\":\(part)}\n")
            _ = try await store.ingest(try agent.submission(job))
          }
        }
      }
      group.addTask {
        var (seen, cursor) = (0, Int64(0))
        while seen < total {
          let page = try await first.monitoring(
            org: "", artifact: "Generic.Client.Stats", client: nil, after: cursor, limit: 7)
          seen += page.count
          cursor = page.last?.cursor ?? cursor
        }
        XCTAssertEqual(seen, total)
      }
      try await group.waitForAll()
    }
    await first.close()
    await second.close()
  }

  func testALockedClientHoldsUpNobodyElse() async throws {
    let store = try await open()
    let (held, free) = (try await store.enrolled(TestAgent(1)), try await store.enrolled(TestAgent(2)))
    let (locked, release) = (AsyncStream.makeStream(of: Void.self), AsyncStream.makeStream(of: Void.self))
    async let holder: Void = store.transact(on: held.name) { transaction, _ in
      locked.continuation.finish()
      for await _ in release.stream {}
    }
    for await _ in locked.stream {}
    async let waiting = store.ingest(try held.submission(held.rows("{}\n")))
    let result = try await store.ingest(try free.submission(free.rows("{}\n")))
    XCTAssertEqual(result.rows, 1)
    release.continuation.finish()
    let late = try await waiting
    XCTAssertEqual(late.rows, 1)
    try await holder
    await store.close()
  }

  func testUploadsAreReadFromTheDatabase() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    for piece in [
      agent.piece("hello ", offset: 0), agent.piece("world", offset: 6),
      agent.piece("", offset: 11, eof: true, stored: 11),
    ] { _ = try await store.ingest(try agent.submission(piece)) }
    _ = try await store.ingest(try agent.submission(agent.piece("hello ", offset: 0), agent.checkIn()))
    var upload = try await store.uploads(of: agent.flowName)[0]
    XCTAssertTrue(upload.complete)
    XCTAssertEqual(upload.storedSize, 11)
    var content = try await store.uploadContent(of: agent.flowName, upload, from: 0, limit: 100)
    XCTAssertEqual(String(decoding: content, as: UTF8.self), "hello world")
    content = try await store.uploadContent(of: agent.flowName, upload, from: 4, limit: 4)
    XCTAssertEqual(String(decoding: content, as: UTF8.self), "o wo")
    // A shorter upload of the same name leaves no tail, and a younger piece covers an older one.
    _ = try await store.ingest(
      try agent.submission(agent.piece("XY", offset: 1), agent.piece("", offset: 3, eof: true, stored: 7)))
    upload = try await store.uploads(of: agent.flowName)[0]
    content = try await store.uploadContent(of: agent.flowName, upload, from: 0, limit: 100)
    XCTAssertEqual(String(decoding: content, as: UTF8.self), "hXYlo w")
    content = try await store.uploadContent(of: agent.flowName, upload, from: 7, limit: 100)
    XCTAssertEqual(content, [])
    let done = try await store.monitoring(
      org: "", artifact: "System.Upload.Completion", client: nil, after: 0, limit: 10)
    XCTAssertEqual(done.count, 1)
    await store.close()
  }

  func testUploadsOfEventQueriesAndBadNames() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    for number in 0..<2 {
      var job = agent.piece("evil\u{0}", offset: 0, components: ["..", "a\0b"], number: Int64(number))
      job.sessionID = "F.Monitoring"
      let result = try await store.ingest(try agent.submission(job))
      XCTAssertEqual(result.failures, [])
    }
    let flows = try await store.flows(of: agent.name, limit: 10)
    XCTAssertTrue(flows.isEmpty)
    XCTAssertEqual(try execute("SELECT count(*) FROM uploads").first, ["2"])
    await store.close()
  }

  func testAddressesAndSearchesWithNULDoNoHarm() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(try agent.submission(agent.rows("{}\n"), address: "a\0b"))
    let address = try await store.client(agent.name)?.lastAddress
    XCTAssertEqual(address, "ab")
    var filter = ClientFilter()
    filter.search = "C.\0"
    let found = try await store.clients(filter)
    XCTAssertEqual(found.map(\.client), [agent.name])
    await assertThrows(.invalid) {
      try await store.changeLabels(of: agent.name, add: ["a\0"], remove: [], by: alice)
    }
    await store.close()
  }

  func testADeletionCutShortIsCompletedByMaintenance() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(
      try agent.submission(
        agent.rows("{}\n"), agent.piece("x", offset: 0), agent.log("{}\n", id: 0), agent.monitoring("{}\n")))
    // As a process leaves it that is killed right after the first step of `delete`.
    _ = try execute(
      "INSERT INTO doomed SELECT id, org, client FROM clients; DELETE FROM contacts; DELETE FROM clients")
    var report = try await store.maintain(now: .now())
    while report.hasMore { report = try await store.maintain(now: .now()) }
    for table in [
      "flows", "row_chunks", "result_sets", "uploads", "upload_pieces", "seen_lists", "monitoring_chunks", "log_chunks",
      "doomed",
    ] { XCTAssertEqual(try execute("SELECT count(*) FROM \(table)").first, ["0"], table) }
    await store.close()
  }

  func testOldDigestsChangesAndTokensAreForgotten() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(try agent.submission(agent.rows("{}\n"), at: Timestamp(seconds: 1_000)))
    let later = Timestamp.now().advanced(by: .seconds(8 * 86_400))
    let report = try await store.maintain(now: later)
    XCTAssertEqual(report.forgottenDigests, 1)
    XCTAssertEqual(report.trimmedEvents, 1)
    // Only the token of the maintenance itself is younger than `later`'s hour, and it is older than a day hence.
    let tokens = try execute("SELECT count(*) FROM outcomes").first
    XCTAssertEqual(tokens, ["1"])
    await store.close()
  }

  func testAReadOnlyDatabaseIsSaidAndRecoveryNeedsNoRestart() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    let name = try XCTUnwrap(try execute("SELECT current_database()").first?.first)
    let server = try PostgreSQLServer.shared()
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(name)'"
    try server.execute("ALTER DATABASE \(name) SET default_transaction_read_only = on", in: "postgres")
    try server.execute(end, in: "postgres")
    let body = try agent.submission(agent.rows("{}\n"))
    await assertThrows(.readOnly) { _ = try await store.ingest(body) }
    let bad = await store.health()
    XCTAssertEqual(bad, .unhealthy(StoreError(.readOnly, "")))
    try server.execute("ALTER DATABASE \(name) RESET default_transaction_read_only", in: "postgres")
    try server.execute(end, in: "postgres")
    let good = await store.health()
    XCTAssertEqual(good, .healthy)
    let result = try await store.ingest(body)
    XCTAssertEqual(result.rows, 1)
    await store.close()
  }

  func testAClosedStoreSaysSo() async throws {
    let store = try await open()
    await store.close()
    await assertThrows(.unavailable) { _ = try await store.enrolled(TestAgent()) }
    await assertThrows(.unavailable) {
      let agent = try TestAgent()
      _ = try await store.ingest(try agent.submission(agent.rows("{}\n")))
    }
    let health = await store.health()
    XCTAssertNotEqual(health, .healthy)
  }
}
