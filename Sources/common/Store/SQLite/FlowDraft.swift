import Foundation
import GRDB
import Wire

/// One row of `flows` while a transaction works on it, and the task that started it.
struct FlowDraft {
  let key: Int64
  private(set) var life: FlowLife

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
      key: row["id"],
      life: FlowLife(
        state: FlowState(rawValue: stored) ?? .waiting, nextLog: row["next_log"], askedAt: row.timestamp("asked_at"),
        isLost: row["lost"], cancelRequested: row["cancel_requested"]))
  }

  static func create(_ id: FlowID, _ client: Int64, _ db: Database, at: Timestamp) throws -> FlowDraft {
    try db.run(sqlCreate, [client, id.text, FlowState.running.rawValue, at.microseconds, "agent"])
    return FlowDraft(key: db.lastInsertedRowID, life: FlowLife(state: .running))
  }

  private init(key: Int64, life: FlowLife) {
    self.key = key
    self.life = life
  }

  /// The agent spoke: the task is no longer anybody's to send.
  mutating func heard(_ db: Database, at: Timestamp) throws {
    life.heard(at: at)
    try changeTask(db)
  }

  /// Log lines up to this number are stored.
  mutating func logged(upTo line: Int64) { life.nextLog = max(life.nextLog, line) }

  /// See ``FlowLife/progressed(_:stats:at:)``.
  mutating func progressed(_ progress: FlowProgress, stats: Data, _ db: Database, at: Timestamp) throws -> Bool {
    let ended = life.progressed(progress, stats: stats, at: at)
    try changeTask(db)
    return ended
  }

  /// See ``FlowLife/isUnknownToAgent(_:at:openTask:)``.
  mutating func isUnknownToAgent(_ text: String, _ db: Database, at: Timestamp) throws -> Bool {
    let key = key
    let waits = try life.isUnknownToAgent(text, at: at) { try Self.openTask(key, db) }
    try changeTask(db)
    return waits
  }

  /// See ``FlowLife/answered(question:at:openTask:)``.
  mutating func answered(question: Timestamp, _ db: Database, at: Timestamp) throws -> Bool {
    let key = key
    let waits = try life.answered(question: question, at: at) { try Self.openTask(key, db) }
    try changeTask(db)
    return waits
  }

  private static func openTask(_ flow: Int64, _ db: Database) throws -> TaskState? {
    try db.number(sqlLeased, [flow]).flatMap(TaskState.init)
  }

  /// At once: what follows in the same submission may read the task.
  private mutating func changeTask(_ db: Database) throws {
    for change in life.takeTaskChanges() {
      switch change {
      case .running: try db.run(Self.sqlRunning, [key])
      case .revive: try db.run(Self.sqlRevive, [key])
      case .requeue: try db.run(Self.sqlRequeue, [key])
      case .end(let task, let at): try db.run(Self.sqlEnd, [task.rawValue, at.microseconds, key])
      }
    }
  }

  func save(_ db: Database, at: Timestamp) throws {
    try db.run(
      Self.sqlSave,
      [
        life.state.rawValue, life.nextLog, life.isLost, life.heardAt?.microseconds, life.heardAt != nil,
        life.state.hasEnded, at.microseconds, life.stats, life.encodedTotals,
        life.errorText.map { Data($0.utf8) }, key,
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
      let text = Data(FlowLife.noStatusText.utf8)
      try db.run(
        "UPDATE flows SET state = ?, lost = 1, error = ?, ended_at = ? WHERE id = ?",
        [FlowState.error.rawValue, text, at.microseconds, row["id"]])
    }
  }
}
