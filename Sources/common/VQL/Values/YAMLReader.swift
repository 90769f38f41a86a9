/// Reads YAML: block and flow collections, plain, quoted and block scalars, comments, anchors left out.
struct YAMLReader {
  private struct Line {
    let indent: Int
    /// Text after the indentation, comments still in it.
    let text: [UInt8]
    let number: Int
  }
  private static let maximumDepth = 100

  private let raw: [[UInt8]]
  private var lines: [Line] = []
  private var place = 0

  /// The first document of a text.
  static func value(_ text: [UInt8]) throws -> VQLValue {
    var reader = YAMLReader(text)
    return try reader.node(minimum: 0, depth: 0)
  }

  private init(_ text: [UInt8]) {
    raw = text.split(separator: 10, omittingEmptySubsequences: false).map { line in
      line.last == 13 ? Array(line.dropLast()) : Array(line)
    }
    for (number, line) in raw.enumerated() {
      let indent = line.prefix { $0 == 0x20 }.count
      let rest = Array(line[indent...])
      if number == 0 && rest.starts(with: "%".utf8) { continue }
      if indent == 0 && rest.starts(with: "---".utf8) {
        if lines.isEmpty { continue }
        break
      }
      if indent == 0 && rest.starts(with: "...".utf8) { break }
      lines.append(Line(indent: indent, text: rest, number: number))
    }
  }

  private func isBlank(_ line: Line) -> Bool {
    line.text.isEmpty || line.text.first == UInt8(ascii: "#") || line.text.allSatisfy { $0 == 9 }
  }

  private mutating func skipBlank() { while place < lines.count, isBlank(lines[place]) { place += 1 } }

  private func failure(_ text: String) -> CallError {
    CallError("yaml: line \((place < lines.count ? lines[place].number : raw.count) + 1): \(text)")
  }

  private static func isItem(_ text: [UInt8]) -> Bool {
    text.first == UInt8(ascii: "-") && (text.count == 1 || text[1] == 0x20 || text[1] == 9)
  }

  private mutating func node(minimum: Int, depth: Int) throws -> VQLValue {
    guard depth < Self.maximumDepth else { throw failure("nested too deeply") }
    skipBlank()
    guard place < lines.count, lines[place].indent >= minimum else { return .null }
    let line = lines[place]
    if Self.isItem(line.text) { return try sequence(line.indent, depth) }
    if Self.keyEnd(line.text) != nil { return try mapping(line.indent, depth) }
    place += 1
    return try inline(line.text, parent: line.indent - 1, depth)
  }

  private mutating func sequence(_ indent: Int, _ depth: Int) throws -> VQLValue {
    var elements: [VQLValue] = []
    while true {
      skipBlank()
      guard place < lines.count, lines[place].indent == indent, Self.isItem(lines[place].text) else { break }
      let line = lines[place]
      let rest = Array(line.text.dropFirst().drop { $0 == 0x20 })
      if rest.isEmpty || rest.first == UInt8(ascii: "#") {
        place += 1
        elements.append(try node(minimum: indent + 1, depth: depth + 1))
        continue
      }
      if Self.isItem(rest) || Self.keyEnd(rest) != nil {
        // The rest of the line is a nested collection that is indented as far as its first character.
        lines[place] = Line(indent: indent + line.text.count - rest.count, text: rest, number: line.number)
        elements.append(try node(minimum: indent + 1, depth: depth + 1))
        continue
      }
      place += 1
      elements.append(try inline(rest, parent: indent, depth))
    }
    return .array(elements)
  }

  private mutating func mapping(_ indent: Int, _ depth: Int) throws -> VQLValue {
    let dict = VQLDict()
    while true {
      skipBlank()
      guard place < lines.count, lines[place].indent == indent, let end = Self.keyEnd(lines[place].text) else { break }
      let line = lines[place]
      let name = try key(Array(line.text[..<end]))
      let rest = Array(line.text[(end + 1)...].drop { $0 == 0x20 || $0 == 9 })
      place += 1
      if rest.isEmpty || rest.first == UInt8(ascii: "#") {
        skipBlank()
        // A sequence may stand at the indentation of its key.
        let isSequence = place < lines.count && lines[place].indent == indent && Self.isItem(lines[place].text)
        dict.set(name, try node(minimum: isSequence ? indent : indent + 1, depth: depth + 1))
      } else {
        dict.set(name, try inline(rest, parent: indent, depth))
      }
    }
    if place < lines.count, !isBlank(lines[place]), lines[place].indent > indent {
      throw failure("did not find expected key")
    }
    return .dict(dict)
  }

