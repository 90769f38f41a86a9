import Foundation
import GRDB

/// `StoreAdministration` for a SQLite file. The file is not migrated, and only `vacuum` writes to it.
enum SQLiteAdministration {
  /// Large tables are counted by their keys, which have few gaps.
  private static let counts: [(name: String, sql: String)] = [
    ("clients", "SELECT count(*) FROM clients"),
    ("flows", "SELECT count(*) FROM flows"),
    ("open tasks", "SELECT count(*) FROM tasks WHERE state < 3"),
    ("uploads", "SELECT count(*) FROM uploads"),
    ("event messages", "SELECT coalesce(max(id) - min(id) + 1, 0) FROM monitoring_chunks"),
    ("remembered lists", "SELECT coalesce(max(id) - min(id) + 1, 0) FROM seen_lists"),
  ]

  static func status(_ location: String) throws -> StoreStatus {
    let (path, queue) = try open(location, readOnly: true)
    return try translating(path) {
      try queue.read { db in
        var status = StoreStatus(
          implementation: "SQLite \(try String.fetchOne(db, sql: "SELECT sqlite_version()") ?? "")", place: path,
          schema: 0, knownSchema: Schema.migrator().migrations.count, bytes: 0, freeBytes: 0, uploadBytes: 0,
          records: [])
        let size = try db.number("PRAGMA page_size") ?? 0
        status.bytes = try (db.number("PRAGMA page_count") ?? 0) * size
        status.freeBytes = try (db.number("PRAGMA freelist_count") ?? 0) * size
        guard try db.tableExists("grdb_migrations") else { return status }
        status.schema = Int(try db.number("SELECT count(*) FROM grdb_migrations") ?? 0)
        guard try db.tableExists("uploads") else { return status }
        status.uploadBytes = try db.number("SELECT coalesce(sum(stored_size), 0) FROM uploads") ?? 0
        status.records = try counts.map { ($0.name, try db.number($0.sql) ?? 0) }
        return status
      }
    }
  }

  static func vacuum(_ location: String) throws -> (before: Int64, after: Int64) {
    let (path, queue) = try open(location, readOnly: false)
    return try translating(path) {
      // Frontends wait their turn: the copy is made while nobody writes.
      try FairLock(besides: path).withTurn(timeout: .seconds(60)) {
        try queue.writeWithoutTransaction { db in
          let before = try (db.number("PRAGMA page_count") ?? 0) * (db.number("PRAGMA page_size") ?? 0)
          try db.execute(sql: "VACUUM")
          try db.execute(sql: "PRAGMA wal_checkpoint(TRUNCATE)")
          return (before, try (db.number("PRAGMA page_count") ?? 0) * (db.number("PRAGMA page_size") ?? 0))
        }
      }
    }
  }

  /// `VACUUM INTO`: a reader's snapshot, so that frontends go on writing meanwhile.
  static func backup(_ location: String, to target: String) throws -> StoreBackup {
    guard !FileManager.default.fileExists(atPath: target) else {
      throw StoreError(.invalid, "\(target) exists; give another file")
    }
    let (path, queue) = try open(location, readOnly: true)
    // Nobody else may read it, from the first byte on; SQLite takes an empty file as a new one.
    let descriptor = Foundation.open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw StoreError.errno(errno, "cannot create \(target)") }
    close(descriptor)
    do {
      try translating(path) {
        try queue.writeWithoutTransaction { try $0.execute(sql: "VACUUM INTO ?", arguments: [target]) }
      }
      try sync(target)
    } catch {
      unlink(target)
      throw error
    }
    let bytes = (try? FileManager.default.attributesOfItem(atPath: target)[.size] as? Int64) ?? 0
    let uploads = ((path as NSString).deletingLastPathComponent as NSString).appendingPathComponent("uploads")
    let hasUploads = FileManager.default.fileExists(atPath: uploads)
    return StoreBackup(path: target, bytes: bytes, remainder: hasUploads ? "cp -a \(uploads) DIRECTORY/" : nil)
  }

  private static func sync(_ path: String) throws {
    let descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw StoreError.errno(errno, "cannot open \(path)") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw StoreError.errno(errno, "cannot sync \(path)") }
  }

  private static func open(_ location: String, readOnly: Bool) throws -> (String, DatabaseQueue) {
    let path = SQLiteStore.databasePath(location)
    guard FileManager.default.fileExists(atPath: path) else {
      throw StoreError(.unavailable, "there is no database \(path) yet; a frontend's first start makes it")
    }
    return try translating(path) {
      var configuration = Configuration()
      configuration.readonly = readOnly
      configuration.busyMode = .timeout(10)
      return (path, try DatabaseQueue(path: path, configuration: configuration))
    }
  }

  private static func translating<Value>(_ path: String, _ body: () throws -> Value) throws -> Value {
    do { return try body() } catch { throw StoreError.from(error, path: path) }
  }
}
