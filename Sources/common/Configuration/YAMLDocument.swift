import YAML

/// YAML text to nodes with positions.
enum YAMLDocument {
  /// - Throws: ``ConfigurationError`` with the line of a syntax error or a repeated key.
  static func compose(text: String, file: String) throws(ConfigurationError) -> YAMLNode {
    do {
      return try YAMLNode.parse(text)
    } catch {
      throw describe(error, file)
    }
  }

  private static func describe(_ error: YAMLError, _ file: String) -> ConfigurationError {
    switch error.reason {
    case .empty:
      return ConfigurationError(file: file, expected: "YAML with sections", found: "an empty file")
    case .syntax(let problem):
      let column = error.column.map { " at column \($0)" } ?? ""
      return ConfigurationError(
        file: file, line: error.line, expected: "YAML", found: "a syntax error\(column): \(problem)")
    case .repeatedKey(let key):
      return ConfigurationError(
        file: file, line: error.line, key: key, expected: "each key once", found: "a key that is there twice")
    case .tooLarge, .unwritable:
      return ConfigurationError(file: file, line: error.line, expected: "YAML", found: "\(error)")
    }
  }
}
