import Wire

/// A task that has not ended, as the rules see it.
struct OpenTask: Equatable {
  var id: Int64
  var kind: TaskKind
  var isUrgent: Bool
  var state: TaskState
  var leasedAt: Timestamp?
  /// How often it was handed out.
  var attempts: Int64
  var expiresAt: Timestamp?
  /// The flow it starts; nil for other kinds.
  var flow: String?
  /// The message's `session_id`.
  var session: String
  /// When the agent last spoke about the flow.
  var heardAt: Timestamp?
  /// When the agent was last asked about the flow without having answered.
  var askedAt: Timestamp?
  /// Bytes of the message.
  var size: Int64
}

/// What a reader's contact does to the open tasks of its client.
struct TaskPlan: Equatable {
  var lease: [Int64] = []
  /// Taken as received by the agent.
  var finish: [Int64] = []
  /// Sent as often as allowed, and the agent never came back in time.
  var fail: [Int64] = []
  var expire: [Int64] = []
  /// Flows to ask the agent about (`F.Status`).
  var ask: [FlowQuestion] = []

  var isEmpty: Bool { self == TaskPlan() }
}

/// Which tasks a reader is given, when a lease ends, and which flows are asked about (server.md §5).
///
/// * A flow's task is gone when the agent has spoken about the flow. Silence for `leaseDuration` leads to a question;
///   only the answer UNKNOWN_FLOW puts the task back into the queue. So it is neither lost nor run twice.
/// * An agent never speaks about `Cancel` and `UpdateEventTable`. It comes back to the reader within about a second
///   after an answer that it read, and after a minute or more when the connection broke. So the next contact settles
///   them: within `promptReturn` they are done, later they are sent again (both are harmless when repeated), at most
///   `silentAttempts` times.
/// * Any other kind, `KillKillKill` above all, is never repeated: the next contact ends it.
/// * At most `flowsInFlight` flows are handed out and not ended; urgent ones and all other kinds always pass.
enum TaskRules {
  /// The largest answer given to one reader; the rest follows with the next.
  static let answerBytes: Int64 = 8 << 20

  /// - Parameter open: all open tasks of one client in the order of their ids.
  static func plan(_ open: [OpenTask], now: Timestamp, options: StoreOptions) -> TaskPlan {
    var plan = TaskPlan()
    var inFlight = open.count { $0.kind == .flow && ($0.state == .leased || $0.state == .running) }
    var bytes: Int64 = 0
    for task in open {
      switch task.state {
      case .queued:
        if let expiry = task.expiresAt, expiry < now {
          plan.expire.append(task.id)
          continue
        }
        let passes = task.kind != .flow || task.isUrgent || inFlight < options.flowsInFlight
        guard passes, plan.lease.isEmpty || bytes + task.size <= answerBytes else { continue }
        plan.lease.append(task.id)
        bytes += task.size
        if task.kind == .flow { inFlight += 1 }
      case .leased where task.kind != .flow:
        settle(task, now, options, &plan)
      case .leased, .running:
        guard let flow = task.flow else { continue }
        let quiet = [task.heardAt, task.leasedAt, task.askedAt].compactMap { $0 }.max() ?? now
        if quiet.advanced(by: options.leaseDuration) <= now, !plan.ask.contains(where: { $0.flow == flow }) {
          plan.ask.append(FlowQuestion(flow: flow, session: task.session))
        }
      case .finished, .failed, .cancelled, .expired:
        continue
      }
    }
    return plan
  }

  private static func settle(_ task: OpenTask, _ now: Timestamp, _ options: StoreOptions, _ plan: inout TaskPlan) {
    let prompt = (task.leasedAt ?? now).advanced(by: options.promptReturn) >= now
    let repeatable = task.kind == .cancel || task.kind == .eventTable
    if prompt || !repeatable {
      plan.finish.append(task.id)
    } else if task.attempts < options.silentAttempts {
      plan.lease.append(task.id)
    } else {
      plan.fail.append(task.id)
    }
  }

  /// The message that asks these questions (client.md §6.3).
  static func message(asking questions: [FlowQuestion], at time: Timestamp) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = "F.Status"
    message.flowStatsRequest.flowID = questions.flatMap { $0.ids(at: time) }
    return message
  }
}
