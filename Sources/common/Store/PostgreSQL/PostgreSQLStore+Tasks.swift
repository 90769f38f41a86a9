import Foundation
import PublicIdentity
import Wire

extension PostgreSQLStore {
  /// Keeps the clients from being deleted, without waiting for those who store what the clients send.
  static let sqlHoldClients = """
    SELECT k.n, c.id FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(org, client, n)
    JOIN clients c ON c.org = k.org AND c.client = k.client JOIN contacts t ON t.client = c.id
    ORDER BY c.id FOR KEY SHARE OF t
    """
  static let sqlNewFlows = """
    INSERT INTO flows (client, flow, state, created_at, creator, request)
    SELECT k.client, k.flow, 0, $4::bigint, $5::text, k.request
    FROM unnest($1::bigint[], $2::text[], $3::bytea[]) AS k(client, flow, request)
    ORDER BY k.client, k.flow
    ON CONFLICT (client, flow) DO NOTHING RETURNING client, flow
    """
  /// A request added to a flow that is known.
  static let sqlReopenFlows = """
    UPDATE flows SET state = CASE WHEN state >= 2 THEN 0 ELSE state END, ended_at = NULL, lost = false,
      cancel_requested = false
    FROM unnest($1::bigint[], $2::text[]) AS k(client, flow)
    WHERE flows.client = k.client AND flows.flow = k.flow
    """
  static let sqlLockKeys = """
    SELECT client FROM contacts WHERE client = ANY ($1::bigint[]) ORDER BY client FOR NO KEY UPDATE
    """
  static let sqlWithdraw = """
    UPDATE tasks SET state = 5, ended_at = $2::bigint WHERE flow = $1::bigint AND kind = 0 AND state = 0
    """
  static let sqlNewTasks = """
    INSERT INTO tasks (client, kind, flow, session, message, urgent, queued_at, expires_at)
    SELECT k.client, k.kind, f.id, k.session, k.message, k.urgent, $8::bigint, k.expires_at
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::boolean[], $7::bigint[])
      WITH ORDINALITY AS k(client, kind, flow, session, message, urgent, expires_at, n)
    LEFT JOIN flows f ON f.client = k.client AND f.flow = k.flow
    ORDER BY k.n RETURNING id
    """
  static let sqlAudits = """
    INSERT INTO audit (at, who, origin, action, org, client, detail)
    SELECT $1::bigint, $2::text, $3::text, k.action, k.org, k.client, k.detail
    FROM unnest($4::text[], $5::text[], $6::text[], $7::text[]) AS k(action, org, client, detail)
    """
  static let sqlOpen = """
    SELECT t.id, t.kind, t.urgent, t.state, t.leased_at, t.attempts, t.expires_at, f.heard_at, f.asked_at, f.flow,
      length(t.message), t.session
    FROM tasks t LEFT JOIN flows f ON f.id = t.flow AND t.kind = 0
    WHERE t.client = $1::bigint AND t.state < 3 ORDER BY t.id LIMIT 2000
    """
  /// The open tasks of a client and, in each row, what the foreman has to know; without tasks one row of nulls and that.
  static let sqlOpenByName = """
    SELECT t.id, t.kind, t.urgent, t.state, t.leased_at, t.attempts, t.expires_at, f.heard_at, f.asked_at, f.flow,
      length(t.message), t.session, c.labels_changed_at, c.interrogation_flow IS NOT NULL, c.event_table_version,
      c.hunt_timestamp, k.reported_table_version
    FROM clients c JOIN contacts k ON k.client = c.id LEFT JOIN tasks t ON t.client = c.id AND t.state < 3
      LEFT JOIN flows f ON f.id = t.flow AND t.kind = 0
    WHERE c.org = $1::text AND c.client = $2::text ORDER BY t.id LIMIT 2000
    """
  static let sqlMessages = "SELECT id, message FROM tasks WHERE id = ANY ($1::bigint[]) ORDER BY id"
  static let sqlLease = """
    UPDATE tasks SET state = 1, leased_at = $2::bigint, attempts = attempts + 1 WHERE id = ANY ($1::bigint[])
    """
  static let sqlEndTasks = """
    UPDATE tasks SET state = $2::bigint, ended_at = $3::bigint WHERE id = ANY ($1::bigint[])
    """
  static let sqlAsk = """
    UPDATE flows SET asked_at = $2::bigint WHERE client = $1::bigint AND flow = ANY ($3::text[])
    """
  static let sqlForgetQuestion = """
    UPDATE flows SET asked_at = NULL
    WHERE id = ANY (ARRAY(SELECT flow FROM tasks WHERE id = ANY ($1::bigint[]) AND kind = 0))
    """
  static let sqlExpireFlows = """
    UPDATE flows SET state = 5, ended_at = $2::bigint, error = $3::bytea
    WHERE id = ANY (ARRAY(SELECT flow FROM tasks WHERE id = ANY ($1::bigint[]) AND kind = 0)) AND state = 0
    """
  static let sqlRelease = """
    UPDATE tasks SET state = 0, leased_at = NULL, attempts = attempts - 1 WHERE id = ANY ($1::bigint[]) AND state = 1
    """

