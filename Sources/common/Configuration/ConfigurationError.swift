/// What is wrong with a configuration file, and where.
package struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file's path as it was given.
  package var file: String
  /// Counted from 1; nil when the error is about the file as a whole.
  package var line: Int?
  /// The dotted key, for example `Client.server_urls`; empty for the whole file.
  package var key: String
  /// What would have been right.
  package var expected: String
  /// What is there. Never a secret value.
  package var found: String
  /// What to do about it, when that is not obvious.
  package var remedy: String?

  package init(file: String, line: Int? = nil, key: String = "", expected: String, found: String, remedy: String? = nil)
  {
    self.file = file
    self.line = line
    self.key = key
    self.expected = expected
    self.found = found
    self.remedy = remedy
  }

  /// `file:line: key: expected …, found … (remedy)`.
  package var description: String {
    let place = line.map { "\(file):\($0)" } ?? file
    let subject = key.isEmpty ? "" : " \(key):"
    let advice = remedy.map { " (\($0))" } ?? ""
    return "\(place):\(subject) expected \(expected), found \(found)\(advice)"
  }
}
