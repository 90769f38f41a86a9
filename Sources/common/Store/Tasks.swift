import PublicIdentity
import Wire

/// The kinds of message that wait for an agent. The raw values are stored.
package enum TaskKind: Int64, Sendable {
  case flow = 0
  case cancel = 1
  case eventTable = 2
  case kill = 3
  case other = 4
}

/// `queued → leased → running → finished | failed | cancelled | expired`. The raw values are stored.
package enum TaskState: Int64, Sendable {
  case queued = 0
  /// Given to a reader; the agent has not spoken about it yet.
  case leased = 1
  /// The agent has spoken about the flow.
  case running = 2
  case finished = 3
  case failed = 4
  case cancelled = 5
  case expired = 6
}

/// A task to be queued.
package struct NewTask: Sendable {
  package var client: ClientName
  /// `FlowRequest`, `Cancel`, `UpdateEventTable`, `KillKillKill`… with `session_id` set.
  package var message: Proto_VeloMessage
  /// After this instant a task that still waits is `expired`; nil never.
  package var expiresAt: Timestamp?

  package init(client: ClientName, message: Proto_VeloMessage, expiresAt: Timestamp? = nil) {
    self.client = client
    self.message = message
    self.expiresAt = expiresAt
  }

  /// For the audit trail: the session and what is to be run.
  var auditDetail: String {
    String("\(message.sessionID) \(Self.summary(of: message.flowRequest))".prefix(2_000))
  }

  /// What a request runs, for people: names and given values of artifacts, or the statements of a query.
  package static func summary(of request: Proto_FlowRequest) -> String {
    let actions = request.vqlclientActions
    let names = actions.flatMap(\.query).map(\.name).filter { !$0.isEmpty }
    guard !names.contains(where: { $0.hasPrefix("Custom.Query") }), !names.isEmpty else {
      return actions.flatMap(\.query).map(\.vql).joined(separator: " ")
    }
    return (names + actions.flatMap(\.env).map { "\($0.key)=\($0.value)" }).joined(separator: " ")
  }

  package var kind: TaskKind {
    if message.hasFlowRequest { return .flow }
    if message.hasCancel { return .cancel }
    if message.hasUpdateEventTable { return .eventTable }
    if message.hasKillKillKill { return .kill }
    return .other
  }
}

/// Tasks handed to one reader. The lease ends by the agent's own words, by time, or by `Store.release`.
package struct TaskLease: Sendable {
  package var client: ClientName
  /// Identifies the leased tasks; the messages' `task_id`.
  package var taskIDs: [Int64]
  /// What to put into the answer's `MessageList`, in order, including an `F.Status` question if one is due.
  package var messages: [Proto_VeloMessage]

  package init(client: ClientName, taskIDs: [Int64], messages: [Proto_VeloMessage]) {
    self.client = client
    self.taskIDs = taskIDs
    self.messages = messages
  }
}

/// Who asked, for the audit trail.
package struct Operator: Sendable, Hashable {
  package var name: String
  /// Host or address the request came from.
  package var origin: String

  package init(name: String, origin: String) {
    self.name = name
    self.origin = origin
  }

  /// The system itself (interrogation, event tables).
  package static let system = Operator(name: "system", origin: "")

  /// A hunt that gives its flow to a client; the operator's action was to start it.
  static func hunt(_ id: HuntID) -> Operator { Operator(name: id.text, origin: "") }

  /// People have an origin.
  var isSystem: Bool { self == .system || (origin.isEmpty && HuntID(name) != nil) }
}

package enum CancelOutcome: Sendable, Equatable {
  /// The flow was still queued; the agent will never see it.
  case withdrawn
  /// A `Cancel` was queued for the agent.
  case requested
  /// The flow had ended already.
  case alreadyEnded
  case unknownFlow
}
