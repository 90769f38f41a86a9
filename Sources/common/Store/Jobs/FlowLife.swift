import Foundation

/// What an agent's words do to a flow and to the task that started it (server.md §2, corrections.md S-5). A value without
/// I/O: both stores load it, apply its rules, and write what became of it.
struct FlowLife {
  /// What becomes of the task; the stores carry these out in order.
  enum TaskChange: Equatable {
    case running
    case revive
    case end(TaskState, at: Timestamp)
    case requeue
  }

  private(set) var state: FlowState
  private(set) var totals = FlowTotals()
  var nextLog: Int64
  /// When the agent was asked about it without having answered.
  private(set) var askedAt: Timestamp?
  /// It ended because the agent did not know it; should the agent speak after all, it goes on.
  private(set) var isLost: Bool
  private(set) var endedAt: Timestamp?
  /// When the agent spoke, if it did.
  private(set) var heardAt: Timestamp?
  /// Serialized last stats, if some came.
  private(set) var stats: Data?
  private(set) var errorText: String?
  private(set) var taskChanges: [TaskChange] = []
  private let cancelRequested: Bool

  static let noStatusText = "The agent does not answer status questions; whether it got the request is not known"

  init(
    state: FlowState, nextLog: Int64 = 0, askedAt: Timestamp? = nil, isLost: Bool = false,
    cancelRequested: Bool = false, endedAt: Timestamp? = nil
  ) {
    self.state = state
    self.nextLog = nextLog
    self.askedAt = askedAt
    self.isLost = isLost
    self.cancelRequested = cancelRequested
    self.endedAt = endedAt
  }

  /// The agent spoke: the task is no longer anybody's to send.
  mutating func heard(at: Timestamp) {
    heardAt = at
    askedAt = nil
    if state == .waiting {
      state = .running
      taskChanges.append(.running)
    }
  }

  /// Takes up stats of a flow the agent knows.
  /// - Returns: whether the flow ended now.
  mutating func progressed(_ progress: FlowProgress, stats: Data, at: Timestamp) -> Bool {
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

  /// The agent said UNKNOWN_FLOW. A flow it never spoke about goes back into the queue, but only after a question:
  /// an answer from before the last lease must not make it run twice. A running flow ends (corrections.md S-5).
  ///
  /// - Parameter openTask: the state of its task that is still open; asked only where it matters.
  /// - Returns: whether its task waits again.
  mutating func isUnknownToAgent(
    _ text: String, at: Timestamp, openTask: () throws -> TaskState?
  ) rethrows -> Bool {
    guard !state.hasEnded else { return false }
    if state == .waiting {
      guard askedAt != nil, try openTask() == .leased else { return false }
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

  /// The agent has answered the question of this time. Had it known the flow, its words about it would have come
  /// before.
  /// - Returns: whether its task waits again.
  mutating func answered(
    question: Timestamp, at: Timestamp, openTask: () throws -> TaskState?
  ) rethrows -> Bool {
    guard state == .waiting, askedAt == question else { return false }
    return try isUnknownToAgent("", at: at, openTask: openTask)
  }

  private mutating func end(at: Timestamp) {
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

  /// The changes since the last call, for a store that carries them out at once.
  mutating func takeTaskChanges() -> [TaskChange] {
    defer { taskChanges = [] }
    return taskChanges
  }

  /// The totals as they are stored; nil when no stats came.
  var encodedTotals: Data? { stats == nil ? nil : try? JSONEncoder().encode(totals) }

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
