/// What stops a query (or keeps it from starting).
package struct VQLError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Sendable { case syntax, cancelled, timeout, runtime, limit }

  package var code: Code
  package var message: String
  /// 1-based position in the query text; nil when unknown.
  package var line: Int?
  package var column: Int?

  package init(code: Code, message: String, line: Int? = nil, column: Int? = nil) {
    self.code = code
    self.message = message
    self.line = line
    self.column = column
  }

  package var description: String {
    if let line, let column { return "\(line):\(column): \(message)" }
    return message
  }
}