  private func key(_ text: [UInt8]) throws -> String {
    let trimmed = Bytes.trim(text)
    if trimmed.first == 0x22 || trimmed.first == 0x27 {
      var flow = FlowReader(trimmed)
      return String(decoding: try flow.value(depth: 0).text, as: UTF8.self)
    }
    return String(decoding: trimmed, as: UTF8.self)
  }

  /// Where the colon after a key stands, when the line begins with a key.
  private static func keyEnd(_ text: [UInt8]) -> Int? {
    guard let first = text.first, first != UInt8(ascii: "{"), first != UInt8(ascii: "["), first != UInt8(ascii: "|")
    else {
      return nil
    }
    var at = 0
    if first == 0x22 || first == 0x27 {
      at = 1
      while at < text.count, text[at] != first { at += text[at] == 0x5C && first == 0x22 ? 2 : 1 }
      at += 1
    }
    while at < text.count {
      if text[at] == UInt8(ascii: ":"), at + 1 == text.count || text[at + 1] == 0x20 || text[at + 1] == 9 { return at }
      if text[at] == UInt8(ascii: "#"), at > 0, text[at - 1] == 0x20 { return nil }
      at += 1
    }
    return nil
  }

  /// A value that begins on the line of its key or dash.
  private mutating func inline(_ text: [UInt8], parent: Int, _ depth: Int) throws -> VQLValue {
    switch text.first {
    case UInt8(ascii: "|"), UInt8(ascii: ">"): return block(text, parent: parent)
    case UInt8(ascii: "{"), UInt8(ascii: "["), 0x22, 0x27:
      var joined = text
      while true {
        var flow = FlowReader(joined)
        if let value = try? flow.value(depth: depth), flow.isAtEnd { return value }
        guard place < lines.count, lines[place].indent > parent || lines[place].text.isEmpty else {
          throw failure("unterminated flow value")
        }
        joined += [0x20] + lines[place].text
        place += 1
      }
    default:
      var joined = Self.withoutComment(text)
      while place < lines.count, lines[place].indent > parent, !isBlank(lines[place]) {
        joined += [0x20] + Self.withoutComment(lines[place].text)
        place += 1
      }
      return FlowReader.scalar(Bytes.trim(joined))
    }
  }

  private static func withoutComment(_ text: [UInt8]) -> [UInt8] {
    for at in text.indices where at > 0 && text[at] == UInt8(ascii: "#") && text[at - 1] == 0x20 {
      return Bytes.trim(text[..<at])
    }
    return Bytes.trim(text)
  }

  private mutating func block(_ header: [UInt8], parent: Int) -> VQLValue {
    let folded = header.first == UInt8(ascii: ">")
    let options = header.dropFirst().prefix { $0 != 0x20 }
    let explicit = options.first { (49...57).contains($0) }.map { Int($0 - 48) }
    var body: [[UInt8]] = []
    var indent = explicit.map { max(parent, 0) + $0 }
    while place < lines.count {
      let line = lines[place]
      let source = raw[line.number]
      if source.allSatisfy({ $0 == 0x20 }) {
        body.append(Array(source.dropFirst(indent ?? source.count)))
        place += 1
        continue
      }
      guard line.indent > parent else { break }
      let used = indent ?? line.indent
      indent = used
      guard line.indent >= used else { break }
      body.append(Array(source.dropFirst(used)))
      place += 1
    }
    var trailing = 0
    while body.last?.isEmpty == true {
      body.removeLast()
      trailing += 1
    }
    var out: [UInt8] = []
    for (number, line) in body.enumerated() {
      if number > 0 {
        let previous = body[number - 1]
        let keeps = !folded || line.isEmpty || previous.isEmpty || line.first == 0x20 || previous.first == 0x20
        if keeps { if !(folded && line.isEmpty) || previous.isEmpty { out.append(10) } } else { out.append(0x20) }
      }
      out.append(contentsOf: line)
    }
    if options.contains(UInt8(ascii: "+")) {
      out.append(contentsOf: [UInt8](repeating: 10, count: trailing + (body.isEmpty ? 0 : 1)))
    } else if !options.contains(UInt8(ascii: "-")), !body.isEmpty {
      out.append(10)
    }
    return .bytes(out)
  }
}

