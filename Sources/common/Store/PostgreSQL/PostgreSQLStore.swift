import Foundation
import PublicIdentity

/// The store in a PostgreSQL database, shared by any number of machines.
///
/// One thread polls all sockets (`PGLoop`). Submissions are committed in groups (`PGGroupCommitter`). A transaction
/// that works on a client locks the client's row of `contacts`, and several clients in the order of their keys. Changes
/// of other processes are heard by LISTEN (`PGEvents`). Uploaded files lie in the database.
package final class PostgreSQLStore: Store {
  let client: PGClient
  let committer: PGGroupCommitter
  let listening: PGEvents
  let status: PGStatus
  let options: StoreOptions
  let processor: JobProcessor

  /// Connects and brings the schema up to date.
  /// - Parameters:
  ///   - url: as libpq takes it: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`, with several
  ///     hosts separated by commas for a fail-over cluster. It is never logged.
  ///   - tuning: sizes and times; the defaults serve.
  /// - Throws: `StoreError`: `.newerSchema` when newer software wrote the database, `.unavailable` when no server
  ///   answers within the deadline.
  package static func open(
    url: String, options: StoreOptions = StoreOptions(), tuning: PostgreSQLTuning = PostgreSQLTuning()
  ) async throws -> PostgreSQLStore {
    let store = try PostgreSQLStore(url: url, options: options, tuning: tuning)
    do {
      try await PGMigration.run(store.client)
      return store
    } catch {
      await store.close()
      throw error
    }
  }

  private init(url: String, options: StoreOptions, tuning: PostgreSQLTuning) throws {
    status = PGStatus()
    listening = PGEvents()
    let loop = try PGLoop(
      target: try PGTarget(url: url), tuning: tuning, options: options, status: status, events: listening)
    client = PGClient(loop: loop, tuning: tuning)
    committer = PGGroupCommitter(client: client, options: options)
    self.options = options
    processor = JobProcessor(limits: options.jobs, names: options.names)
  }

  deinit {
    client.loop.closeSoon()
  }

  // MARK: access

  /// The rows of one statement that only reads.
  func rows(_ sql: String, _ values: [PGValue] = []) async throws -> [PGRow] {
    try await client.query([PGStatement(sql, values)]).first?.rows ?? []
  }

  /// Runs `body` in a transaction that holds the client's lock.
  /// - Parameter body: gets the client's key; nil when it is unknown.
  func transact<Value: Sendable>(
    on name: ClientName, _ body: @escaping @Sendable (inout PGTransaction, Int64?) async throws -> Value
  ) async throws -> Value {
    try await client.transact { transaction in
      let key = try await transaction.lock(name)
      return try await body(&transaction, key)
    }
  }

  package func events() async throws -> AsyncStream<StoreEvent> {
    listening.want()
    let listening = listening
    let deadline = client.deadline
    while true {
      // Subscribed when the answer is read: what happened before was delivered to others by then.
      let result = await withCheckedContinuation { continuation in
        client.loop.submit(
          PGJob(
            place: .free(.listen), statements: [PGStatement(PGEvents.sqlHorizon)], keeps: false, deadline: deadline
          ) { result in
            continuation.resume(returning: result.map { _ in listening.subscribe() })
          })
      }
      switch result {
      case .success(let stream): return stream
      case .failure(let failure) where failure.isRetriable && ContinuousClock.now < deadline: continue
      case .failure(let failure): throw failure.storeError
      }
    }
  }

  /// Healthy means that a read works now and that the last group was committed, or that a change now can be.
  package func health() async -> StoreHealth {
    let deadline = ContinuousClock.now.advanced(by: min(client.tuning.deadline, .seconds(2)))
    do {
      _ = try await client.query([PGStatement("SELECT 1")], deadline: deadline)
      guard await committer.lastFailure != nil else { return .healthy }
      try await client.transact(deadline: deadline) { transaction in
        transaction.write("UPDATE clock SET base = base WHERE id = 1")
      }
      await committer.clearFailure()
      return .healthy
    } catch let error as StoreError {
      return .unhealthy(error)
    } catch {
      return .unhealthy(StoreError(.internalError, "\(error)"))
    }
  }

  package func close() async {
    await committer.close()
    listening.finish()
    await client.loop.close()
  }
}

extension PGTransaction {
  static let sqlLock = """
    SELECT c.id FROM clients c JOIN contacts t ON t.client = c.id WHERE c.org = $1::text AND c.client = $2::text
    FOR NO KEY UPDATE OF t
    """

  /// Locks one client until the end of the transaction, so that others who work on it wait.
  /// - Returns: its key; nil when it is unknown.
  mutating func lock(_ client: ClientName) async throws -> Int64? {
    try await read(Self.sqlLock, [.text(client.org), .text(client.id.rawValue)]).first?.int(0)
  }

  static let sqlAudit = """
    INSERT INTO audit (at, who, origin, action, org, client, detail)
    VALUES ($1::bigint, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text)
    """

  mutating func record(_ action: String, on client: ClientName?, detail: String, by: Operator, at: Timestamp) {
    write(
      Self.sqlAudit,
      [
        .time(at), .text(by.name.withoutNUL), .text(by.origin.withoutNUL), .text(action), .text(client?.org ?? ""),
        .text(client?.id.rawValue ?? ""), .text(detail.withoutNUL),
      ])
  }

  mutating func announce(_ events: [StoreEvent], at: Timestamp) {
    write(PGEvents.announcing(events, at: at))
  }
}

/// Brings the schema of a database up to date.
enum PGMigration {
  /// Indexes of large tables take their time, and so does another process that makes them.
  private static let patience: Duration = .seconds(600)

  static func run(_ client: PGClient) async throws {
    let deadline: ContinuousClock.Instant = .now.advanced(by: patience)
    // Without a server this ends soon; with one, the work may take long.
    _ = try await client.query([PGStatement("SELECT 1")], role: .change)
    try await client.transact(deadline: deadline) { transaction in
      transaction.write("SET LOCAL statement_timeout = 0")
      transaction.write("SET LOCAL lock_timeout = 0")
      transaction.write("SELECT pg_advisory_xact_lock($1::bigint)", [.int(PGSchema.lock)])
      transaction.write(PGSchema.versions)
      let present = try await transaction.read("SELECT coalesce(max(step), 0) FROM schema_steps").first?.int(0) ?? 0
      guard present <= PGSchema.steps.count else {
        throw StoreError(
          .newerSchema,
          "the database was written by a newer version of this software (step \(present)); upgrade this program")
      }
      for (index, step) in PGSchema.steps.enumerated() where index >= present {
        for statement in step { transaction.write(statement) }
        transaction.write(
          "INSERT INTO schema_steps (step, applied_at) VALUES ($1::bigint, $2::bigint)",
          [.int(Int64(index + 1)), .time(.now())])
      }
      transaction.write(PGMonitoring.sqlAlign)
    }
  }
}
