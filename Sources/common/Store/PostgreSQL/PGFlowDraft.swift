import Foundation
import Wire

/// Names a flow inside a group.
struct PGFlowRef: Hashable {
  var client: Int64
  var flow: FlowID
}

/// One row of `flows` while a group works on it under the client's lock, and what becomes of the task that started it.
/// The rules are `FlowDraft`'s. Used by one task.
final class PGFlowDraft {
  enum TaskChange: Equatable {
    case running
    case revive
    case end(TaskState, at: Timestamp)
    case requeue
  }

  let key: Int64
  let id: FlowID
  private(set) var state: FlowState
  private(set) var totals = FlowTotals()
  var nextLog: Int64
  /// When the agent was asked about it without having answered.
  private(set) var askedAt: Timestamp?
  private(set) var isLost: Bool
  private(set) var endedAt: Timestamp?
  private(set) var heardAt: Timestamp?
  private(set) var stats: Data?
  private(set) var errorText: String?
  private(set) var taskChanges: [TaskChange] = []
  private let cancelRequested: Bool
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
  static let noStatusText = "The agent does not answer status questions; whether it got the request is not known"

  /// - Parameter row: of `sqlLoad`.
  init(_ row: PGRow, _ id: FlowID) {
    self.id = id
    key = row.int(2)
    state = FlowState(rawValue: row.int(3)) ?? .waiting
    nextLog = row.int(4)
    askedAt = row.optionalTime(5)
    isLost = row.bool(6)
    cancelRequested = row.bool(7)
    endedAt = row.optionalTime(8)
  }

  /// The agent spoke: the task is no longer anybody's to send.
  func heard(at: Timestamp) {
    heardAt = at
    askedAt = nil
    if state == .waiting {
      state = .running
      taskChanges.append(.running)
    }
  }

  /// Takes up stats of a flow the agent knows.
  /// - Returns: whether the flow ended now.
  func progressed(_ progress: FlowProgress, stats: Data, at: Timestamp) -> Bool {
    if state.hasEnded {
      guard isLost else { return false }
      isLost = false
      state = .running
      endedAt = nil
      errorText = ""
      taskChanges.append(.revive)
    }
    totals = progress.totals
    self.stats = stats
    if progress.hasError { errorText = progress.errorText }
    guard progress.isComplete else { return false }
    if progress.hasError {
      state = cancelRequested ? .cancelled : .error
    } else {
      state = .finished
    }
    end(at: at)
    return true
  }

  /// The agent said UNKNOWN_FLOW (see `FlowDraft.isUnknownToAgent`).
  /// - Returns: whether its task waits again.
  func isUnknownToAgent(_ text: String, at: Timestamp) -> Bool {
    guard !state.hasEnded else { return false }
    if state == .waiting {
      guard askedAt != nil, openTask == .leased else { return false }
      askedAt = nil
      heardAt = at
      guard cancelRequested else {
        taskChanges.append(.requeue)
        return true
      }
      state = .cancelled
    } else {
      heardAt = at
      isLost = !cancelRequested
      state = cancelRequested ? .cancelled : .error
      errorText = text.isEmpty ? "The agent does not know the flow any more" : text
    }
    end(at: at)
    return false
  }

  /// The agent has answered the question of this time (see `FlowDraft.answered`).
  /// - Returns: whether its task waits again.
  func answered(question: Timestamp, at: Timestamp) -> Bool {
    guard state == .waiting, askedAt == question else { return false }
    return isUnknownToAgent("", at: at)
  }

  private func end(at: Timestamp) {
    endedAt = endedAt ?? at
    let task: TaskState =
      switch state {
      case .cancelled: .cancelled
      case .error: .failed
      case .expired: .expired
      case .finished, .running, .waiting: .finished
      }
    taskChanges.append(.end(task, at: at))
  }

  /// Whether the group changed it; what only a re-sent list named stays as it is.
  var isChanged: Bool { heardAt != nil || !taskChanges.isEmpty }

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

  /// The statements that save these drafts and change their tasks, in order.
  static func saving(_ drafts: [PGFlowDraft]) -> [PGStatement] {
    guard !drafts.isEmpty else { return [] }
    let totals = drafts.map { $0.stats == nil ? nil : try? JSONEncoder().encode($0.totals) }
    let save = PGStatement(
      sqlSave,
      [
        .ints(drafts.map(\.key)), .ints(drafts.map(\.state.rawValue)), .ints(drafts.map(\.nextLog)),
        .bools(drafts.map(\.isLost)), .optionalInts(drafts.map { $0.heardAt?.microseconds }),
        .optionalInts(drafts.map { $0.endedAt?.microseconds }), .optionalBlobs(drafts.map(\.stats)),
        .optionalBlobs(totals), .optionalBlobs(drafts.map { $0.errorText.map { Data($0.utf8) } }),
      ])
    let rounds = drafts.map(\.taskChanges.count).max() ?? 0
    return [save] + (0..<rounds).flatMap { changes(of: drafts, round: $0) }
  }

  private static func changes(of drafts: [PGFlowDraft], round: Int) -> [PGStatement] {
    var simple: [String: [Int64]] = [:]
    var ended: (flows: [Int64], states: [Int64], times: [Int64]) = ([], [], [])
    for draft in drafts where round < draft.taskChanges.count {
      switch draft.taskChanges[round] {
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
