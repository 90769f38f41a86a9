import Yams

/// YAML text to nodes with positions.
enum YAMLDocument {
  /// - Throws: ``ConfigurationError`` with the line of a syntax error or a repeated key.
  static func compose(text: String, file: String) throws(ConfigurationError) -> Node {
    do {
      guard let node = try Yams.compose(yaml: text) else {
        throw ConfigurationError(file: file, expected: "YAML with sections", found: "an empty file")
      }
      return node
    } catch let error as ConfigurationError {
      throw error
    } catch let error as YamlError {
      throw describe(error, file)
    } catch {
      throw ConfigurationError(file: file, expected: "YAML", found: "\(error)")
    }
  }

  /// The parser's own descriptions quote the file, which may hold secrets: only the problem and its place are taken.
  private static func describe(_ error: YamlError, _ file: String) -> ConfigurationError {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      return ConfigurationError(
        file: file, line: mark.line, expected: "YAML", found: "a syntax error at column \(mark.column): \(problem)")
    case .duplicatedKeysInMapping(let duplicates, let context):
      return ConfigurationError(
        file: file, line: context.mark.line, key: duplicates.sorted().joined(separator: ", "),
        expected: "each key once", found: "a key that is there twice")
    case .reader(let problem, _, _, _):
      return ConfigurationError(file: file, expected: "YAML", found: "unreadable characters: \(problem)")
    default:
      return ConfigurationError(file: file, expected: "YAML", found: "text that cannot be parsed")
    }
  }
}
