import Foundation
import GRDB
import Wire

/// One row of `flows` while a transaction works on it, and the task that started it.
struct FlowDraft {
  var key: Int64
  var state: FlowState
  var totals = FlowTotals()
  var nextLog: Int64
  /// When the agent was asked about it without having answered.
  var askedAt: Timestamp?
  /// It ended because the agent did not know it; should the agent speak after all, it goes on.
  var isLost: Bool
  var cancelRequested: Bool
  /// Serialized last stats, when this transaction brought some.
  private var newStats: Data?
  private var errorText: String?
  private var hasSpoken = false

  static let sqlLoad = """
    SELECT id, state, next_log, asked_at, lost, cancel_requested FROM flows WHERE client = ? AND flow = ?
    """
  static let sqlCreate = """
    INSERT INTO flows (client, flow, state, created_at, creator) VALUES (?, ?, ?, ?, ?)
    """
  static let sqlSave = """
    UPDATE flows SET state = ?, next_log = ?, lost = ?, heard_at = coalesce(?, heard_at),
      asked_at = CASE WHEN ? THEN NULL ELSE asked_at END, ended_at = CASE WHEN ? THEN coalesce(ended_at, ?) END,
      stats = coalesce(?, stats), totals = coalesce(?, totals), error = coalesce(?, error)
    WHERE id = ?
    """
  /// A task that was never handed out is not what the agent speaks about.
  private static let handedOut = "(state IN (1, 2) OR (state = 0 AND attempts > 0))"
  static let sqlRunning = "UPDATE tasks SET state = 2 WHERE flow = ? AND kind = 0 AND \(handedOut)"
  static let sqlRevive = "UPDATE tasks SET state = 2, ended_at = NULL WHERE flow = ? AND kind = 0 AND state = 4"
  static let sqlEnd = """
    UPDATE tasks SET state = ?, ended_at = ? WHERE flow = ? AND kind = 0 AND \(handedOut)
    """
  static let sqlLeased = "SELECT state FROM tasks WHERE flow = ? AND kind = 0 AND state < 3 ORDER BY id LIMIT 1"
  static let sqlRequeue = "UPDATE tasks SET state = 0, leased_at = NULL WHERE flow = ? AND kind = 0 AND state = 1"
  static let sqlAsked = """
    SELECT flows.id AS id, tasks.state AS state, tasks.id AS task FROM tasks JOIN flows ON flows.id = tasks.flow
    WHERE tasks.client = ? AND tasks.state < 3 AND tasks.state > 0 AND flows.asked_at IS NOT NULL
    """

  static func load(_ id: FlowID, _ client: Int64, _ db: Database) throws -> FlowDraft? {
    guard let row = try db.row(sqlLoad, [client, id.text]) else { return nil }
    let stored: Int64 = row["state"]
    return FlowDraft(
      key: row["id"], state: FlowState(rawValue: stored) ?? .waiting, nextLog: row["next_log"],
      askedAt: row.timestamp("asked_at"), isLost: row["lost"], cancelRequested: row["cancel_requested"])
  }

  static func create(_ id: FlowID, _ client: Int64, _ db: Database, at: Timestamp) throws -> FlowDraft {
    try db.run(sqlCreate, [client, id.text, FlowState.running.rawValue, at.microseconds, "agent"])
    return FlowDraft(
      key: db.lastInsertedRowID, state: .running, nextLog: 0, askedAt: nil, isLost: false, cancelRequested: false)
  }

  private init(
    key: Int64, state: FlowState, nextLog: Int64, askedAt: Timestamp?, isLost: Bool, cancelRequested: Bool
  ) {
    self.key = key
    self.state = state
    self.nextLog = nextLog
    self.askedAt = askedAt
    self.isLost = isLost
    self.cancelRequested = cancelRequested
  }

  /// The agent spoke: the task is no longer anybody's to send.
  mutating func heard(_ db: Database) throws {
    hasSpoken = true
    askedAt = nil
    if state == .waiting {
      state = .running
      try db.run(Self.sqlRunning, [key])
    }
  }

