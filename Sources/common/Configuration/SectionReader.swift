import YAML

/// Reads the keys of one section, remembers which were asked for, and refuses the others at the end.
final class SectionReader {
  let file: String
  /// Dotted name; empty for the whole file.
  let path: String
  let line: Int?
  private let keys: [String]
  private let entries: [String: (line: Int?, node: YAMLNode)]
  private var known: Set<String> = []
  /// Takes the unknown keys when they are not to be refused.
  private let foreign: ForeignKeys?

  /// - Throws: ``ConfigurationError`` when the node is not a section.
  init(
    _ node: YAMLNode, file: String, path: String = "", line: Int? = nil, foreign: ForeignKeys? = nil
  ) throws(ConfigurationError) {
    self.file = file
    self.foreign = foreign
    self.path = path
    self.line = line ?? node.line
    guard case .mapping(let mapping) = node.content else {
      throw ConfigurationError(
        file: file, line: line ?? node.line, key: path, expected: "a section with keys", found: Self.kind(node))
    }
    var keys: [String] = []
    var entries: [String: (line: Int?, node: YAMLNode)] = [:]
    for pair in mapping {
      guard let name = pair.key.scalar else {
        throw ConfigurationError(
          file: file, line: pair.key.line, key: path, expected: "a name as key", found: Self.kind(pair.key))
      }
      keys.append(name)
      entries[name] = (pair.key.line, pair.value)
    }
    self.keys = keys
    self.entries = entries
  }

  /// The whole file.
  ///
  /// - Parameter foreign: collects unknown keys; without it they are refused.
  static func file(text: String, file: String, foreign: ForeignKeys? = nil) throws(ConfigurationError) -> SectionReader
  {
    try SectionReader(try YAMLDocument.compose(text: text, file: file), file: file, foreign: foreign)
  }

  // MARK: Values

  func has(_ key: String) -> Bool {
    known.insert(key)
    return node(key) != nil
  }

  /// A scalar as text; null and a missing key give nil.
  func string(_ key: String) throws(ConfigurationError) -> String? {
    guard let node = node(key) else { return nil }
    guard let scalar = node.scalar else { throw wrong(key, "a text", Self.kind(node)) }
    return scalar
  }

  /// A text that must be there and not empty.
  func requiredString(_ key: String, _ expected: String, remedy: String? = nil) throws(ConfigurationError) -> String {
    guard let text = try string(key), !text.isEmpty else {
      let found = entries[key] == nil ? "no such key" : "an empty text"
      throw wrong(key, expected, found, remedy: remedy)
    }
    return text
  }

  /// An integer in a range; nil when the key is missing.
  func integer(_ key: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
    guard let node = node(key) else { return nil }
    let expected =
      range.upperBound == .max
      ? "an integer of at least \(range.lowerBound)" : "an integer from \(range.lowerBound) to \(range.upperBound)"
    guard let scalar = node.plainScalar, let value = Int(scalar) else {
      throw wrong(key, expected, Self.kind(node))
    }
    guard range.contains(value) else { throw wrong(key, expected, String(value)) }
    return value
  }

  func boolean(_ key: String) throws(ConfigurationError) -> Bool? {
    guard let node = node(key) else { return nil }
    switch node.plainScalar?.lowercased() {
    case "true", "yes", "on": return true
    case "false", "no", "off": return false
    default: throw wrong(key, "true or false", Self.kind(node))
    }
  }

  /// A list of texts; empty when the key is missing.
  func strings(_ key: String) throws(ConfigurationError) -> [String] {
    guard let node = node(key) else { return [] }
    guard case .sequence(let items) = node.content else { throw wrong(key, "a list of texts", Self.kind(node)) }
    var texts: [String] = []
    for item in items {
      guard let scalar = item.scalar else {
        throw wrong(key, "a list of texts", "\(Self.kind(item)) in the list", line: item.line)
      }
      texts.append(scalar)
    }
    return texts
  }

