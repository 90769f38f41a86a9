import Foundation
import GRDB
import PublicIdentity
import Wire
import XCTest

@testable import Store

/// What only the SQLite form promises: durability settings, several openers of one file, plans, clear errors.
final class SQLiteStoreTests: XCTestCase {
  private var directory = ""

  override func setUpWithError() throws {
    directory = try temporaryDirectory()
  }

  override func tearDownWithError() throws {
    try? FileManager.default.removeItem(atPath: directory)
  }

  private func open(_ options: StoreOptions = StoreOptions()) async throws -> SQLiteStore {
    try await SQLiteStore.open(location: directory, options: options)
  }

  private func mode(_ path: String) throws -> Int {
    try XCTUnwrap(FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
  }

  func testCommitsAreSynchronous() async throws {
    let store = try await open()
    let (synchronous, journal) = try await store.write { db in
      (try Int64.fetchOne(db, sql: "PRAGMA synchronous"), try String.fetchOne(db, sql: "PRAGMA journal_mode"))
    }
    XCTAssertEqual(synchronous, 2)
    XCTAssertEqual(journal, "wal")
    await store.close()
  }

  func testFilesAreForTheOwnerOnly() async throws {
    let location = directory + "/new/deeper"
    let store = try await SQLiteStore.open(location: location)
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(try agent.submission(agent.piece("x", offset: 0)))
    for file in ["microraptor.db", "microraptor.db-wal", "microraptor.db-turn"] {
      XCTAssertEqual(try mode(location + "/" + file), 0o600, file)
    }
    XCTAssertEqual(try mode(location), 0o700)
    XCTAssertEqual(try mode(location + "/uploads"), 0o700)
    await store.close()
  }

  func testLocationsNameADirectoryOrAFile() {
    XCTAssertEqual(SQLiteStore.databasePath(directory), directory + "/microraptor.db")
    XCTAssertEqual(SQLiteStore.databasePath(directory + "/a.db"), directory + "/a.db")
    XCTAssertEqual(SQLiteStore.databasePath(directory + "/a"), directory + "/a/microraptor.db")
  }

  func testStateSurvivesReopening() async throws {
    var store = try await open()
    let agent = try await store.enrolled(TestAgent())
    try await store.queue([agent.flowTask()], by: alice)
    let body = try agent.submission(agent.rows("{\"a\":1}\n"))
    _ = try await store.ingest(body)
    await store.close()
    store = try await open()
    let again = try await store.ingest(body)
    XCTAssertEqual(again.duplicateLists, 1)
    let rows = try await store.json(agent.flowName)
    XCTAssertEqual(rows, ["{\"a\":1}"])
    await store.close()
  }

  func testANewerSchemaIsRefused() async throws {
    let store = try await open()
    try await store.write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('99-future')") }
    await store.close()
    await assertThrows(.newerSchema) { _ = try await self.open() }
  }

  func testADamagedFileIsSaid() async throws {
    try Data(repeating: 7, count: 8_192).write(to: URL(fileURLWithPath: directory + "/microraptor.db"))
    await assertThrows(.corrupt) { _ = try await self.open() }
  }

  func testAClosedStoreSaysSo() async throws {
    let store = try await open()
    await store.close()
    await assertThrows(.unavailable) { _ = try await store.enrolled(TestAgent()) }
    let health = await store.health()
    XCTAssertNotEqual(health, .healthy)
  }

  func testTwoOpenersShareAFile() async throws {
    var options = StoreOptions()
    // The bell alone must do: the timer would come too late.
    options.lostRingInterval = .seconds(3_600)
    let (first, second) = (try await open(options), try await open(options))
    let agent = try await first.enrolled(TestAgent())
    let key = try await second.publicKey(of: agent.name)
    XCTAssertNotNil(key)
    let events = try await first.events()
    try await second.queue([agent.flowTask()], by: alice)
    for await event in events where event == .tasksQueued(agent.name) { break }
    let lease = try await first.leaseTasks(for: agent.name, now: .now())
    XCTAssertEqual(lease?.taskIDs.count, 1)
    // Both at full load: each row arrives once.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (number, store) in [first, second].enumerated() {
        for worker in 0..<4 {
          let sender = try await store.enrolled(TestAgent(10 + number * 10 + worker))
          group.addTask {
            for part in 0..<25 {
              let job = sender.rows("{\"n\":\(part)}\n", start: UInt64(part), part: UInt64(part))
              _ = try await store.ingest(try sender.submission(job))
            }
          }
        }
      }
      try await group.waitForAll()
    }
    for number in [10, 13, 20, 23] {
      let rows = try await first.json(try TestAgent(number).flowName)
      XCTAssertEqual(rows.count, 25)
    }
    await first.close()
    await second.close()
  }

  func testManyMayCreateTheFileAtOnce() async throws {
    let location = directory + "/fresh"
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<6 {
        group.addTask {
          let store = try await SQLiteStore.open(location: location)
          _ = try await store.enrolled(TestAgent(number))
          await store.close()
        }
      }
      try await group.waitForAll()
    }
    let store = try await SQLiteStore.open(location: location)
    let clients = try await store.clients(ClientFilter())
    XCTAssertEqual(clients.count, 6)
    await store.close()
  }

  func testAFullDiskIsSaidAndRecoveryNeedsNoRestart() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    let body = try agent.submission(agent.rows("{\"a\":\"\(String(repeating: "x", count: 1 << 20))\"}\n"))
    let limit: @Sendable (Database, Int64) throws -> Void = { db, pages in
      try db.execute(sql: "PRAGMA max_page_count = \(pages)")
    }
    try await store.pool.writeWithoutTransaction { try limit($0, 1) }
    await assertThrows(.full) { _ = try await store.ingest(body) }
    try await store.pool.writeWithoutTransaction { try limit($0, 1 << 30) }
    let health = await store.health()
    XCTAssertEqual(health, .healthy)
    let again = try await store.ingest(body)
    XCTAssertEqual(again.duplicateLists, 0, "what failed was not remembered")
    XCTAssertEqual(again.rows, 1)
    await store.close()
  }

  func testALostRingIsMadeUpForByTheTimer() async throws {
    var options = StoreOptions()
    options.lostRingInterval = .milliseconds(5)
    let store = try await open(options)
    let agent = try await store.enrolled(TestAgent())
    let events = try await store.events()
    try await store.write { try $0.announce(.tasksQueued(agent.name), at: .now()) }
    for await event in events {
      XCTAssertEqual(event, .tasksQueued(agent.name))
      break
    }
    await store.close()
  }

  func testAHangingHolderOfTheTurnIsBusyNotForEver() async throws {
    var options = StoreOptions()
    options.busyTimeout = .milliseconds(50)
    let store = try await open(options)
    let agent = try await store.enrolled(TestAgent())
    let holder = try FairLock(besides: store.pool.path)
    let (held, done) = (AsyncStream.makeStream(of: Void.self), DispatchSemaphore(value: 0))
    let finished = expectation(description: "the lock was given back")
    DispatchQueue.global().async {
      try? holder.withTurn(timeout: .seconds(5)) {
        held.continuation.finish()
        done.wait()
      }
      finished.fulfill()
    }
    for await _ in held.stream {}
    await assertThrows(.busy) { _ = try await store.ingest(try agent.submission(agent.rows("{}\n"))) }
    let bad = await store.health()
    XCTAssertEqual(bad, .unhealthy(StoreError(.busy, "")))
    done.signal()
    await fulfillment(of: [finished], timeout: 10)
    let good = await store.health()
    XCTAssertEqual(good, .healthy)
    await store.close()
  }

  func testOneFailingWriteLeavesTheOthersOfItsGroup() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    async let bad: Void = store.write { db in
      try db.execute(sql: "INSERT INTO labels (client, label) VALUES (1, 'half')")
      throw StoreError(.invalid, "on purpose")
    }
    async let good = store.ingest(try agent.submission(agent.rows("{}\n")))
    let result = try await good
    XCTAssertEqual(result.rows, 1)
    do {
      try await bad
      XCTFail("the failing write did not throw")
    } catch {
      XCTAssertEqual((error as? StoreError)?.code, .invalid)
    }
    let labels = try await store.read { try $0.number("SELECT count(*) FROM labels") }
    XCTAssertEqual(labels, 0)
    await store.close()
  }

  func testTooManyWaitingIsBusy() async throws {
    var options = StoreOptions()
    options.maximumWaitingBytes = 100
    let store = try await open(options)
    let agent = try await store.enrolled(TestAgent())
    let body = try agent.submission(agent.rows("{\"a\":\"\(String(repeating: "x", count: 1_000))\"}\n"))
    let codes = await withTaskGroup(of: StoreError.Code?.self) { group in
      for _ in 0..<50 {
        group.addTask {
          do {
            _ = try await store.ingest(body)
            return nil
          } catch {
            return (error as? StoreError)?.code
          }
        }
      }
      return await group.reduce(into: Set<StoreError.Code?>()) { $0.insert($1) }
    }
    XCTAssertTrue(codes.isSubset(of: [nil, .busy]))
    XCTAssertTrue(codes.contains(.busy))
    await store.close()
  }

  func testADeletionCutShortIsCompletedByMaintenance() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(try agent.submission(agent.rows("{}\n"), agent.piece("x", offset: 0)))
    let path = directory + "/uploads/root/" + agent.name.id.rawValue
    XCTAssertTrue(FileManager.default.fileExists(atPath: path))
    // As a process leaves it that is killed right after the first step of `delete`.
    try await store.write { db in
      try db.execute(sql: "INSERT INTO doomed SELECT id, org, client, 'uploads/.deleted/' || id FROM clients")
      try db.execute(sql: "DELETE FROM clients")
    }
    var report = try await store.maintain(now: .now())
    while report.hasMore { report = try await store.maintain(now: .now()) }
    XCTAssertFalse(FileManager.default.fileExists(atPath: path))
    for table in ["flows", "row_chunks", "result_sets", "uploads", "seen_lists", "monitoring_chunks", "doomed"] {
      let count = try await store.read { try $0.number("SELECT count(*) FROM \(table)") }
      XCTAssertEqual(count, 0, table)
    }
    await store.close()
  }

  func testOldDigestsAndChangesAreForgotten() async throws {
    let store = try await open()
    let agent = try await store.enrolled(TestAgent(), at: Timestamp(seconds: 1_000))
    _ = try await store.ingest(try agent.submission(agent.rows("{}\n"), at: Timestamp(seconds: 1_000)))
    let report = try await store.maintain(now: Timestamp(seconds: 1_000 + 8 * 86_400))
    XCTAssertEqual(report.forgottenDigests, 1)
    XCTAssertEqual(report.trimmedEvents, 1)
    await store.close()
  }
}
