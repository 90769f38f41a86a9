import YAML

/// YAML as query values. Plain scalars mean what their spelling says; the last of repeated keys counts.
enum YAMLReader {
  /// The first document of a text.
  static func value(_ text: [UInt8]) throws -> VQLValue {
    do {
      return value(try YAMLNode.parse(text, uniqueKeys: false))
    } catch {
      // An empty document is null, as in other readers.
      if error.reason == .empty { return .null }
      throw CallError("yaml: \(error)")
    }
  }

  private static func value(_ node: YAMLNode) -> VQLValue {
    switch node.content {
    case .scalar(let text, let isPlain): return isPlain ? scalar(Array(text.utf8)) : .bytes(Array(text.utf8))
    case .sequence(let items): return .array(items.map(value))
    case .mapping(let pairs):
      let dict = VQLDict()
      var merged: [VQLValue] = []
      for pair in pairs {
        let (name, value) = (name(pair.key), value(pair.value))
        if name == "<<" { merged += Printf.operands(value) } else { dict.set(name, value) }
      }
      // `<<`: members of other mappings that this one has not itself.
      for case .dict(let other) in merged {
        other.eachMember { if dict.shape.find($0) == nil { dict.set($0, $1) } }
      }
      return .dict(dict)
    }
  }

  private static func name(_ key: YAMLNode) -> String {
    key.scalar ?? String(decoding: value(key).text, as: UTF8.self)
  }

  /// A plain scalar by its spelling.
  static func scalar(_ text: [UInt8]) -> VQLValue {
    switch String(decoding: text, as: UTF8.self) {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE": return .bool(true)
    case "false", "False", "FALSE": return .bool(false)
    default: break
    }
    if let first = text.first, (48...57).contains(first) || first == 0x2D || first == 0x2B || first == 0x2E {
      if let number = NumberText.parseInteger(text) { return .int(number) }
      if let number = NumberText.parseFloat(text) { return .double(number) }
    }
    return .bytes(text)
  }
}
