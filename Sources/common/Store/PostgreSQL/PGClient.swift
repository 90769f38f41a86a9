import Foundation

/// Queries and transactions over a `PGLoop`, with their deadlines.
///
/// A request that meets a lost connection is tried again on another until its deadline. A commit whose answer was lost
/// is settled: each transaction that changes something inserts a token of its own, and the one who asks inserts the
/// same token as a fence. The unique index makes one of the two wait for the other, so the row that is there afterwards
/// tells for certain whether the transaction was committed, and that it never will be when it was not.
struct PGClient: Sendable {
  let loop: PGLoop
  let tuning: PostgreSQLTuning

  static let sqlToken = "INSERT INTO outcomes (token, at, fenced) VALUES ($1::bytea, $2::bigint, false)"
  static let sqlFence = """
    INSERT INTO outcomes (token, at, fenced) VALUES ($1::bytea, $2::bigint, true) ON CONFLICT (token) DO NOTHING
    """
  static let sqlOutcome = "SELECT fenced FROM outcomes WHERE token = $1::bytea"

  var deadline: ContinuousClock.Instant { .now.advanced(by: tuning.deadline) }

  func run(
    _ place: PGJob.Place, _ statements: [PGStatement], keeps: Bool, deadline: ContinuousClock.Instant
  ) async throws -> PGReply {
    let result = await withCheckedContinuation { continuation in
      loop.submit(
        PGJob(place: place, statements: statements, keeps: keeps, deadline: deadline) {
          continuation.resume(returning: $0)
        })
    }
    return try result.get()
  }

  /// Runs statements that change nothing (or nothing that matters when repeated), as one transaction.
  func query(
    _ statements: [PGStatement], role: PGRole = .read, deadline: ContinuousClock.Instant? = nil
  ) async throws -> [PGResult] {
    let deadline = deadline ?? self.deadline
    while true {
      do {
        return try await run(.free(role), statements, keeps: false, deadline: deadline).results
      } catch let failure as PGFailure where failure.isRetriable && ContinuousClock.now < deadline {
        continue
      } catch let failure as PGFailure {
        throw failure.storeError
      }
    }
  }

  /// Runs `body` in a transaction and returns after the commit. It may run more than once.
  /// - Throws: what `body` throws, after a rollback; `StoreError`.
  func transact<Value: Sendable>(
    role: PGRole = .change, deadline: ContinuousClock.Instant? = nil,
    _ body: @Sendable (inout PGTransaction) async throws -> Value
  ) async throws -> Value {
    do {
      return try await attempts(role, deadline ?? self.deadline, body)
    } catch let failure as PGFailure {
      throw failure.storeError
    }
  }

  /// As `transact`, with the failures of the connection as they are.
  func attempts<Value: Sendable>(
    _ role: PGRole, _ deadline: ContinuousClock.Instant,
    _ body: @Sendable (inout PGTransaction) async throws -> Value
  ) async throws -> Value {
    while true {
      var transaction = PGTransaction(client: self, role: role, deadline: deadline)
      let value: Value
      do {
        value = try await body(&transaction)
        guard transaction.hasChanged else {
          transaction.abandon()
          return value
        }
      } catch let failure as PGFailure where failure.isRetriable && ContinuousClock.now < deadline {
        transaction.abandon()
        continue
      } catch {
        transaction.abandon()
        throw error
      }
      if try await commit(&transaction) { return value }
    }
  }

  /// - Returns: false when the transaction was certainly not committed and may be run again.
  private func commit(_ transaction: inout PGTransaction) async throws -> Bool {
    let token = Data((0..<16).map { _ in UInt8.random(in: .min ... .max) })
    do {
      try await transaction.commit(token)
      return true
    } catch let failure as PGFailure {
      guard failure.isRetriable, ContinuousClock.now < transaction.deadline else { throw failure }
      guard case .lost = failure else { return false }
      return try await settle(token, transaction.role, transaction.deadline)
    }
  }