  /// Takes up stats of a flow the agent knows.
  /// - Returns: whether the flow ended now.
  mutating func progressed(_ progress: FlowProgress, stats: Data, _ db: Database, at: Timestamp) throws -> Bool {
    if state.hasEnded {
      guard isLost else { return false }
      isLost = false
      state = .running
      errorText = ""
      try db.run(Self.sqlRevive, [key])
    }
    totals = progress.totals
    newStats = stats
    if progress.hasError { errorText = progress.errorText }
    guard progress.isComplete else { return false }
    if progress.hasError {
      state = cancelRequested ? .cancelled : .error
    } else {
      state = .finished
    }
    try endTask(db, at: at)
    return true
  }

  /// The agent said UNKNOWN_FLOW. A flow it never spoke about goes back into the queue, but only after a question:
  /// an answer from before the last lease must not make it run twice. A running flow ends (corrections.md S-5).
  /// - Returns: whether its task waits again.
  mutating func isUnknownToAgent(_ text: String, _ db: Database, at: Timestamp) throws -> Bool {
    guard !state.hasEnded else { return false }
    if state == .waiting {
      guard askedAt != nil, try db.number(Self.sqlLeased, [key]) == TaskState.leased.rawValue else { return false }
      askedAt = nil
      hasSpoken = true
      guard cancelRequested else {
        try db.run(Self.sqlRequeue, [key])
        return true
      }
      state = .cancelled
    } else {
      hasSpoken = true
      isLost = !cancelRequested
      state = cancelRequested ? .cancelled : .error
      errorText = text.isEmpty ? "The agent does not know the flow any more" : text
    }
    try endTask(db, at: at)
    return false
  }

  /// The agent has answered the question of this time. Had it known the flow, its words about it would have come
  /// before.
  /// - Returns: whether its task waits again.
  mutating func answered(question: Timestamp, _ db: Database, at: Timestamp) throws -> Bool {
    guard state == .waiting, askedAt == question else { return false }
    return try isUnknownToAgent("", db, at: at)
  }

  private mutating func endTask(_ db: Database, at: Timestamp) throws {
    let task: TaskState =
      switch state {
      case .cancelled: .cancelled
      case .error: .failed
      case .expired: .expired
      case .finished, .running, .waiting: .finished
      }
    try db.run(Self.sqlEnd, [task.rawValue, at.microseconds, key])
  }

  func save(_ id: FlowID, _ db: Database, at: Timestamp) throws {
    let encoded = newStats == nil ? nil : try? JSONEncoder().encode(totals)
    try db.run(
      Self.sqlSave,
      [
        state.rawValue, nextLog, isLost, hasSpoken ? at.microseconds : nil, hasSpoken,
        state.hasEnded, at.microseconds, newStats, encoded, errorText.map { Data($0.utf8) }, key,
      ])
  }

  /// The agent does not answer status questions (server.md §2): those that were asked are not followed any more. What
  /// was never spoken about may or may not have arrived; it is not sent again.
  static func forgetQuestions(of client: Int64, _ db: Database, at: Timestamp) throws {
    for row in try db.rows(sqlAsked, [client]) {
      let wasLeased = (row["state"] as Int64) == TaskState.leased.rawValue
      let task: TaskState = wasLeased ? .failed : .finished
      try db.run(
        "UPDATE tasks SET state = ?, ended_at = ? WHERE id = ?", [task.rawValue, at.microseconds, row["task"]])
      guard wasLeased else { continue }
      let text = Data("The agent does not answer status questions; whether it got the request is not known".utf8)
      try db.run(
        "UPDATE flows SET state = ?, lost = 1, error = ?, ended_at = ? WHERE id = ?",
        [FlowState.error.rawValue, text, at.microseconds, row["id"]])
    }
  }

  /// As the completion event says it.
  var displayed: String {
    switch state {
    case .finished: "FINISHED"
    case .error: "ERROR"
    case .cancelled: "CANCELLED"
    case .expired: "EXPIRED"
    case .waiting, .running: "RUNNING"
    }
  }
}