  /// A map of texts; empty when the key is missing.
  func map(_ key: String) throws(ConfigurationError) -> [String: String] {
    guard let node = node(key) else { return [:] }
    guard case .mapping(let pairs) = node.content else { throw wrong(key, "a map of texts", Self.kind(node)) }
    var map: [String: String] = [:]
    for pair in pairs {
      guard let name = pair.key.scalar, let text = pair.value.scalar else {
        throw wrong(key, "a map of texts", "\(Self.kind(pair.value)) in the map", line: pair.value.line)
      }
      map[name] = text
    }
    return map
  }

  /// A section; nil when the key is missing or null.
  func section(_ key: String) throws(ConfigurationError) -> SectionReader? {
    guard let node = node(key) else { return nil }
    return try SectionReader(node, file: file, path: dotted(key), line: entries[key]?.line, foreign: foreign)
  }

  /// A list of sections; empty when the key is missing.
  func sections(_ key: String) throws(ConfigurationError) -> [SectionReader] {
    guard let node = node(key) else { return [] }
    guard case .sequence(let items) = node.content else { throw wrong(key, "a list of sections", Self.kind(node)) }
    var sections: [SectionReader] = []
    for (index, item) in items.enumerated() {
      sections.append(
        try SectionReader(item, file: file, path: "\(dotted(key))[\(index)]", line: item.line, foreign: foreign))
    }
    return sections
  }

  /// Whatever is there, unread.
  func value(_ key: String) -> ConfigValue? {
    node(key).map { ConfigValue($0) }
  }

  /// Keys that are legal here and not used by us; returned as they are written.
  func keep(_ names: [String]) -> [ConfigEntry] {
    names.compactMap { name in value(name).map { ConfigEntry(name, $0) } }
  }

  /// Refuses keys that nobody asked for.
  ///
  /// - Throws: ``ConfigurationError`` for the first of them, with the nearest known key.
  func finish() throws(ConfigurationError) {
    if let foreign {
      foreign.paths += keys.filter { !known.contains($0) }.map(dotted)
      return
    }
    guard let key = keys.first(where: { !known.contains($0) }) else { return }
    let near = known.map { (EditDistance.between($0, key), $0) }.filter { $0.0 <= 2 }.min { $0 < $1 }
    throw wrong(
      key, "a known key", "an unknown key",
      remedy: near.map { "did you mean \($0.1)?" } ?? "remove it, or check its section")
  }

  // MARK: Errors

  /// An error about a key of this section.
  func wrong(
    _ key: String, _ expected: String, _ found: String, remedy: String? = nil, line: Int? = nil
  ) -> ConfigurationError {
    ConfigurationError(
      file: file, line: line ?? entries[key]?.line ?? self.line, key: dotted(key), expected: expected, found: found,
      remedy: remedy)
  }

  /// A value for a message: short, on one line. Not for secrets.
  static func shown(_ text: String) -> String {
    let printable = text.map { $0.isNewline || ($0.asciiValue ?? 32) < 32 ? " " : String($0) }.joined()
    return "“\(printable.count > 60 ? printable.prefix(60) + "…" : printable)”"
  }

  private func dotted(_ key: String) -> String {
    path.isEmpty ? key : "\(path).\(key)"
  }

  private func node(_ key: String) -> YAMLNode? {
    known.insert(key)
    guard let node = entries[key]?.node, !node.isNull else { return nil }
    return node
  }

  private static func kind(_ node: YAMLNode) -> String {
    switch node.content {
    case .scalar(let text, _):
      if node.isNull { return "nothing" }
      return text.count > 32 || text.contains("\n") ? "a long text" : "a text or number"
    case .sequence: return "a list"
    case .mapping: return "a section"
    }
  }
}

/// The keys of a file that this version does not know, as dotted paths.
final class ForeignKeys {
  var paths: [String] = []
}

/// How far two key names are from each other.
enum EditDistance {
  /// Insertions, deletions and replacements needed, counted up to the length of the longer text.
  static func between(_ left: String, _ right: String) -> Int {
    let left = Array(left.utf8.prefix(64))
    var row = Array(0...left.count)
    for (index, byte) in right.utf8.prefix(64).enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for column in left.indices {
        let above = row[column + 1]
        let replaced = diagonal + (left[column] == byte ? 0 : 1)
        row[column + 1] = min(replaced, above + 1, row[column] + 1)
        diagonal = above
      }
    }
    return row[left.count]
  }
}