/// Flow style: `{a: 1, b: [x, "y"]}` and quoted scalars.
struct FlowReader {
  private let text: [UInt8]
  private var place = 0

  init(_ text: [UInt8]) { self.text = text }

  var isAtEnd: Bool {
    let rest = text[min(place, text.count)...].drop { $0 == 0x20 || $0 == 9 }
    return rest.isEmpty || rest.first == UInt8(ascii: "#")
  }

  private mutating func skip() { while place < text.count, Bytes.isSpace(text[place]) { place += 1 } }

  mutating func value(depth: Int) throws -> VQLValue {
    skip()
    guard place < text.count, depth < 100 else { throw CallError("yaml: unexpected end") }
    switch text[place] {
    case UInt8(ascii: "["): return try list(depth)
    case UInt8(ascii: "{"): return try map(depth)
    case 0x22: return .bytes(try doubleQuoted())
    case 0x27: return .bytes(try singleQuoted())
    default:
      let start = place
      while place < text.count {
        let byte = text[place]
        if [UInt8(ascii: ","), UInt8(ascii: "]"), UInt8(ascii: "}")].contains(byte) { break }
        if byte == UInt8(ascii: ":"),
          place + 1 >= text.count || text[place + 1] == 0x20 || text[place + 1] == UInt8(ascii: ",")
        {
          break
        }
        place += 1
      }
      return Self.scalar(Bytes.trim(text[start..<place]))
    }
  }

  private mutating func list(_ depth: Int) throws -> VQLValue {
    place += 1
    var elements: [VQLValue] = []
    while true {
      skip()
      guard place < text.count else { throw CallError("yaml: unterminated list") }
      if text[place] == UInt8(ascii: "]") {
        place += 1
        return .array(elements)
      }
      if text[place] == UInt8(ascii: ",") {
        place += 1
        continue
      }
      let before = place
      elements.append(try value(depth: depth + 1))
      guard place > before else { throw CallError("yaml: unexpected character") }
    }
  }

  private mutating func map(_ depth: Int) throws -> VQLValue {
    place += 1
    let dict = VQLDict()
    while true {
      skip()
      guard place < text.count else { throw CallError("yaml: unterminated map") }
      if text[place] == UInt8(ascii: "}") {
        place += 1
        return .dict(dict)
      }
      if text[place] == UInt8(ascii: ",") {
        place += 1
        continue
      }
      let before = place
      let name = String(decoding: try value(depth: depth + 1).text, as: UTF8.self)
      skip()
      if place < text.count, text[place] == UInt8(ascii: ":") {
        place += 1
        dict.set(name, try value(depth: depth + 1))
      } else {
        dict.set(name, .null)
      }
      guard place > before else { throw CallError("yaml: unexpected character") }
    }
  }

  private mutating func singleQuoted() throws -> [UInt8] {
    place += 1
    var out: [UInt8] = []
    while place < text.count {
      if text[place] == 0x27 {
        guard place + 1 < text.count, text[place + 1] == 0x27 else {
          place += 1
          return out
        }
        place += 1
      }
      out.append(text[place])
      place += 1
    }
    throw CallError("yaml: unterminated string")
  }

  private mutating func doubleQuoted() throws -> [UInt8] {
    place += 1
    var out: [UInt8] = []
    while place < text.count {
      let byte = text[place]
      place += 1
      if byte == 0x22 { return out }
      guard byte == 0x5C, place < text.count else {
        out.append(byte)
        continue
      }
      let letter = text[place]
      place += 1
      let simple: [UInt8: UInt8] = [
        UInt8(ascii: "n"): 10, UInt8(ascii: "t"): 9, UInt8(ascii: "r"): 13, UInt8(ascii: "0"): 0, UInt8(ascii: "a"): 7,
        UInt8(ascii: "b"): 8, UInt8(ascii: "e"): 27, UInt8(ascii: "f"): 12, UInt8(ascii: "v"): 11,
      ]
      let digits =
        letter == UInt8(ascii: "x") ? 2 : letter == UInt8(ascii: "u") ? 4 : letter == UInt8(ascii: "U") ? 8 : 0
      if let value = simple[letter] {
        out.append(value)
      } else if digits > 0, place + digits <= text.count {
        let value = text[place..<place + digits].reduce(UInt32(0)) { $0 &* 16 &+ UInt32(Hex.digit($1) ?? 0) }
        UTF8Text.append(value, to: &out)
        place += digits
      } else {
        out.append(letter)
      }
    }
    throw CallError("yaml: unterminated string")
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
