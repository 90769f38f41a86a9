import Foundation
import GRDB
import PublicIdentity
import Wire

extension SQLiteStore {
  static let sqlNewFlow = """
    INSERT INTO flows (client, flow, state, created_at, creator, request) VALUES (?, ?, 0, ?, ?, ?)
    ON CONFLICT (client, flow) DO UPDATE SET
      state = CASE WHEN state >= 2 THEN 0 ELSE state END, ended_at = NULL, lost = 0, cancel_requested = 0
    """
  static let sqlFlowKey = "SELECT id FROM flows WHERE client = ? AND flow = ?"
  static let sqlNewTask = """
    INSERT INTO tasks (client, kind, flow, session, message, urgent, queued_at, expires_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    """
  static let sqlOpen = """
    SELECT tasks.id AS id, kind, urgent, tasks.state AS state, leased_at, attempts, expires_at, heard_at, asked_at,
      flows.flow AS flow, session, length(message) AS size
    FROM tasks LEFT JOIN flows ON flows.id = tasks.flow AND tasks.kind = 0
    WHERE tasks.client = ? AND tasks.state < 3 ORDER BY tasks.id LIMIT 2000
    """
  static let sqlMessage = "SELECT message FROM tasks WHERE id = ?"
  static let sqlLease = "UPDATE tasks SET state = 1, leased_at = ?, attempts = attempts + 1 WHERE id = ?"
  static let sqlEndTask = "UPDATE tasks SET state = ?, ended_at = ? WHERE id = ?"
  static let sqlAsk = "UPDATE flows SET asked_at = ? WHERE client = ? AND flow = ?"
  static let sqlWithdraw = "UPDATE tasks SET state = ?, ended_at = ? WHERE flow = ? AND kind = 0 AND state = 0"
  static let sqlForgetQuestion = "UPDATE flows SET asked_at = NULL WHERE id = (SELECT flow FROM tasks WHERE id = ?)"

  @discardableResult
  package func queue(_ tasks: [NewTask], by: Operator) async throws -> [Int64] {
    let prepared = try tasks.map { try PreparedTask($0) }
    let size = prepared.reduce(256) { $0 + $1.message.count }
    let ids = try await write(bytes: size) { db in
      let now = Timestamp.now()
      var ids: [Int64] = []
      for task in prepared { ids.append(try Self.insert(task, db, by: by, at: now)) }
      for client in Set(prepared.map(\.client)) { try db.announce(.tasksQueued(client), at: now) }
      return ids
    }
    await poller.announced()
    return ids
  }

  /// - Returns: the task's id. What the system itself queues is no operator's action and stays out of the audit trail.
  @discardableResult
  static func insert(
    _ task: PreparedTask, _ db: Database, by: Operator, at now: Timestamp
  ) throws -> Int64 {
    guard let client = try db.key(of: task.client) else { throw StoreError(.notFound, "no client \(task.client)") }
    var flow: Int64?
    if let id = task.flow {
      if task.kind == .flow {
        try db.run(sqlNewFlow, [client, id.text, now.microseconds, by.name, task.request])
      }
      flow = try db.number(sqlFlowKey, [client, id.text])
    }
    try db.run(
      sqlNewTask,
      [
        client, task.kind.rawValue, flow, task.session, task.message, task.isUrgent, now.microseconds,
        task.expiresAt?.microseconds,
      ])
    let number = db.lastInsertedRowID
    guard !by.isSystem else { return number }
    try db.record("queue \(task.kind)", on: task.client, detail: task.detail, by: by, at: now)
    return number
  }

  package func leaseTasks(
    for client: ClientName, now: Timestamp, foreman: Foreman?
  ) async throws -> TaskLease? {
    // Most contacts have nothing to get: that costs no write.
    let look = try await read { [options] db -> (plan: TaskPlan, standing: ClientStanding)? in
      guard let (key, standing) = try db.standing(of: client) else { return nil }
      return (TaskRules.plan(try Self.openTasks(key, db), now: now, options: options), standing)
    }
    guard let look else { return nil }
    let due = foreman?.due(look.standing, for: client, now: now)
    guard !look.plan.isEmpty || due != nil else { return nil }
    return try await write(bytes: 4_096) { [options] db in
      guard let (key, standing) = try db.standing(of: client) else { return nil }
      if let foreman, let due {
        try Self.give(foreman.confirm(due, standing, for: client, now: now), to: client, key, foreman, db, now: now)
      }
      let plan = TaskRules.plan(try Self.openTasks(key, db), now: now, options: options)
      return try Self.carryOut(plan, client, key, db, now: now)
    }
  }

