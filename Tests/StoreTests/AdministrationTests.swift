import Foundation
import TestDatabase
import XCTest

@testable import Store

/// `microraptor db`: a store as a whole, in both implementations.
final class AdministrationTests: XCTestCase {
  private var directory = ""

  override func setUpWithError() throws { directory = try temporaryDirectory() }
  override func tearDown() { try? FileManager.default.removeItem(atPath: directory) }

  private func locations() throws -> [StoreLocation] {
    [.sqlite(directory), .postgresql(try PostgreSQLServer.shared().newDatabase())]
  }

  private func open(_ location: StoreLocation) async throws -> any Store {
    switch location {
    case .sqlite(let path): try await SQLiteStore.open(location: path)
    case .postgresql(let url): try await PostgreSQLStore.open(url: url)
    }
  }

  func testStatusAndMigration() async throws {
    for location in try locations() {
      if case .sqlite = location {
        await assertThrows(.unavailable) { _ = try await StoreAdministration.status(location) }
      } else {
        let empty = try await StoreAdministration.status(location)
        XCTAssertEqual(empty.schema, 0)
        XCTAssertTrue(empty.needsMigration)
      }
      try await StoreAdministration.migrate(location)
      let store = try await open(location)
      for number in 1...3 { _ = try await store.enrolled(TestAgent(number)) }
      let status = try await StoreAdministration.status(location)
      XCTAssertEqual(status.schema, status.knownSchema)
      XCTAssertFalse(status.needsMigration || status.isNewer)
      XCTAssertGreaterThan(status.bytes, 10_000)
      XCTAssertEqual(status.records.first { $0.name == "clients" }?.count, 3)
      XCTAssertFalse(status.place.contains("postgresql://"), "no password is shown")
      await store.close()
    }
  }

  func testANewerSchemaIsSaid() async throws {
    try await StoreAdministration.migrate(.sqlite(directory))
    let store = try await SQLiteStore.open(location: directory)
    try await store.write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('99-future')") }
    await store.close()
    let status = try await StoreAdministration.status(.sqlite(directory))
    XCTAssertTrue(status.isNewer)
    let directory = directory
    await assertThrows(.newerSchema) { try await StoreAdministration.migrate(.sqlite(directory)) }
  }

  func testABackupIsAWholeStoreAndIsMadeWhileOthersWrite() async throws {
    let store = try await SQLiteStore.open(location: directory)
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(try agent.submission(agent.rows("{\"n\":1}\n")))
    let target = directory + "/copy.db"
    let backup = try await StoreAdministration.backup(.sqlite(directory), to: target)
    XCTAssertGreaterThan(backup.bytes, 10_000)
    _ = try await store.ingest(try agent.submission(agent.rows("{\"n\":2}\n", start: 1)))
    let mode = try FileManager.default.attributesOfItem(atPath: target)[.posixPermissions] as? Int
    XCTAssertEqual(mode, 0o600)
    let copy = try await SQLiteStore.open(location: target)
    let rows = try await copy.json(agent.flowName)
    XCTAssertEqual(rows, ["{\"n\":1}"])
    await copy.close()
    let directory = directory
    await assertThrows(.invalid) { _ = try await StoreAdministration.backup(.sqlite(directory), to: target) }
    await store.close()
  }

  func testADumpCanBeRestored() async throws {
    let server = try PostgreSQLServer.shared()
    let url = try server.newDatabase()
    let store = try await PostgreSQLStore.open(url: url)
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(try agent.submission(agent.rows("{\"n\":1}\n")))
    await store.close()
    let target = directory + "/store.dump"
    do {
      let backup = try await StoreAdministration.backup(.postgresql(url), to: target)
      XCTAssertGreaterThan(backup.bytes, 1_000)
    } catch let error as StoreError where error.message.contains("not installed") {
      throw XCTSkip("pg_dump is not installed")
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    let restored = try server.newDatabase()
    process.arguments = ["pg_restore", "--no-owner", "--dbname", restored, target]
    try process.run()
    process.waitUntilExit()
    XCTAssertEqual(process.terminationStatus, 0)
    let copy = try await PostgreSQLStore.open(url: restored)
    let rows = try await copy.json(agent.flowName)
    XCTAssertEqual(rows, ["{\"n\":1}"])
    await copy.close()
  }

  func testVacuumGivesSpaceBack() async throws {
    for location in try locations() {
      let store = try await open(location)
      let agent = try await store.enrolled(TestAgent())
      let row = "{\"text\":\"" + String(repeating: "x", count: 100_000) + "\"}\n"
      for number in 0..<30 {
        _ = try await store.ingest(try agent.submission(agent.rows(row, start: UInt64(number))))
      }
      try await store.delete(agent.name, by: alice)
      let (before, after) = try await StoreAdministration.vacuum(location)
      if case .sqlite = location { XCTAssertLessThan(after, before / 4) }
      XCTAssertGreaterThan(after, 0)
      // The store that was open meanwhile goes on.
      _ = try await store.enrolled(agent)
      await store.close()
    }
  }
}
