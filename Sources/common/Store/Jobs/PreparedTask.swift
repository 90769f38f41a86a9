import Foundation
import PublicIdentity
import Wire

/// A task whose message was checked and serialized.
struct PreparedTask: Sendable {
  var client: ClientName
  var kind: TaskKind
  var session: String
  /// The flow it starts or cancels.
  var flow: FlowID?
  var isUrgent: Bool
  var message: Data
  var request: Data?
  /// For the audit trail: the session and what is to be run.
  var detail: String
  var expiresAt: Timestamp?

  init(_ task: NewTask) throws {
    client = task.client
    kind = task.kind
    session = task.message.sessionID
    isUrgent = task.message.urgent
    expiresAt = task.expiresAt
    detail = task.auditDetail
    if case .flow(let id, _) = SessionID(session) { flow = id }
    guard flow != nil || (kind != .flow && kind != .cancel) else {
      throw StoreError(.invalid, "a \(kind) task needs a flow id as its session_id, not \(session)")
    }
    do {
      message = try task.message.serializedBytes()
      request = kind == .flow ? try task.message.flowRequest.serializedBytes() : nil
    } catch {
      throw StoreError(.invalid, "a task's message cannot be serialized: \(error)")
    }
  }
}
