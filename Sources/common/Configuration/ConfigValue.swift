import Yams

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

  init(_ node: Node) {
    switch node {
    case .scalar(let scalar):
      self = ConfigValue(scalar)
    case .sequence(let nodes):
      self = .list(nodes.map { ConfigValue($0) })
    case .mapping(let pairs):
      self = .section(pairs.map { ConfigEntry($0.key.scalar?.string ?? "", ConfigValue($0.value)) })
    case .alias:
      self = .null
    }
  }

  private init(_ scalar: Node.Scalar) {
    let node = Node.scalar(scalar)
    if scalar.style != .plain {
      self = .text(scalar.string)
    } else if node.null != nil {
      self = .null
    } else if let number = Int(scalar.string) {
      self = .integer(number)
    } else if scalar.string == "true" || scalar.string == "false" {
      self = .boolean(scalar.string == "true")
    } else {
      self = .text(scalar.string)
    }
  }

  /// YAML text; texts of several lines become literal blocks.
  package func yaml() throws(ConfigurationError) -> String {
    do {
      return try serialize(node: node, width: -1, allowUnicode: true)
    } catch {
      throw ConfigurationError(file: "(output)", expected: "text that YAML can hold", found: "\(error)")
    }
  }

  private var node: Node {
    switch self {
    case .text(let text):
      if text.contains("\n") { return Node(text, Tag(.str), .literal) }
      return Node(text, Tag(.str), Self.needsQuotes(text) ? .doubleQuoted : .any)
    case .integer(let number): return Node(String(number), Tag(.int))
    case .boolean(let flag): return Node(flag ? "true" : "false", Tag(.bool))
    case .null: return Node("null", Tag(.null))
    case .list(let values): return Node(values.map(\.node), .implicit, values.isEmpty ? .flow : .block)
    case .section(let entries):
      let pairs = entries.map {
        (Node($0.key, Tag(.str), Self.needsQuotes($0.key) ? .doubleQuoted : .any), $0.value.node)
      }
      return Node(pairs, .implicit, entries.isEmpty ? .flow : .block)
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
