/// XML as nested dicts (builtins.md §4).
struct XMLReader {
  private static let maximumDepth = 200
  private let input: [UInt8]
  private var place = 0

  /// An element with all that it holds.
  struct Node {
    let name: String
    var attributes: [(String, [UInt8])] = []
    var children: [Node] = []
    var text: [UInt8] = []

    /// Text alone stands for itself; repeated children become an array.
    var value: VQLValue {
      if attributes.isEmpty && children.isEmpty { return .bytes(text) }
      let dict = VQLDict()
      for (name, value) in attributes { dict.set("Attr" + name, .bytes(value)) }
      for child in children {
        guard let known = dict[child.name] else {
          dict.set(child.name, child.value)
          continue
        }
        if case .array(let list) = known {
          dict.set(child.name, .array(list + [child.value]))
        } else {
          dict.set(child.name, .array([known, child.value]))
        }
      }
      if !text.isEmpty { dict.set("#text", .bytes(text)) }
      return .dict(dict)
    }
  }

  static func document(_ input: [UInt8]) throws -> VQLValue {
    let root = try nodes(input)
    return .dict([(root.name, root.value)])
  }

  /// The root element.
  static func nodes(_ input: [UInt8]) throws -> Node {
    var reader = XMLReader(input: input)
    try reader.skipProlog()
    guard reader.place < input.count else { throw CallError("xml: no element found") }
    return try reader.element(depth: 0)
  }

  private init(input: [UInt8]) { self.input = input }

  private func starts(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard place + count <= input.count else { return false }
    for offset in 0..<count where input[place + offset] != text.utf8Start[offset] { return false }
    return true
  }

  private mutating func skip(past text: String) throws {
    guard let found = Bytes.find(Array(text.utf8), in: input, from: place) else {
      throw CallError("xml: unexpected EOF")
    }
    place = found + text.utf8.count
  }

  /// Moves over a declaration, comment or processing instruction; false when there is none here.
  private mutating func skipMarkup() throws -> Bool {
    if starts("<!--") {
      try skip(past: "-->")
    } else if starts("<?") {
      try skip(past: "?>")
    } else if starts("<!"), !starts("<![CDATA[") {
      var depth = 0
      while place < input.count {
        if input[place] == UInt8(ascii: "<") { depth += 1 }
        if input[place] == UInt8(ascii: ">") { depth -= 1 }
        place += 1
        if depth == 0 { break }
      }
    } else {
      return false
    }
    return true
  }

  private mutating func skipProlog() throws {
    while place < input.count {
      if try skipMarkup() { continue }
      if input[place] == UInt8(ascii: "<") { return }
      place += 1
    }
  }

  private static func isName(_ byte: UInt8) -> Bool {
    byte >= 128 || CharacterRanges.word.contains(UInt32(byte)) || "-.:".utf8.contains(byte)
  }

  /// A name without its namespace prefix.
  private mutating func name() throws -> String {
    let start = place
    while place < input.count, Self.isName(input[place]) { place += 1 }
    guard place > start else { throw CallError("xml: expected a name") }
    let text = String(decoding: input[start..<place], as: UTF8.self)
    return text.split(separator: ":").last.map(String.init) ?? text
  }

  private mutating func element(depth: Int) throws -> Node {
    guard depth < Self.maximumDepth else { throw CallError("xml: nested too deeply") }
    place += 1
    var node = Node(name: try name())
    while true {
      while place < input.count, Bytes.isSpace(input[place]) { place += 1 }
      guard place < input.count else { throw CallError("xml: unexpected EOF") }
      if starts("/>") {
        place += 2
        return node
      }
      if input[place] == UInt8(ascii: ">") { break }
      node.attributes.append(try attribute())
    }
    place += 1
    try content(of: &node, depth)
    node.text = Bytes.trim(node.text)
    return node
  }

  private mutating func attribute() throws -> (String, [UInt8]) {
    let name = try name()
    while place < input.count, Bytes.isSpace(input[place]) { place += 1 }
    guard place < input.count, input[place] == UInt8(ascii: "=") else { throw CallError("xml: expected =") }
    place += 1
    while place < input.count, Bytes.isSpace(input[place]) { place += 1 }
    guard place < input.count, input[place] == 0x22 || input[place] == 0x27 else {
      throw CallError("xml: expected a quote")
    }
    let quote = input[place]
    let start = place + 1
    guard let end = input[start...].firstIndex(of: quote) else { throw CallError("xml: unexpected EOF") }
    place = end + 1
    return (name, Self.decode(input[start..<end]))
  }

  private mutating func content(of node: inout Node, _ depth: Int) throws {
    while true {
      guard place < input.count else { throw CallError("xml: unexpected EOF") }
      if starts("</") { return try skip(past: ">") }
      if starts("<![CDATA[") {
        let start = place + 9
        try skip(past: "]]>")
        node.text += input[start..<(place - 3)]
      } else if try skipMarkup() {
        continue
      } else if input[place] == UInt8(ascii: "<") {
        node.children.append(try element(depth: depth + 1))
      } else {
        let end = input[place...].firstIndex(of: UInt8(ascii: "<")) ?? input.count
        node.text += Self.decode(input[place..<end])
        place = end
      }
    }
  }

  private static func decode(_ text: ArraySlice<UInt8>) -> [UInt8] {
    guard text.contains(UInt8(ascii: "&")) else { return Array(text) }
    let named = ["lt": "<", "gt": ">", "amp": "&", "quot": "\"", "apos": "'"]
    var out: [UInt8] = []
    var place = text.startIndex
    while place < text.endIndex {
      if text[place] == UInt8(ascii: "&"), let end = text[place...].prefix(12).firstIndex(of: UInt8(ascii: ";")) {
        let name = String(decoding: text[(place + 1)..<end], as: UTF8.self)
        let number =
          name.hasPrefix("#x")
          ? UInt32(name.dropFirst(2), radix: 16) : name.hasPrefix("#") ? UInt32(name.dropFirst()) : nil
        if let value = named[name] {
          out.append(contentsOf: value.utf8)
          place = end + 1
          continue
        }
        if let number {
          UTF8Text.append(number, to: &out)
          place = end + 1
          continue
        }
      }
      out.append(text[place])
      place += 1
    }
    return out
  }
}
