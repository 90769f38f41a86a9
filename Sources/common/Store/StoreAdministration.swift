import Dispatch

/// Where a store lies.
package enum StoreLocation: Sendable, Equatable {
  /// `Datastore.location` of the SQLite implementation.
  case sqlite(String)
  /// A `postgresql://` URL; may hold a password.
  case postgresql(String)
}

/// What `StoreAdministration.status` found, without changing anything.
package struct StoreStatus: Sendable, Equatable {
  /// `SQLite` or `PostgreSQL` with its version.
  package var implementation: String
  /// The file, or the database's name and host; no password.
  package var place: String
  /// Steps of the schema that the database has, and those that this program knows.
  package var schema: Int
  package var knownSchema: Int
  /// Bytes of the database, and those of them that hold nothing.
  package var bytes: Int64
  package var freeBytes: Int64
  /// Bytes of uploaded files beside the database; 0 where they lie in it.
  package var uploadBytes: Int64
  /// Records of some tables; large ones are estimated.
  package var records: [(name: String, count: Int64)]

  /// Written by newer software: nothing can be done with it but upgrade this program.
  package var isNewer: Bool { schema > knownSchema }
  package var needsMigration: Bool { schema < knownSchema }

  package static func == (left: StoreStatus, right: StoreStatus) -> Bool {
    left.implementation == right.implementation && left.place == right.place && left.schema == right.schema
      && left.bytes == right.bytes && left.freeBytes == right.freeBytes && left.uploadBytes == right.uploadBytes
      && left.records.map(\.name) == right.records.map(\.name)
      && left.records.map(\.count) == right.records.map(\.count)
  }
}

/// What a backup wrote.
package struct StoreBackup: Sendable, Equatable {
  package var path: String
  package var bytes: Int64
  /// What has to be copied besides, as a command; nil for nothing.
  package var remainder: String?
}

/// Work on a store as a whole that an administrator asks for. All errors are `StoreError`. The calls block threads of
/// their own only.
package enum StoreAdministration {
  package static func status(_ location: StoreLocation) async throws -> StoreStatus {
    switch location {
    case .sqlite(let path): try await detached { try SQLiteAdministration.status(path) }
    case .postgresql(let url): try await detached { try PGAdministration(url: url).status() }
    }
  }

  /// Brings the schema up to date, as every start of a frontend does.
  package static func migrate(_ location: StoreLocation) async throws {
    switch location {
    case .sqlite(let path): try await SQLiteStore.open(location: path).close()
    case .postgresql(let url): try await PostgreSQLStore.open(url: url).close()
    }
  }

  /// Gives pages that hold nothing back to the system.
  /// - Returns: bytes of the database before and after.
  package static func vacuum(_ location: StoreLocation) async throws -> (before: Int64, after: Int64) {
    switch location {
    case .sqlite(let path): try await detached { try SQLiteAdministration.vacuum(path) }
    case .postgresql(let url): try await detached { try PGAdministration(url: url).vacuum() }
    }
  }

  /// Writes a consistent copy while the deployment runs.
  /// - Parameter target: a file that does not exist yet; it gets mode 0600.
  package static func backup(_ location: StoreLocation, to target: String) async throws -> StoreBackup {
    switch location {
    case .sqlite(let path): try await detached { try SQLiteAdministration.backup(path, to: target) }
    case .postgresql(let url): try await detached { try PGAdministration(url: url).backup(to: target) }
    }
  }
}

/// Runs blocking work on a thread outside of the concurrency pool.
private func detached<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global().async { continuation.resume(with: Result { try body() }) }
  }
}
