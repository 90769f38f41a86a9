import YAML

/// A piece of configuration as it is written, for what is kept, printed or masked rather than used.
package indirect enum ConfigValue: Sendable, Equatable {
  case text(String)
  case integer(Int)
  case boolean(Bool)
  case null
  case list([ConfigValue])
  case section([ConfigEntry])

  /// A section from pairs; nil values are left out.
  package static func section(_ pairs: KeyValuePairs<String, ConfigValue?>) -> ConfigValue {
    .section(pairs.compactMap { pair in pair.value.map { ConfigEntry(pair.key, $0) } })
  }

  /// A list of texts.
  package static func texts(_ values: [String]) -> ConfigValue {
    .list(values.map { .text($0) })
  }

  /// The value of a key of a section.
  package subscript(key: String) -> ConfigValue? {
    guard case .section(let entries) = self else { return nil }
    return entries.first { $0.key == key }?.value
  }

  /// The text of a scalar text, else nil.
  package var text: String? {
    guard case .text(let text) = self else { return nil }
    return text
  }
}

/// One key and its value; sections keep their order.
package struct ConfigEntry: Sendable, Equatable {
  package var key: String
  package var value: ConfigValue

  package init(_ key: String, _ value: ConfigValue) {
    self.key = key
    self.value = value
  }
}

extension ConfigValue {
  /// Reads YAML text.
  ///
  /// - Throws: ``ConfigurationError`` with the line of the mistake.
  package static func parse(text: String, file: String) throws(ConfigurationError) -> ConfigValue {
    ConfigValue(try YAMLDocument.compose(text: text, file: file))
  }

  init(_ node: YAMLNode) {
    switch node.content {
    case .scalar(let text, let isPlain):
      self = isPlain ? Self.plain(text, isNull: node.isNull) : .text(text)
    case .sequence(let nodes):
      self = .list(nodes.map { ConfigValue($0) })
    case .mapping(let pairs):
      self = .section(pairs.map { ConfigEntry($0.key.scalar ?? "", ConfigValue($0.value)) })
    }
  }

  private static func plain(_ text: String, isNull: Bool) -> ConfigValue {
    if isNull { return .null }
    if let number = Int(text) { return .integer(number) }
    return text == "true" || text == "false" ? .boolean(text == "true") : .text(text)
  }

  /// YAML text; texts of several lines become literal blocks.
  package func yaml() throws(ConfigurationError) -> String {
    do {
      return try output.text()
    } catch {
      throw ConfigurationError(file: "(output)", expected: "text that YAML can hold", found: "\(error)")
    }
  }

  private var output: YAMLOutput {
    switch self {
    case .text(let text):
      if text.contains("\n") { return .scalar(text, .literal) }
      return .scalar(text, Self.needsQuotes(text) ? .doubleQuoted : .plain)
    case .integer(let number): return .scalar(String(number), .plain)
    case .boolean(let flag): return .scalar(flag ? "true" : "false", .plain)
    case .null: return .scalar("null", .plain)
    case .list(let values): return .sequence(values.map(\.output))
    case .section(let entries):
      return .mapping(
        entries.map { entry in
          (.scalar(entry.key, Self.needsQuotes(entry.key) ? .doubleQuoted : .plain), entry.value.output)
        })
    }
  }

  /// Whether a plain scalar with this text would be read as something other than a text.
  private static func needsQuotes(_ text: String) -> Bool {
    let words: Set<String> = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"]
    return words.contains(text.lowercased()) || Double(text) != nil || text.hasPrefix("0x") || text.hasPrefix("0o")
  }
}

extension ConfigValue {
  /// As JSON, two spaces of indentation.
  package func json(indentation: Int = 0) -> String {
    let inner = String(repeating: " ", count: indentation + 2)
    let outer = String(repeating: " ", count: indentation)
    switch self {
    case .text(let text): return Self.quoted(text)
    case .integer(let number): return String(number)
    case .boolean(let flag): return flag ? "true" : "false"
    case .null: return "null"
    case .list(let values):
      guard !values.isEmpty else { return "[]" }
      let lines = values.map { inner + $0.json(indentation: indentation + 2) }
      return "[\n\(lines.joined(separator: ",\n"))\n\(outer)]"
    case .section(let entries):
      guard !entries.isEmpty else { return "{}" }
      let lines = entries.map { "\(inner)\(Self.quoted($0.key)): \($0.value.json(indentation: indentation + 2))" }
      return "{\n\(lines.joined(separator: ",\n"))\n\(outer)}"
    }
  }

  private static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}
