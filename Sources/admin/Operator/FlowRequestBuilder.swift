import Foundation
import Store
import Wire

/// Makes the request of a query (server.md §5, wire.md §3).
struct FlowRequestBuilder {
  static let source = "Custom.Query"

  /// The statements in order, each as written.
  var statements: [String]
  /// Seconds the query may run.
  var timeout: UInt64 = 600
  var maxRows: UInt64 = 1_000_000
  var isUrgent = false

  /// - Throws: `CommandFailure` when no statement gives rows.
  func message(flow: FlowID) throws -> Proto_VeloMessage {
    guard let last = statements.last, !Self.isLet(last) else {
      throw CommandFailure(.usage, "nothing to run: the last statement must be a SELECT")
    }
    var action = Proto_VQLCollectorArgs()
    for (index, statement) in statements.enumerated() {
      var request = Proto_VQLRequest()
      request.vql = statement
      // Helper statements have no name; rows of an unnamed statement would be dropped by the server.
      if !Self.isLet(statement) {
        request.name = index == statements.count - 1 ? Self.source : "\(Self.source)/Statement\(index + 1)"
      }
      action.query.append(request)
    }
    action.maxRow = 1_000
    // Seconds before the rows found so far are sent, so that a person sees them come.
    action.maxWait = 5
    action.timeout = timeout
    action.totalQueries = 1
    var message = Proto_VeloMessage()
    message.sessionID = flow.text
    message.requestID = 1
    message.urgent = isUrgent
    message.flowRequest.vqlclientActions = [action]
    // Agents read milliseconds; the reference writes seconds here, which makes them flush without end (wire.md §3).
    message.flowRequest.logBatchTime = 1_000
    message.flowRequest.maxRows = maxRows
    message.flowRequest.maxUploadBytes = 1 << 30
    return message
  }

  static func isLet(_ statement: String) -> Bool {
    Self.firstWord(statement).lowercased() == "let"
  }

  /// The first token that is no comment.
  private static func firstWord(_ text: String) -> Substring {
    var rest = text[...]
    while true {
      rest = rest.drop { $0.isWhitespace }
      if rest.hasPrefix("--") || rest.hasPrefix("//") {
        rest = rest.drop { !$0.isNewline }
      } else if rest.hasPrefix("/*") {
        guard let end = rest.range(of: "*/") else { return "" }
        rest = rest[end.upperBound...]
      } else {
        return rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
      }
    }
  }
}