  @discardableResult
  package func queue(_ tasks: [NewTask], by: Operator) async throws -> [Int64] {
    let prepared = try tasks.map(PreparedTask.init(forPostgreSQL:))
    guard !prepared.isEmpty else { return [] }
    return try await client.transact { transaction in
      let names = Array(Set(prepared.map(\.client)))
      let held = try await transaction.read(
        Self.sqlHoldClients, [.texts(names.map(\.org)), .texts(names.map(\.id.rawValue))])
      var keys: [ClientName: Int64] = [:]
      for row in held.rows {
        let index = Int(row.int(0)) - 1
        if names.indices.contains(index) { keys[names[index]] = row.int(1) }
      }
      if let stranger = names.first(where: { keys[$0] == nil }) {
        throw StoreError(.notFound, "no client \(stranger)")
      }
      return try await Self.insert(prepared, keys, &transaction, by: by, at: .now())
    }
  }

  /// - Returns: the tasks' ids. What the system itself queues is no operator's action and stays out of the audit trail.
  static func insert(
    _ tasks: [PreparedTask], _ keys: [ClientName: Int64], _ transaction: inout PGTransaction, by: Operator,
    at now: Timestamp
  ) async throws -> [Int64] {
    let clients = tasks.map { keys[$0.client] ?? 0 }
    try await makeFlows(zip(tasks, clients), &transaction, by: by, at: now)
    let inserted = try await transaction.change(
      sqlNewTasks,
      [
        .ints(clients), .ints(tasks.map(\.kind.rawValue)), .texts(tasks.map { $0.flow?.text ?? "" }),
        .texts(tasks.map(\.session)), .blobs(tasks.map(\.message)), .bools(tasks.map(\.isUrgent)),
        .optionalInts(tasks.map { $0.expiresAt?.microseconds }), .time(now),
      ])
    guard !by.isSystem else { return inserted.rows.map { $0.int(0) } }
    transaction.write(
      sqlAudits,
      [
        .time(now), .text(by.name.withoutNUL), .text(by.origin.withoutNUL), .texts(tasks.map { "queue \($0.kind)" }),
        .texts(tasks.map(\.client.org)), .texts(tasks.map(\.client.id.rawValue)), .texts(tasks.map(\.detail)),
      ])
    transaction.announce(Set(tasks.map(\.client)).map(StoreEvent.tasksQueued), at: now)
    return inserted.rows.map { $0.int(0) }
  }

  /// Makes the flows of tasks that start one.
  private static func makeFlows(
    _ tasks: some Sequence<(PreparedTask, Int64)>, _ transaction: inout PGTransaction, by: Operator,
    at now: Timestamp
  ) async throws {
    var requests: [PGFlowRef: Data] = [:]
    for (task, client) in tasks {
      guard let flow = task.flow, let request = task.request else { continue }
      let ref = PGFlowRef(client: client, flow: flow)
      requests[ref] = requests[ref] ?? request
    }
    guard !requests.isEmpty else { return }
    let all = Array(requests)
    let made = try await transaction.change(
      sqlNewFlows,
      [
        .ints(all.map(\.key.client)), .texts(all.map(\.key.flow.text)), .blobs(all.map(\.value)), .time(now),
        .text(by.name.withoutNUL),
      ])
    for row in made.rows {
      if let flow = FlowID(row.text(1)) { requests[PGFlowRef(client: row.int(0), flow: flow)] = nil }
    }
    guard !requests.isEmpty else { return }
    // Whoever stores words of the agent about these flows must not overwrite what follows.
    let known = Array(requests.keys)
    _ = try await transaction.read(sqlLockKeys, [.ints(known.map(\.client))])
    transaction.write(sqlReopenFlows, [.ints(known.map(\.client)), .texts(known.map(\.flow.text))])
  }

  package func leaseTasks(
    for name: ClientName, now: Timestamp, foreman: Foreman?
  ) async throws -> TaskLease? {
    // Most contacts have nothing to get: that costs no write.
    let look = try await rows(Self.sqlOpenByName, [.text(name.org), .text(name.id.rawValue)])
    guard let first = look.first else { return nil }
    let due = foreman?.due(Self.standing(first, from: 12), for: name, now: now)
    let open = Self.tasks(look.filter { !$0.isNull(0) })
    guard due != nil || !TaskRules.plan(open, now: now, options: options).isEmpty else { return nil }
    return try await transact(on: name) { [options] transaction, key in
      guard let key else { return nil }
      if let foreman, let due { try await Self.give(foreman, due, to: name, key, &transaction, now: now) }
      let open = try await transaction.read(Self.sqlOpen, [.int(key)])
      let plan = TaskRules.plan(Self.tasks(open.rows), now: now, options: options)
      return try await Self.carryOut(plan, name, key, &transaction, now: now)
    }
  }

