extension Functions {
  static let parsers: [FunctionSpec] = [
    FunctionSpec("parse_json", "data*: string, schema: string[]", "A JSON object as a dict.") { call in
      let data = try call.required("data")
      guard data.first == UInt8(ascii: "{"), case .dict(let dict)? = JSONReader.value(data) else {
        throw CallError("Invalid JSON object: \(String(decoding: data.prefix(100), as: UTF8.self))")
      }
      try call.validate(.dict(dict))
      return .dict(dict)
    },
    FunctionSpec("parse_json_array", "data*: string, schema: string[]", "A JSON array.") { call in
      let elements = VQLValue.array(try JSONReader.array(try call.required("data")))
      try call.validate(elements)
      return elements
    },
    FunctionSpec("parse_yaml", "filename*: path, accessor: string, schema: string[]", "A YAML document.") { call in
      let value = try YAMLReader.value(try whole(call, "filename"))
      try call.validate(value)
      return value
    },
    FunctionSpec("parse_xml", "file*: path, accessor: string", "An XML document as dicts.") { call in
      try XMLReader.document(try whole(call, "file"))
    },
    FunctionSpec(
      "parse_binary",
      "filename*: path, accessor: string, profile: string, struct*: string, offset: int, env: dict",
      "A binary structure by a profile."
    ) { call in
      let source = try Accessors.find(call.accessor).open(try call.path("filename"), call.scope)
      let name = String(decoding: try call.required("struct"), as: UTF8.self)
      let layer = try call.dict("env") ?? VQLDict()
      let profile = try BinaryProfile(call.string("profile") ?? [], call.scope.child(.row(layer)))
      return try profile.parse(name, BinaryData(source), at: try call.int("offset") ?? 0)
    },
  ]

  /// Documents above this are refused.
  private static let maximumDocument = 64 << 20

  private static func whole(_ call: Call, _ name: String) throws -> [UInt8] {
    let source = try Accessors.find(call.accessor).open(try call.path(name), call.scope)
    let data = try source.readAll(limit: maximumDocument + 1)
    guard data.count <= maximumDocument else { throw CallError("the file is too large") }
    return data
  }
}

/// XML as nested dicts (builtins.md §4).
struct XMLReader {
  private static let maximumDepth = 200
  private let input: [UInt8]
  private var place = 0

  static func document(_ input: [UInt8]) throws -> VQLValue {
    var reader = XMLReader(input: input)
    let dict = VQLDict()
    try reader.skipProlog()
    guard reader.place < input.count else { throw CallError("xml: no element found") }
    let (name, value) = try reader.element(depth: 0)
    dict.set(name, value)
    return .dict(dict)
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

  private mutating func element(depth: Int) throws -> (String, VQLValue) {
    guard depth < Self.maximumDepth else { throw CallError("xml: nested too deeply") }
    place += 1
    let tag = try name()
    let dict = VQLDict()
    while true {
      while place < input.count, Bytes.isSpace(input[place]) { place += 1 }
      guard place < input.count else { throw CallError("xml: unexpected EOF") }
      if starts("/>") {
        place += 2
        return (tag, dict.count == 0 ? .bytes([]) : .dict(dict))
      }
      if input[place] == UInt8(ascii: ">") { break }
      try attribute(dict)
    }
    place += 1
    let text = try children(of: tag, dict, depth)
    if dict.count == 0 { return (tag, .bytes(text)) }
    if !text.isEmpty { dict.set("#text", .bytes(text)) }
    return (tag, .dict(dict))
  }

  private mutating func attribute(_ dict: VQLDict) throws {
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
    dict.set("Attr" + name, .bytes(Self.decode(input[start..<end])))
    place = end + 1
  }

  private mutating func children(of tag: String, _ dict: VQLDict, _ depth: Int) throws -> [UInt8] {
    var text: [UInt8] = []
    while true {
      guard place < input.count else { throw CallError("xml: unexpected EOF") }
      if starts("</") {
        try skip(past: ">")
        return Bytes.trim(text)
      }
      if starts("<![CDATA[") {
        let start = place + 9
        try skip(past: "]]>")
        text += input[start..<(place - 3)]
      } else if try skipMarkup() {
        continue
      } else if input[place] == UInt8(ascii: "<") {
        let (name, value) = try element(depth: depth + 1)
        if let known = dict[name] {
          if case .array(let list) = known {
            dict.set(name, .array(list + [value]))
          } else {
            dict.set(name, .array([known, value]))
          }
        } else {
          dict.set(name, value)
        }
      } else {
        let end = input[place...].firstIndex(of: UInt8(ascii: "<")) ?? input.count
        text += Self.decode(input[place..<end])
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