  private static func openTasks(_ client: Int64, _ db: Database) throws -> [OpenTask] {
    try db.rows(sqlOpen, [client]).map { row in
      OpenTask(
        id: row["id"], kind: TaskKind(rawValue: row["kind"]) ?? .other, isUrgent: row["urgent"],
        state: TaskState(rawValue: row["state"]) ?? .queued, leasedAt: row.timestamp("leased_at"),
        attempts: row["attempts"], expiresAt: row.timestamp("expires_at"), flow: row["flow"],
        session: row["session"], heardAt: row.timestamp("heard_at"), askedAt: row.timestamp("asked_at"),
        size: row["size"])
    }
  }

  private static func carryOut(
    _ plan: TaskPlan, _ client: ClientName, _ key: Int64, _ db: Database, now: Timestamp
  ) throws -> TaskLease? {
    for id in plan.finish { try db.run(sqlEndTask, [TaskState.finished.rawValue, now.microseconds, id]) }
    for id in plan.fail { try db.run(sqlEndTask, [TaskState.failed.rawValue, now.microseconds, id]) }
    for id in plan.expire { try expire(id, db, at: now) }
    var lease = TaskLease(client: client, taskIDs: [], messages: [])
    for id in plan.lease {
      guard let stored = try db.row(sqlMessage, [id])?["message"] as Data?,
        var message = try? Proto_VeloMessage(serializedBytes: stored)
      else { throw StoreError(.corrupt, "task \(id) cannot be read; delete it") }
      message.taskID = UInt64(clamping: id)
      try db.run(sqlLease, [now.microseconds, id])
      if message.hasFlowRequest { try db.run(sqlForgetQuestion, [id]) }
      lease.taskIDs.append(id)
      lease.messages.append(message)
    }
    if !plan.ask.isEmpty {
      for question in plan.ask { try db.run(sqlAsk, [now.microseconds, key, question.flow]) }
      lease.messages.append(TaskRules.message(asking: plan.ask, at: now))
    }
    return lease.messages.isEmpty ? nil : lease
  }

  /// Ends a task that waited too long, and its flow.
  static func expire(_ task: Int64, _ db: Database, at: Timestamp) throws {
    try db.run(sqlEndTask, [TaskState.expired.rawValue, at.microseconds, task])
    try db.run(
      """
      UPDATE flows SET state = ?, ended_at = ?, error = ?
      WHERE id = (SELECT flow FROM tasks WHERE id = ? AND kind = 0) AND state = 0
      """,
      [
        FlowState.expired.rawValue, at.microseconds,
        Data("The request expired before the client came to fetch it".utf8), task,
      ])
  }

  package func release(_ lease: TaskLease) async throws {
    guard !lease.taskIDs.isEmpty else { return }
    try await write { db in
      for id in lease.taskIDs {
        try db.run(
          "UPDATE tasks SET state = 0, leased_at = NULL, attempts = attempts - 1 WHERE id = ? AND state = 1", [id])
      }
      try db.announce(.tasksQueued(lease.client), at: .now())
    }
    await poller.announced()
  }

  package func cancel(_ name: FlowName, by: Operator) async throws -> CancelOutcome {
    let outcome = try await write { db in
      guard let client = try db.key(of: name.client),
        let flow = try db.row("SELECT id, state FROM flows WHERE client = ? AND flow = ?", [client, name.flow.text])
      else { return CancelOutcome.unknownFlow }
      let now = Timestamp.now()
      let key: Int64 = flow["id"]
      guard FlowState(rawValue: flow["state"])?.hasEnded == false else { return .alreadyEnded }
      try db.record("cancel", on: name.client, detail: name.flow.text, by: by, at: now)
      if try db.number(FlowDraft.sqlLeased, [key]) == TaskState.queued.rawValue {
        try db.run(Self.sqlWithdraw, [TaskState.cancelled.rawValue, now.microseconds, key])
        try db.run(
          "UPDATE flows SET state = ?, ended_at = ? WHERE id = ?",
          [FlowState.cancelled.rawValue, now.microseconds, key])
        return .withdrawn
      }
      try db.run("UPDATE flows SET cancel_requested = 1 WHERE id = ?", [key])
      var message = Proto_VeloMessage()
      message.sessionID = name.flow.text
      message.cancel.principal = by.name
      _ = try Self.insert(try PreparedTask(NewTask(client: name.client, message: message)), db, by: by, at: now)
      try db.announce(.tasksQueued(name.client), at: now)
      return .requested
    }
    if outcome == .requested { await poller.announced() }
    return outcome
  }
}
