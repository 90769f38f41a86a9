import Synchronization

/// A regular expression for other parts of the agent than queries: RE2 syntax, linear time, shared by threads.
package final class LinearExpression: Sendable {
  private let regex: Mutex<Regex>

  /// - Throws: what is wrong with the pattern.
  package init(_ pattern: String, ignoreCase: Bool = false) throws {
    let regex = try Regex(Array(pattern.utf8), ignoreCase: ignoreCase)
    self.regex = Mutex(regex)
  }

  /// Whether the pattern matches anywhere in the text.
  package func matches(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return regex.withLock { $0.matches(bytes) }
  }
}
