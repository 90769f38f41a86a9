import Dispatch
import GRDB

/// Collects the writes of one process and commits all that wait as one transaction: while one group is being synced to
/// the disk, the next fills. A write that fails leaves the others: the group is then run again with a savepoint for
/// each. So a write may be run twice and must not do anything but write.
actor GroupCommitter {
  typealias Work = @Sendable (Database) throws -> any Sendable

  private struct Waiting: Sendable {
    var work: Work
    var continuation: CheckedContinuation<any Sendable, any Error>
  }

  private let writer: GroupWriter
  private let options: StoreOptions
  private var waiting = GroupQueue<Waiting>()
  private var isRunning = false
  private var isClosed = false
  private var closers: [CheckedContinuation<Void, Never>] = []
  /// The error of the last commit; nil when it succeeded.
  private(set) var lastFailure: StoreError?

  init(pool: DatabasePool, lock: FairLock, options: StoreOptions) {
    writer = GroupWriter(pool: pool, lock: lock, timeout: options.busyTimeout)
    self.options = options
  }

  /// Runs `work` inside the next group and returns after its commit.
  /// - Parameter bytes: the size of what is written, for the limits.
  func submit<Value: Sendable>(
    bytes: Int, _ work: @escaping @Sendable (Database) throws -> Value
  ) async throws -> Value {
    guard !isClosed else { throw StoreError(.unavailable, "the store is closed") }
    guard !waiting.isFull(options) else {
      throw StoreError(.busy, "\(waiting.count) writes wait for the disk; it is too slow or full")
    }
    let value = try await withCheckedThrowingContinuation { continuation in
      waiting.append(Waiting(work: { try work($0) }, continuation: continuation), bytes: bytes)
      if !isRunning {
        isRunning = true
        Task { await drain() }
      }
    }
    guard let typed = value as? Value else { throw StoreError(.internalError, "a write returned another type") }
    return typed
  }

  /// Takes no more writes and waits for those accepted.
  func close() async {
    isClosed = true
    guard isRunning else { return }
    await withCheckedContinuation { closers.append($0) }
  }

  private func drain() async {
    while !waiting.isEmpty {
      let group = waiting.takeGroup(options)
      let results = await writer.commit(group.map(\.work))
      lastFailure = results.failure
      for (item, result) in zip(group, results.values) { item.continuation.resume(with: result) }
    }
    isRunning = false
    for closer in closers { closer.resume() }
    closers = []
  }
}

/// Runs groups on a thread of its own, so that waiting for the lock and the disk never holds a thread of the
/// concurrency pool.
private final class GroupWriter: Sendable {
  private let pool: DatabasePool
  private let lock: FairLock
  private let timeout: Duration
  private let queue = DispatchQueue(label: "microraptor.store.writer", qos: .userInitiated)

  struct Results: Sendable {
    var values: [Result<any Sendable, any Error>]
    /// Why the whole group failed.
    var failure: StoreError?
  }

  init(pool: DatabasePool, lock: FairLock, timeout: Duration) {
    self.pool = pool
    self.lock = lock
    self.timeout = timeout
  }

  func commit(_ group: [GroupCommitter.Work]) async -> Results {
    await withCheckedContinuation { continuation in
      queue.async { continuation.resume(returning: self.commitNow(group)) }
    }
  }

  private func commitNow(_ group: [GroupCommitter.Work]) -> Results {
    do {
      let values = try lock.withTurn(timeout: timeout) {
        try pool.writeWithoutTransaction { db in
          // Failures are rare and savepoints cost as much as a small write: first all without.
          if let values = try Self.allAtOnce(group, db) { return values }
          return try Self.oneByOne(group, db)
        }
      }
      return Results(values: values, failure: nil)
    } catch {
      let failure = StoreError.from(error, path: pool.path)
      return Results(values: group.map { _ in .failure(failure) }, failure: failure)
    }
  }

  /// - Returns: nil when a write failed by itself; then nothing was committed.
  private static func allAtOnce(
    _ group: [GroupCommitter.Work], _ db: Database
  ) throws -> [Result<any Sendable, any Error>]? {
    var values: [Result<any Sendable, any Error>] = []
    values.reserveCapacity(group.count)
    try db.inTransaction(.immediate) {
      for work in group {
        do {
          values.append(.success(try work(db)))
        } catch {
          try endsGroup(error, db)
          values = []
          return .rollback
        }
      }
      return .commit
    }
    return values.count == group.count ? values : nil
  }

  private static func oneByOne(
    _ group: [GroupCommitter.Work], _ db: Database
  ) throws -> [Result<any Sendable, any Error>] {
    var values: [Result<any Sendable, any Error>] = []
    try db.inTransaction(.immediate) {
      for work in group { values.append(try savepoint(work, db)) }
      return .commit
    }
    return values
  }

  private static func savepoint(_ work: GroupCommitter.Work, _ db: Database) throws -> Result<any Sendable, any Error> {
    try db.run("SAVEPOINT item")
    do {
      let value = try work(db)
      try db.run("RELEASE SAVEPOINT item")
      return .success(value)
    } catch {
      try endsGroup(error, db)
      try db.run("ROLLBACK TO SAVEPOINT item")
      try db.run("RELEASE SAVEPOINT item")
      return .failure(StoreError.from(error, path: db.configuration.label ?? "the store"))
    }
  }

  /// - Throws: what ends the whole transaction (disk full, input or output), and not only one write.
  private static func endsGroup(_ error: any Error, _ db: Database) throws {
    let failure = StoreError.from(error, path: db.configuration.label ?? "the store")
    if !db.isInsideTransaction || failure.isTransient { throw failure }
  }
}
