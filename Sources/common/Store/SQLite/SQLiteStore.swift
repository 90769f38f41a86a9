import Dispatch
import Foundation
import GRDB
import PublicIdentity

/// The store in one SQLite file (GRDB, WAL, `synchronous=FULL`), shared by several processes of one machine.
///
/// Writes of this process are committed in groups (`GroupCommitter`), processes take turns (`FairLock`), and changes
/// of other processes are found by `ChangePoller`, which a `ChangeBell` wakes. Uploaded files lie in a directory beside
/// the database.
package final class SQLiteStore: Store {
  let pool: DatabasePool
  let committer: GroupCommitter
  let poller: ChangePoller
  let uploadFiles: UploadFiles
  let options: StoreOptions
  let processor: JobProcessor

  /// Opens or creates the database and brings its schema up to date.
  /// - Parameters:
  ///   - location: a directory (existing, or a path without the ending `.db` or `.sqlite`), which then holds
  ///     `microraptor.db`; or the path of the database file. Created with mode 0700 and 0600 when missing.
  /// - Throws: `StoreError`, `.newerSchema` when newer software wrote the file.
  package static func open(location: String, options: StoreOptions = StoreOptions()) async throws -> SQLiteStore {
    let path = databasePath(location)
    return try await withCheckedThrowingContinuation { continuation in
      // Migrations and their lock may take long; not on a thread of the concurrency pool.
      DispatchQueue.global().async {
        continuation.resume(with: Result { try SQLiteStore(path: path, options: options) })
      }
    }
  }

  /// The database file for a `Datastore.location`.
  package static func databasePath(_ location: String) -> String {
    var isDirectory: ObjCBool = false
    let exists = FileManager.default.fileExists(atPath: location, isDirectory: &isDirectory)
    let namesFile = location.hasSuffix(".db") || location.hasSuffix(".sqlite")
    let isFile = exists ? !isDirectory.boolValue : namesFile
    return isFile ? location : (location as NSString).appendingPathComponent("microraptor.db")
  }

  private init(path: String, options: StoreOptions) throws {
    let directory = (path as NSString).deletingLastPathComponent
    do {
      try Self.prepareFiles(path, in: directory)
      let lock = try FairLock(besides: path)
      // Another process may be creating the same file at this moment.
      let pool = try lock.withTurn(timeout: max(options.busyTimeout, .seconds(60))) {
        let pool = try DatabasePool(path: path, configuration: Self.configuration(path, options))
        try Self.migrate(pool)
        try Self.makeDurable(pool)
        return pool
      }
      self.pool = pool
      poller = ChangePoller(path: path, bell: try ChangeBell(besides: path), options: options)
      committer = GroupCommitter(pool: pool, lock: lock, options: options)
    } catch {
      throw StoreError.from(error, path: path)
    }
    uploadFiles = UploadFiles(directory: directory)
    self.options = options
    processor = JobProcessor(limits: options.jobs, names: options.names)
  }

  /// The database holds what was found on clients: nobody else may read it. WAL and shared memory get its mode.
  private static func prepareFiles(_ path: String, in directory: String) throws {
    if !directory.isEmpty {
      try? FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }
    let descriptor = Foundation.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw StoreError.errno(errno, "cannot open or create \(path)") }
    Foundation.close(descriptor)
  }

  private static func configuration(_ path: String, _ options: StoreOptions) -> Configuration {
    var configuration = Configuration()
    configuration.label = path
    configuration.foreignKeysEnabled = false
    configuration.maximumReaderCount = 6
    let seconds = Double(options.busyTimeout.wholeMicroseconds) / 1_000_000
    configuration.busyMode = .timeout(seconds)
    configuration.prepareDatabase { db in
      try db.execute(sql: "PRAGMA cache_size = -32000")
      try db.execute(sql: "PRAGMA temp_store = MEMORY")
    }
    return configuration
  }

  private static func migrate(_ pool: DatabasePool) throws {
    let migrator = Schema.migrator()
    if try pool.read(migrator.hasBeenSuperseded) {
      throw StoreError(
        .newerSchema, "\(pool.path) was written by a newer version of this software; upgrade this program")
    }
    try migrator.migrate(pool)
  }

  /// GRDB sets `synchronous` to NORMAL when it opens a WAL database; what is acknowledged must survive a power cut.
  private static func makeDurable(_ pool: DatabasePool) throws {
    try pool.writeWithoutTransaction { db in
      try db.execute(sql: "PRAGMA synchronous = FULL")
      try db.execute(sql: "PRAGMA wal_autocheckpoint = 4000")
      try db.execute(sql: "PRAGMA journal_size_limit = 134217728")
      guard try Int64.fetchOne(db, sql: "PRAGMA synchronous") == 2 else {
        throw StoreError(.unavailable, "\(pool.path): SQLite refuses synchronous=FULL; use a local file system")
      }
      guard try String.fetchOne(db, sql: "PRAGMA journal_mode") == "wal" else {
        throw StoreError(.unavailable, "\(pool.path): SQLite refuses WAL; use a local file system")
      }
    }
  }

  // MARK: access

  /// Reads on one of the pool's connections.
  func read<Value: Sendable>(_ body: @escaping @Sendable (Database) throws -> Value) async throws -> Value {
    do {
      return try await pool.read(body)
    } catch {
      throw StoreError.from(error, path: pool.path)
    }
  }

  /// Writes within the next group; returns after its commit.
  func write<Value: Sendable>(
    bytes: Int = 256, _ body: @escaping @Sendable (Database) throws -> Value
  ) async throws -> Value {
    do {
      return try await committer.submit(bytes: bytes, body)
    } catch {
      throw StoreError.from(error, path: pool.path)
    }
  }

  package func events() async throws -> AsyncStream<StoreEvent> {
    do {
      return try await poller.events()
    } catch {
      throw StoreError.from(error, path: pool.path)
    }
  }

  /// Healthy means that a read works and that the last group was committed, or that a probe now can be.
  package func health() async -> StoreHealth {
    do {
      _ = try await read { try $0.number("SELECT 1") }
      guard await committer.lastFailure != nil else { return .healthy }
      try await write { try $0.run("INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', randomblob(16))") }
      return .healthy
    } catch {
      return .unhealthy(StoreError.from(error, path: pool.path))
    }
  }

  package func close() async {
    await poller.close()
    await committer.close()
    try? pool.close()
  }
}
