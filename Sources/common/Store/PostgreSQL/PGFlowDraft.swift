import Foundation
import Wire

/// Names a flow inside a group.
struct PGFlowRef: Hashable {
  var client: Int64
  var flow: FlowID
}

/// One row of `flows` while a group works on it under the client's lock, and what becomes of the task that started it.
/// Used by one task.
final class PGFlowDraft {
  let key: Int64
  let id: FlowID
  private(set) var life: FlowLife
  /// The state of the task that is still open; known when the group has an answer "unknown flow".
  var openTask: TaskState?

  static let sqlLoad = """
    SELECT f.client, f.flow, f.id, f.state, f.next_log, f.asked_at, f.lost, f.cancel_requested, f.ended_at
    FROM unnest($1::bigint[], $2::text[]) AS k(client, flow)
    JOIN flows f ON f.client = k.client AND f.flow = k.flow
    """
  static let sqlCreate = """
    INSERT INTO flows (client, flow, state, created_at, creator)
    SELECT k.client, k.flow, 1, k.at, 'agent' FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS k(client, flow, at)
    ON CONFLICT (client, flow) DO NOTHING
    """
  static let sqlSave = """
    UPDATE flows SET state = k.state, next_log = k.next_log, lost = k.lost,
      heard_at = coalesce(k.heard_at, flows.heard_at),
      asked_at = CASE WHEN k.heard_at IS NULL THEN flows.asked_at END, ended_at = k.ended_at,
      stats = coalesce(k.stats, flows.stats), totals = coalesce(k.totals, flows.totals),
      error = coalesce(k.error, flows.error)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[], $5::bigint[], $6::bigint[], $7::bytea[],
      $8::bytea[], $9::bytea[]) AS k(id, state, next_log, lost, heard_at, ended_at, stats, totals, error)
    WHERE flows.id = k.id
    """
  /// A task that was never handed out is not what the agent speaks about.
  private static let handedOut = "(tasks.state IN (1, 2) OR (tasks.state = 0 AND tasks.attempts > 0))"
  static let sqlRunning = """
    UPDATE tasks SET state = 2 WHERE flow = ANY ($1::bigint[]) AND kind = 0 AND \(handedOut)
    """
  static let sqlRevive = """
    UPDATE tasks SET state = 2, ended_at = NULL WHERE flow = ANY ($1::bigint[]) AND kind = 0 AND state = 4
    """
  static let sqlEnd = """
    UPDATE tasks SET state = k.state, ended_at = k.at
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k(flow, state, at)
    WHERE tasks.flow = k.flow AND tasks.kind = 0 AND \(handedOut)
    """
  static let sqlRequeue = """
    UPDATE tasks SET state = 0, leased_at = NULL WHERE flow = ANY ($1::bigint[]) AND kind = 0 AND state = 1
    """
  static let sqlOpenTasks = """
    SELECT f.client, f.flow, (SELECT t.state FROM tasks t WHERE t.flow = f.id AND t.kind = 0 AND t.state < 3
      ORDER BY t.id LIMIT 1)
    FROM unnest($1::bigint[], $2::text[]) AS k(client, flow)
    JOIN flows f ON f.client = k.client AND f.flow = k.flow
    """
  /// What an agent's lack of status answers ends (`FlowDraft.forgetQuestions`).
  static let sqlForgetQuestions = """
    WITH asked AS (
      SELECT t.id AS task, t.state, f.id AS flow FROM tasks t JOIN flows f ON f.id = t.flow
      WHERE t.client = $1::bigint AND t.state IN (1, 2) AND f.asked_at IS NOT NULL
    ), ended AS (
      UPDATE tasks SET state = CASE asked.state WHEN 1 THEN 4 ELSE 3 END, ended_at = $2::bigint
      FROM asked WHERE tasks.id = asked.task
    )
    UPDATE flows SET state = 3, lost = true, error = $3::bytea, ended_at = $2::bigint
    FROM asked WHERE flows.id = asked.flow AND asked.state = 1
    """

  /// - Parameter row: of `sqlLoad`.
  init(_ row: PGRow, _ id: FlowID) {
    self.id = id
    key = row.int(2)
    life = FlowLife(
      state: FlowState(rawValue: row.int(3)) ?? .waiting, nextLog: row.int(4), askedAt: row.optionalTime(5),
      isLost: row.bool(6), cancelRequested: row.bool(7), endedAt: row.optionalTime(8))
  }

  /// The agent spoke: the task is no longer anybody's to send.
  func heard(at: Timestamp) { life.heard(at: at) }

  /// Log lines up to this number are stored.
  func logged(upTo line: Int64) { life.nextLog = max(life.nextLog, line) }

  /// See ``FlowLife/progressed(_:stats:at:)``.
  func progressed(_ progress: FlowProgress, stats: Data, at: Timestamp) -> Bool {
    life.progressed(progress, stats: stats, at: at)
  }

  /// See ``FlowLife/isUnknownToAgent(_:at:openTask:)``.
  func isUnknownToAgent(_ text: String, at: Timestamp) -> Bool {
    let openTask = openTask
    return life.isUnknownToAgent(text, at: at) { openTask }
  }

  /// See ``FlowLife/answered(question:at:openTask:)``.
  func answered(question: Timestamp, at: Timestamp) -> Bool {
    let openTask = openTask
    return life.answered(question: question, at: at) { openTask }
  }

  /// Whether the group changed it; what only a re-sent list named stays as it is.
  var isChanged: Bool { life.heardAt != nil || !life.taskChanges.isEmpty }

  /// The statements that save these drafts and change their tasks, in order.
  static func saving(_ drafts: [PGFlowDraft]) -> [PGStatement] {
    guard !drafts.isEmpty else { return [] }
    let lives = drafts.map(\.life)
    let save = PGStatement(
      sqlSave,
      [
        .ints(drafts.map(\.key)), .ints(lives.map(\.state.rawValue)), .ints(lives.map(\.nextLog)),
        .bools(lives.map(\.isLost)), .optionalInts(lives.map { $0.heardAt?.microseconds }),
        .optionalInts(lives.map { $0.endedAt?.microseconds }), .optionalBlobs(lives.map(\.stats)),
        .optionalBlobs(lives.map(\.encodedTotals)), .optionalBlobs(lives.map { $0.errorText.map { Data($0.utf8) } }),
      ])
    let rounds = lives.map(\.taskChanges.count).max() ?? 0
    return [save] + (0..<rounds).flatMap { changes(of: drafts, round: $0) }
  }

  private static func changes(of drafts: [PGFlowDraft], round: Int) -> [PGStatement] {
    var simple: [String: [Int64]] = [:]
    var ended: (flows: [Int64], states: [Int64], times: [Int64]) = ([], [], [])
    for draft in drafts where round < draft.life.taskChanges.count {
      switch draft.life.taskChanges[round] {
      case .running: simple[sqlRunning, default: []].append(draft.key)
      case .revive: simple[sqlRevive, default: []].append(draft.key)
      case .requeue: simple[sqlRequeue, default: []].append(draft.key)
      case .end(let state, let at):
        ended.flows.append(draft.key)
        ended.states.append(state.rawValue)
        ended.times.append(at.microseconds)
      }
    }
    var statements = simple.map { PGStatement($0.key, [.ints($0.value)]) }
    if !ended.flows.isEmpty {
      statements.append(
        PGStatement(sqlEnd, [.ints(ended.flows), .ints(ended.states), .ints(ended.times)]))
    }
    return statements
  }
}
