/// JSON output exactly as language.md §3.9 describes it.
enum JSONWriter {
  /// Values nested deeper than this become null.
  static let maximumDepth = 12

  static func value(_ value: VQLValue, zone: VQLZone?, depth: Int = 0, to out: inout [UInt8]) {
    switch value {
    case .null, .query: out.append(contentsOf: "null".utf8)
    case .bool(let bool): out.append(contentsOf: (bool ? "true" : "false").utf8)
    case .int(let int): NumberText.appendInteger(int, to: &out)
    case .integer(let int): out.append(contentsOf: int.text.utf8)
    case .double(let double): NumberText.appendJSON(double, to: &out)
    case .bytes(let bytes): string(bytes, to: &out)
    case .array(let elements):
      guard depth < maximumDepth else { return out.append(contentsOf: "null".utf8) }
      out.append(UInt8(ascii: "["))
      for (place, element) in elements.enumerated() {
        if place > 0 { out.append(UInt8(ascii: ",")) }
        Self.value(element, zone: zone, depth: depth + 1, to: &out)
      }
      out.append(UInt8(ascii: "]"))
    case .dict(let dict): object(dict, zone: zone, depth: depth, to: &out)
    case .time(let time):
      out.append(UInt8(ascii: "\""))
      out.append(contentsOf: time.rfc3339(in: zone).utf8)
      out.append(UInt8(ascii: "\""))
    case .path(let path): string(path.text, to: &out)
    case .lazy(let thunk): Self.value(thunk.value, zone: zone, depth: depth, to: &out)
    case .object(let object): Self.value(object.output, zone: zone, depth: depth + 1, to: &out)
    }
  }

  static func object(_ dict: VQLDict, zone: VQLZone?, depth: Int, to out: inout [UInt8]) {
    guard depth < maximumDepth else { return out.append(contentsOf: "null".utf8) }
    out.append(UInt8(ascii: "{"))
    let names = dict.shape.encodedNames
    for place in 0..<min(dict.shape.visibleCount, names.count) {
      if place > 0 { out.append(UInt8(ascii: ",")) }
      out.append(contentsOf: names[place])
      value(dict.value(at: place), zone: zone, depth: depth + 1, to: &out)
    }
    out.append(UInt8(ascii: "}"))
  }

  static func string(_ bytes: [UInt8], to out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    var plain = 0
    var place = 0
    while place < bytes.count {
      let byte = bytes[place]
      if byte >= 0x20 && byte < 0x80 && !isSpecial(byte) {
        place += 1
        continue
      }
      out.append(contentsOf: bytes[plain..<place])
      if byte < 0x80 {
        escape(byte, to: &out)
        place += 1
      } else {
        place += scalar(bytes, at: place, to: &out)
      }
      plain = place
    }
    out.append(contentsOf: bytes[plain..<place])
    out.append(UInt8(ascii: "\""))
  }

  private static func isSpecial(_ byte: UInt8) -> Bool {
    byte == 0x22 || byte == 0x5C || byte == 0x3C || byte == 0x3E || byte == 0x26
  }

  private static func escape(_ byte: UInt8, to out: inout [UInt8]) {
    switch byte {
    case 0x22: out.append(contentsOf: "\\\"".utf8)
    case 0x5C: out.append(contentsOf: "\\\\".utf8)
    case 0x0A: out.append(contentsOf: "\\n".utf8)
    case 0x0D: out.append(contentsOf: "\\r".utf8)
    case 0x09: out.append(contentsOf: "\\t".utf8)
    case 0x7F: out.append(byte)
    default:
      out.append(contentsOf: "\\u00".utf8)
      out.append(contentsOf: Hex.encode([byte]))
    }
  }

  /// Writes one non-ASCII character, or U+FFFD for one bad byte; returns how many bytes were taken.
  private static func scalar(_ bytes: [UInt8], at place: Int, to out: inout [UInt8]) -> Int {
    let (scalar, length) = UTF8Text.decode(bytes, at: place)
    guard length > 0, let scalar else {
      out.append(contentsOf: [0xEF, 0xBF, 0xBD])
      return 1
    }
    if scalar == 0x2028 || scalar == 0x2029 {
      out.append(contentsOf: (scalar == 0x2028 ? "\\u2028" : "\\u2029").utf8)
    } else {
      out.append(contentsOf: bytes[place..<place + length])
    }
    return length
  }

  /// Indented by one space per level, as `serialize()` does.
  static func pretty(_ value: VQLValue, zone: VQLZone?, depth: Int = 0, to out: inout [UInt8]) {
    let indent = [UInt8(ascii: "\n")] + [UInt8](repeating: UInt8(ascii: " "), count: depth)
    switch value.resolved {
    case .array(let elements) where !elements.isEmpty && depth < maximumDepth:
      out.append(UInt8(ascii: "["))
      for (place, element) in elements.enumerated() {
        if place > 0 { out.append(UInt8(ascii: ",")) }
        out.append(contentsOf: indent + [UInt8(ascii: " ")])
        pretty(element, zone: zone, depth: depth + 1, to: &out)
      }
      out.append(contentsOf: indent + [UInt8(ascii: "]")])
    case .dict(let dict) where dict.count > 0 && depth < maximumDepth:
      out.append(UInt8(ascii: "{"))
      var first = true
      dict.eachMember { name, member in
        if !first { out.append(UInt8(ascii: ",")) }
        first = false
        out.append(contentsOf: indent + [UInt8(ascii: " ")])
        string(Array(name.utf8), to: &out)
        out.append(contentsOf: ": ".utf8)
        pretty(member, zone: zone, depth: depth + 1, to: &out)
      }
      out.append(contentsOf: indent + [UInt8(ascii: "}")])
    case .object(let object): pretty(object.output, zone: zone, depth: depth + 1, to: &out)
    case let other: Self.value(other, zone: zone, depth: depth, to: &out)
    }
  }
}

/// UTF-8 decoding over byte strings that may be invalid.
enum UTF8Text {
  /// The scalar at a place and its length; nil and 1 for a bad byte. The place must be inside the bytes.
  @inline(__always)
  static func decode(_ bytes: [UInt8], at place: Int) -> (scalar: UInt32?, length: Int) {
    bytes.withUnsafeBufferPointer { decode($0, at: place) }
  }

  static func decode(_ bytes: UnsafeBufferPointer<UInt8>, at place: Int) -> (scalar: UInt32?, length: Int) {
    guard place < bytes.count else { return (nil, 0) }
    let first = UInt32(bytes[place])
    if first < 0x80 { return (first, 1) }
    let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
    guard first >= 0xC2, first <= 0xF4, place + length <= bytes.count else { return (nil, 1) }
    var scalar = length == 2 ? first & 0x1F : length == 3 ? first & 0x0F : first & 0x07
    for offset in 1..<length {
      let byte = UInt32(bytes[place + offset])
      guard byte & 0xC0 == 0x80 else { return (nil, 1) }
      scalar = scalar << 6 | (byte & 0x3F)
    }
    let tooShort = (length == 3 && scalar < 0x800) || (length == 4 && (scalar < 0x10000 || scalar > 0x10FFFF))
    if tooShort || (0xD800...0xDFFF).contains(scalar) { return (nil, 1) }
    return (scalar, length)
  }

  static func append(_ scalar: UInt32, to out: inout [UInt8]) {
    guard let value = Unicode.Scalar(scalar) else { return out.append(contentsOf: [0xEF, 0xBF, 0xBD]) }
    out.append(contentsOf: UTF8.encode(value) ?? UTF8.encodedReplacementCharacter)
  }
}