  /// Whether the transaction with this token was committed.
  private func settle(_ token: Data, _ role: PGRole, _ deadline: ContinuousClock.Instant) async throws -> Bool {
    let now = Timestamp.now()
    while true {
      do {
        let reply = try await run(
          .free(role),
          [
            PGStatement("BEGIN"), PGStatement(Self.sqlFence, [.bytes(token), .time(now)]), PGStatement("COMMIT"),
            PGStatement(Self.sqlOutcome, [.bytes(token)]),
          ], keeps: false, deadline: deadline)
        if let row = reply.results.last?.first { return !row.bool(0) }
        throw PGFailure.unreachable(StoreError(.internalError, "the outcome of a commit cannot be found"))
      } catch let failure as PGFailure {
        guard ContinuousClock.now < deadline else {
          throw PGFailure.unreachable(
            StoreError(.unavailable, "PostgreSQL was lost during a commit; whether it took place is not known yet"))
        }
        switch failure {
        case .lost: continue
        // The old transaction still waits for its own end.
        case .refused("55P03", _), .refused("57014", _): continue
        case .refused, .unreachable: throw failure
        }
      }
    }
  }
}

/// A transaction in progress, used by one task. Writes are collected and sent with the next read or the commit.
struct PGTransaction: Sendable {
  let client: PGClient
  let role: PGRole
  let deadline: ContinuousClock.Instant
  private(set) var hasChanged = false
  /// For tests of lost commits: the server ends the connection after the commit and before its answer.
  var endsConnectionAfterCommit = false
  private var session: PGSession?
  private var pending: [PGStatement] = []

  init(client: PGClient, role: PGRole, deadline: ContinuousClock.Instant) {
    self.client = client
    self.role = role
    self.deadline = deadline
  }

  /// Adds a statement whose answer is not needed.
  mutating func write(_ sql: String, _ values: [PGValue] = []) {
    write([PGStatement(sql, values)])
  }

  mutating func write(_ statements: [PGStatement]) {
    guard !statements.isEmpty else { return }
    hasChanged = true
    pending += statements
  }

  /// Sends what was collected and these, in one round trip.
  /// - Returns: the answers to these.
  mutating func read(_ statements: [PGStatement]) async throws -> [PGResult] {
    let all = opening + pending + statements
    pending = []
    let place = session.map(PGJob.Place.kept) ?? .free(role)
    session = nil
    let reply = try await client.run(place, all, keeps: true, deadline: deadline)
    session = reply.session
    return Array(reply.results.suffix(statements.count))
  }

  mutating func read(_ sql: String, _ values: [PGValue] = []) async throws -> PGResult {
    guard let result = try await read([PGStatement(sql, values)]).first else {
      throw PGFailure.lost("an answer is missing")
    }
    return result
  }

  /// As `read`, for statements that change something.
  mutating func change(_ statements: [PGStatement]) async throws -> [PGResult] {
    hasChanged = true
    return try await read(statements)
  }

  mutating func change(_ sql: String, _ values: [PGValue] = []) async throws -> PGResult {
    hasChanged = true
    return try await read(sql, values)
  }

  private var opening: [PGStatement] { session == nil ? [PGStatement("BEGIN")] : [] }

  fileprivate mutating func commit(_ token: Data) async throws {
    let last = [
      PGStatement(PGClient.sqlToken, [.bytes(token), .time(.now())]), PGStatement("COMMIT"),
    ]
    let end = endsConnectionAfterCommit ? [PGStatement("SELECT pg_terminate_backend(pg_backend_pid())")] : []
    let all = opening + pending + last + end
    let place = session.map(PGJob.Place.kept) ?? .free(role)
    session = nil
    let reply = try await client.run(place, all, keeps: false, deadline: deadline)
    guard reply.results.last?.tag == "COMMIT" else {
      throw PGFailure.refused(state: "25P02", message: "the transaction was rolled back")
    }
  }

  /// Ends it without a commit.
  fileprivate mutating func abandon() {
    if let session { client.loop.giveBack(session) }
    session = nil
  }
}
