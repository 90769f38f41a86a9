import Synchronization

/// What the connections of one loop share. Confined to the loop's thread, but for the status and the events.
final class PGEnvironment {
  let target: PGTarget
  let tuning: PostgreSQLTuning
  private let status: PGStatus
  private let events: PGEvents
  private let settings: PGStatement
  private var sessions = 0

  init(
    target: PGTarget, tuning: PostgreSQLTuning, options: StoreOptions, status: PGStatus, events: PGEvents
  ) {
    self.target = target
    self.tuning = tuning
    self.status = status
    self.events = events
    settings = Self.settings(tuning, options)
  }

  func nextSession() -> PGSession {
    sessions += 1
    return PGSession(number: sessions)
  }

  func report(_ error: StoreError) {
    status.failed(error)
  }

  func connected(_ role: PGRole, _ results: [PGResult]) {
    status.succeeded()
    if role == .listen { events.connected(results) }
  }

  func notified(_ payload: String) {
    events.notified(payload)
  }

  /// What a new connection is told before its first job.
  func setup(_ role: PGRole) -> [PGStatement] {
    [settings, Self.durable] + (role == .listen ? events.setup() : [])
  }

  /// What is acknowledged must survive a power cut, whatever the server's default is.
  private static let durable = PGStatement(
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")

  /// All hot statements are look-ups in an index. A plan made while a table was empty is kept by the connection when
  /// the table has grown, so scans and the joins that need them are not offered. A frozen caller must not hold a
  /// client's lock for long. Servers without one of the settings ignore it.
  private static func settings(_ tuning: PostgreSQLTuning, _ options: StoreOptions) -> PGStatement {
    let milliseconds = { (time: Duration) in String(max(1, time.wholeMicroseconds / 1_000)) }
    let wanted = [
      "statement_timeout": milliseconds(tuning.deadline), "lock_timeout": milliseconds(options.busyTimeout),
      "idle_in_transaction_session_timeout": "30000", "client_connection_check_interval": "5000",
      "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off",
      "plan_cache_mode": "force_generic_plan",
    ]
    return PGStatement(
      """
      SELECT set_config(s.name, k.value, false) FROM unnest($1::text[], $2::text[]) AS k(name, value)
      JOIN pg_settings AS s ON s.name = k.name
      """, [.texts(Array(wanted.keys)), .texts(Array(wanted.values))])
  }
}

/// Whether the last attempt to connect succeeded; read by any thread.
final class PGStatus: Sendable {
  private let failure = Mutex<StoreError?>(nil)

  var lastFailure: StoreError? { failure.withLock { $0 } }

  func failed(_ error: StoreError) {
    failure.withLock { $0 = error }
  }

  func succeeded() {
    failure.withLock { $0 = nil }
  }
}
