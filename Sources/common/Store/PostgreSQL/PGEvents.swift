import PublicIdentity
import Synchronization

/// Hands the changes that any process announced to this process's subscribers.
///
/// A change is a row of `changes` and a notification, both of the announcing transaction. Notifications arrive in
/// milliseconds; after a reconnect the rows tell what was missed. The horizon is a transaction number: all changes of
/// older transactions were heard, so those from it on are looked at again (an event may repeat).
final class PGEvents: Sendable {
  private struct State {
    var subscribers: [Int: AsyncStream<StoreEvent>.Continuation] = [:]
    var next = 0
    var horizon: Int64?
    var isWanted = false
  }

  static let channel = "microraptor_changes"
  static let sqlHorizon = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
  /// A horizon above all transactions is another cluster's: then every change kept is news.
  static let sqlMissed = """
    SELECT kind, org, client FROM changes
    WHERE xid >= CASE WHEN $1::bigint > pg_snapshot_xmax(pg_current_snapshot())::text::bigint THEN 0 ELSE $1::bigint END
    ORDER BY seq
    """
  static let sqlAnnounce = """
    INSERT INTO changes (kind, org, client, at, xid)
    SELECT k.kind, k.org, k.client, $4::bigint, pg_current_xact_id()::text::bigint
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS k(kind, org, client)
    """
  static let sqlNotify = "SELECT pg_notify('\(channel)', payload) FROM unnest($1::text[]) AS payload"

  private let state = Mutex(State())

  /// Whether a LISTEN connection is to be kept.
  var isWanted: Bool { state.withLock { $0.isWanted } }

  func want() {
    state.withLock { $0.isWanted = true }
  }

  /// The statements that begin to listen, on the loop's thread.
  func setup() -> [PGStatement] {
    let horizon = state.withLock { $0.horizon }
    let missed = horizon.map { [PGStatement(Self.sqlMissed, [.int($0)])] } ?? []
    return [PGStatement("LISTEN \(Self.channel)"), PGStatement(Self.sqlHorizon)] + missed
  }

  /// The answers to `setup`, which are the last of the connection's.
  func connected(_ results: [PGResult]) {
    let isAgain = state.withLock { $0.horizon != nil }
    let own = results.suffix(isAgain ? 2 : 1)
    for row in isAgain ? results.last?.rows ?? [] : [] {
      deliver(kind: row.int(0), org: row.text(1), client: row.text(2))
    }
    if let row = own.first?.first { move(to: row.int(0)) }
  }

  /// A ping was answered: everything older was delivered before it.
  func move(to horizon: Int64) {
    state.withLock { $0.horizon = horizon }
  }

  func notified(_ payload: String) {
    let parts = payload.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, let kind = Int64(parts[0]) else { return }
    deliver(kind: kind, org: String(parts[2]), client: String(parts[1]))
  }

  private func deliver(kind: Int64, org: String, client: String) {
    guard let event = StoreEvent(kind: kind, org: org, client: client) else { return }
    for subscriber in state.withLock({ Array($0.subscribers.values) }) { subscriber.yield(event) }
  }

  func subscribe() -> AsyncStream<StoreEvent> {
    let (stream, continuation) = AsyncStream.makeStream(of: StoreEvent.self)
    let number = state.withLock { state in
      state.next += 1
      state.subscribers[state.next] = continuation
      return state.next
    }
    continuation.onTermination = { [weak self] _ in
      _ = self?.state.withLock { $0.subscribers.removeValue(forKey: number) }
    }
    return stream
  }

  func finish() {
    let subscribers = state.withLock { state in
      defer { state.subscribers = [:] }
      return Array(state.subscribers.values)
    }
    for subscriber in subscribers { subscriber.finish() }
  }

  /// The statements that announce events inside a transaction.
  static func announcing(_ events: [StoreEvent], at: Timestamp) -> [PGStatement] {
    guard !events.isEmpty else { return [] }
    let stored = events.map(\.stored)
    let payloads = stored.map { "\($0.kind) \($0.client) \($0.org)" }
    return [
      PGStatement(
        sqlAnnounce,
        [
          .ints(stored.map(\.kind)), .texts(stored.map(\.org)), .texts(stored.map(\.client)), .time(at),
        ]),
      PGStatement(sqlNotify, [.texts(payloads)]),
    ]
  }
}
