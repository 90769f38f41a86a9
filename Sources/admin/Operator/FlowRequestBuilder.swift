import Foundation
import Store
import Wire

/// Makes the request of a query or of artifacts (server.md §5, wire.md §3).
struct FlowRequestBuilder {
  static let source = "Custom.Query"

  /// What is run.
  private enum Work {
    /// The statements in order, each as written.
    case statements([String])
    case artifacts(Proto_FlowRequest)
  }

  private let work: Work
  /// Seconds a query may run; nil leaves it to the artifacts, which may leave it to the default.
  var timeout: UInt64?
  /// Rows of the whole flow; likewise.
  var maxRows: UInt64?
  var isUrgent = false

  /// - Parameter statements: of one VQL text.
  init(statements: [String], timeout: UInt64? = nil) {
    work = .statements(statements)
    self.timeout = timeout
  }

  /// - Parameter artifacts: as `ArtifactCompiler` made it.
  init(artifacts: Proto_FlowRequest) {
    work = .artifacts(artifacts)
  }

  /// The message that starts the flow.
  /// - Throws: `CommandFailure` when no statement gives rows.
  func message(flow: FlowID) throws -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = flow.text
    message.requestID = 1
    message.urgent = isUrgent
    message.flowRequest = try request()
    return message
  }

  /// - Throws: `CommandFailure` when no statement gives rows.
  func request() throws -> Proto_FlowRequest {
    var request: Proto_FlowRequest
    switch work {
    case .statements(let statements): request = try Self.request(statements)
    case .artifacts(let compiled): request = compiled
    }
    for index in request.vqlclientActions.indices {
      let own = request.vqlclientActions[index].timeout
      request.vqlclientActions[index].timeout = timeout ?? (own == 0 ? 600 : own)
      // Seconds before the rows found so far are sent, so that a person sees them come.
      if request.vqlclientActions[index].maxWait == 0 { request.vqlclientActions[index].maxWait = 5 }
    }
    // Agents read milliseconds; the reference writes seconds here, which makes them flush without end (wire.md §3).
    request.logBatchTime = 1_000
    request.maxRows = maxRows ?? (request.maxRows == 0 ? 1_000_000 : request.maxRows)
    if request.maxUploadBytes == 0 { request.maxUploadBytes = 1 << 30 }
    return request
  }

  /// The sources that may give rows, more than one when rows are to be told apart.
  var sources: [String] {
    let actions = (try? request())?.vqlclientActions ?? []
    return actions.flatMap(\.query).map(\.name).filter { !$0.isEmpty }
  }

  private static func request(_ statements: [String]) throws -> Proto_FlowRequest {
    guard let last = statements.last, !isLet(last) else {
      throw CommandFailure(.usage, "nothing to run: the last statement must be a SELECT")
    }
    var action = Proto_VQLCollectorArgs()
    for (index, statement) in statements.enumerated() {
      var request = Proto_VQLRequest()
      request.vql = statement
      // Helper statements have no name; rows of an unnamed statement would be dropped by the server.
      if !isLet(statement) {
        request.name = index == statements.count - 1 ? source : "\(source)/Statement\(index + 1)"
      }
      action.query.append(request)
    }
    action.maxRow = 1_000
    action.totalQueries = 1
    var request = Proto_FlowRequest()
    request.vqlclientActions = [action]
    return request
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
