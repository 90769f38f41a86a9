/// A question about a flow that was silent for too long (client.md §6.3), and the mark that makes its answer unlike any
/// other.
///
/// An agent answers each id of a question in order, so beside the flow a child id of it is asked about that no agent
/// can know: the flow's id, and the time of the question. Its answer says that this very question was answered.
/// Without it two honest answers UNKNOWN_FLOW about one flow would be the same bytes, and the second would be taken for
/// the first sent again; taking it for a new one instead would run a task twice when it is the first after all.
struct FlowQuestion: Equatable {
  /// The flow's id.
  var flow: String
  /// What the agent knows it by: the `session_id` of the task, with the child of a flow that was added to.
  var session: String

  /// What to ask about, in this order.
  func ids(at time: Timestamp) -> [String] { [session, "\(flow)/\(Self.mark(time))"] }

  private static func mark(_ time: Timestamp) -> String { "Q\(time.microseconds)" }

  /// The time of the question that a child id stands for; nil for any other child.
  static func time(ofMark child: String?) -> Timestamp? {
    guard let child, child.hasPrefix("Q"), let number = Int64(child.dropFirst()) else { return nil }
    return Timestamp(microseconds: number)
  }
}