  private static func tasks(_ rows: [PGRow]) -> [OpenTask] {
    rows.map { row in
      OpenTask(
        id: row.int(0), kind: TaskKind(rawValue: row.int(1)) ?? .other, isUrgent: row.bool(2),
        state: TaskState(rawValue: row.int(3)) ?? .queued, leasedAt: row.optionalTime(4), attempts: row.int(5),
        expiresAt: row.optionalTime(6), flow: row.isNull(9) ? nil : row.text(9),
        session: row.text(11), heardAt: row.optionalTime(7),
        askedAt: row.optionalTime(8), size: row.int(10))
    }
  }

  private static func carryOut(
    _ plan: TaskPlan, _ name: ClientName, _ key: Int64, _ transaction: inout PGTransaction, now: Timestamp
  ) async throws -> TaskLease? {
    for (ids, state) in [(plan.finish, TaskState.finished), (plan.fail, .failed)] where !ids.isEmpty {
      transaction.write(sqlEndTasks, [.ints(ids), .int(state.rawValue), .time(now)])
    }
    expire(plan.expire, &transaction, at: now)
    var lease = TaskLease(client: name, taskIDs: [], messages: [])
    if !plan.lease.isEmpty {
      transaction.write(sqlLease, [.ints(plan.lease), .time(now)])
      transaction.write(sqlForgetQuestion, [.ints(plan.lease)])
      for row in try await transaction.change(sqlMessages, [.ints(plan.lease)]).rows {
        let id = row.int(0)
        guard var message = try? Proto_VeloMessage(serializedBytes: row.bytes(1)) else {
          throw StoreError(.corrupt, "task \(id) cannot be read; delete it")
        }
        message.taskID = UInt64(clamping: id)
        lease.taskIDs.append(id)
        lease.messages.append(message)
      }
    }
    if !plan.ask.isEmpty {
      transaction.write(sqlAsk, [.int(key), .time(now), .texts(plan.ask.map(\.flow))])
      lease.messages.append(TaskRules.message(asking: plan.ask, at: now))
    }
    return lease.messages.isEmpty ? nil : lease
  }

  /// Ends tasks that waited too long, and their flows.
  static func expire(_ tasks: [Int64], _ transaction: inout PGTransaction, at: Timestamp) {
    guard !tasks.isEmpty else { return }
    let text = Data("The request expired before the client came to fetch it".utf8)
    transaction.write(sqlEndTasks, [.ints(tasks), .int(TaskState.expired.rawValue), .time(at)])
    transaction.write(sqlExpireFlows, [.ints(tasks), .time(at), .bytes(text)])
  }

  package func release(_ lease: TaskLease) async throws {
    guard !lease.taskIDs.isEmpty else { return }
    try await transact(on: lease.client) { transaction, key in
      guard key != nil else { return }
      transaction.write(Self.sqlRelease, [.ints(lease.taskIDs)])
      transaction.announce([.tasksQueued(lease.client)], at: .now())
    }
  }

  static let sqlFlowState = "SELECT id, state FROM flows WHERE client = $1::bigint AND flow = $2::text"
  static let sqlOpenTask = """
    SELECT state FROM tasks WHERE flow = $1::bigint AND kind = 0 AND state < 3 ORDER BY id LIMIT 1
    """

  package func cancel(_ name: FlowName, by: Operator) async throws -> CancelOutcome {
    try await transact(on: name.client) { transaction, client in
      guard let client,
        let flow = try await transaction.read(Self.sqlFlowState, [.int(client), .text(name.flow.text)]).first
      else { return .unknownFlow }
      guard FlowState(rawValue: flow.int(1))?.hasEnded == false else { return .alreadyEnded }
      let now = Timestamp.now()
      let key = flow.int(0)
      transaction.record("cancel", on: name.client, detail: name.flow.text, by: by, at: now)
      let task = try await transaction.read(Self.sqlOpenTask, [.int(key)]).first?.int(0)
      if task == TaskState.queued.rawValue {
        transaction.write(Self.sqlWithdraw, [.int(key), .time(now)])
        transaction.write(
          "UPDATE flows SET state = 4, ended_at = $2::bigint WHERE id = $1::bigint", [.int(key), .time(now)])
        return .withdrawn
      }
      transaction.write("UPDATE flows SET cancel_requested = true WHERE id = $1::bigint", [.int(key)])
      var message = Proto_VeloMessage()
      message.sessionID = name.flow.text
      message.cancel.principal = by.name
      let request = try PreparedTask(forPostgreSQL: NewTask(client: name.client, message: message))
      _ = try await Self.insert([request], [name.client: client], &transaction, by: by, at: now)
      return .requested
    }
  }
}

extension PreparedTask {
  /// PostgreSQL's texts hold no NUL.
  init(forPostgreSQL task: NewTask) throws {
    try self.init(task)
    guard !session.utf8.contains(0) else { throw StoreError(.invalid, "a session_id has no NUL") }
    detail = detail.withoutNUL
  }
}
