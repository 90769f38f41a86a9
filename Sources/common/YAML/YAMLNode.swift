/// A piece of a YAML document with the place where it stands.
package struct YAMLNode: Sendable {
  /// What a node holds. Aliases are replaced by what they stand for.
  package indirect enum Content: Sendable {
    /// `isPlain` is false for quoted and block scalars, which are texts whatever they look like.
    case scalar(String, isPlain: Bool)
    case sequence([YAMLNode])
    /// In the order of the text; a key stands once.
    case mapping([YAMLPair])
  }

  package var content: Content
  /// The line it begins on, from 1.
  package var line: Int

  package init(_ content: Content, line: Int) {
    self.content = content
    self.line = line
  }

  /// The text of a scalar of any style.
  package var scalar: String? {
    guard case .scalar(let text, _) = content else { return nil }
    return text
  }

  /// The text of a plain scalar, whose spelling decides what it means.
  package var plainScalar: String? {
    guard case .scalar(let text, isPlain: true) = content else { return nil }
    return text
  }

  /// Whether this is the null value (YAML 1.2 core schema).
  package var isNull: Bool {
    plainScalar.map { ["", "~", "null", "Null", "NULL"].contains($0) } ?? false
  }
}

/// A key of a mapping and its value.
package struct YAMLPair: Sendable {
  package var key: YAMLNode
  package var value: YAMLNode

  package init(key: YAMLNode, value: YAMLNode) {
    self.key = key
    self.value = value
  }
}

/// Why a text is not read as YAML. It never quotes the text, which may hold secrets.
package struct YAMLError: Error, Sendable, CustomStringConvertible {
  package enum Reason: Sendable, Equatable {
    case empty
    /// The parser's own words about the syntax.
    case syntax(String)
    case repeatedKey(String)
    /// Nested or repeated by aliases beyond what a configuration can need.
    case tooLarge
    /// A scalar that cannot be written.
    case unwritable(String)
  }

  package var reason: Reason
  /// From 1; nil when it concerns the whole text.
  package var line: Int?
  package var column: Int?

  package init(_ reason: Reason, line: Int? = nil, column: Int? = nil) {
    self.reason = reason
    self.line = line
    self.column = column
  }

  package var description: String {
    let place = line.map { "line \($0): " } ?? ""
    switch reason {
    case .empty: return "the text is empty"
    case .syntax(let problem): return place + problem
    case .repeatedKey(let key): return "\(place)the key \(key) is there twice"
    case .tooLarge: return "\(place)nested too deeply, or too large"
    case .unwritable(let problem): return problem
    }
  }
}
