/// Parses JSON into values; the order of members is kept.
struct JSONReader {
  /// Deeper nesting is refused.
  static let maximumDepth = 200

  private let input: UnsafeBufferPointer<UInt8>
  private var place = 0

  private init(_ input: UnsafeBufferPointer<UInt8>) { self.input = input }

  /// One value and nothing after it; nil when the text is not JSON.
  static func value(_ text: [UInt8]) -> VQLValue? {
    text.withUnsafeBufferPointer { value($0) }
  }

  static func value(_ text: UnsafeBufferPointer<UInt8>) -> VQLValue? {
    var reader = JSONReader(text)
    guard let value = reader.value(depth: 0) else { return nil }
    reader.skipBlank()
    return reader.place == text.count ? value : nil
  }

  /// The elements of an array; empty text is an empty array.
  static func array(_ text: [UInt8]) throws -> [VQLValue] {
    if Bytes.trim(text).isEmpty { return [] }
    guard case .array(let elements)? = value(text) else {
      throw CallError("Invalid JSON array: \(String(decoding: text.prefix(100), as: UTF8.self))")
    }
    return elements
  }

  private mutating func skipBlank() {
    while place < input.count, input[place] <= 0x20, [0x20, 9, 10, 13].contains(input[place]) { place += 1 }
  }

  private mutating func value(depth: Int) -> VQLValue? {
    skipBlank()
    guard place < input.count, depth < Self.maximumDepth else { return nil }
    switch input[place] {
    case UInt8(ascii: "{"): return object(depth: depth)
    case UInt8(ascii: "["): return list(depth: depth)
    case UInt8(ascii: "\""): return string().map { .bytes($0) }
    case UInt8(ascii: "t"): return word("true", .bool(true))
    case UInt8(ascii: "f"): return word("false", .bool(false))
    case UInt8(ascii: "n"): return word("null", .null)
    default: return number()
    }
  }

  private mutating func word(_ text: StaticString, _ value: VQLValue) -> VQLValue? {
    let count = text.utf8CodeUnitCount
    guard place + count <= input.count else { return nil }
    for offset in 0..<count where input[place + offset] != text.utf8Start[offset] { return nil }
    place += count
    return value
  }

  private mutating func object(depth: Int) -> VQLValue? {
    place += 1
    let dict = VQLDict()
    skipBlank()
    if place < input.count, input[place] == UInt8(ascii: "}") {
      place += 1
      return .dict(dict)
    }
    while true {
      skipBlank()
      guard place < input.count, input[place] == UInt8(ascii: "\""), let name = string() else { return nil }
      skipBlank()
      guard place < input.count, input[place] == UInt8(ascii: ":") else { return nil }
      place += 1
      guard let member = value(depth: depth + 1) else { return nil }
      dict.set(String(decoding: name, as: UTF8.self), member)
      skipBlank()
      guard place < input.count else { return nil }
      place += 1
      if input[place - 1] == UInt8(ascii: "}") { return .dict(dict) }
      guard input[place - 1] == UInt8(ascii: ",") else { return nil }
    }
  }

  private mutating func list(depth: Int) -> VQLValue? {
    place += 1
    var elements: [VQLValue] = []
    skipBlank()
    if place < input.count, input[place] == UInt8(ascii: "]") {
      place += 1
      return .array([])
    }
    while true {
      guard let element = value(depth: depth + 1) else { return nil }
      elements.append(element)
      skipBlank()
      guard place < input.count else { return nil }
      place += 1
      if input[place - 1] == UInt8(ascii: "]") { return .array(elements) }
      guard input[place - 1] == UInt8(ascii: ",") else { return nil }
    }
  }

  private mutating func string() -> [UInt8]? {
    place += 1
    let start = place
    while place < input.count, input[place] != UInt8(ascii: "\""), input[place] != UInt8(ascii: "\\"), input[place] >= 0x20 {
      place += 1
    }
    guard place < input.count else { return nil }
    var out = [UInt8](UnsafeBufferPointer(rebasing: input[start..<place]))
    while place < input.count {
      let byte = input[place]
      place += 1
      if byte == UInt8(ascii: "\"") { return out }
      if byte < 0x20 { return nil }
      guard byte == UInt8(ascii: "\\") else {
        out.append(byte)
        continue
      }
      guard place < input.count, escape(&out) else { return nil }
    }
    return nil
  }

  private mutating func escape(_ out: inout [UInt8]) -> Bool {
    let letter = input[place]
    place += 1
    switch letter {
    case UInt8(ascii: "n"): out.append(10)
    case UInt8(ascii: "t"): out.append(9)
    case UInt8(ascii: "r"): out.append(13)
    case UInt8(ascii: "b"): out.append(8)
    case UInt8(ascii: "f"): out.append(12)
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(letter)
    case UInt8(ascii: "u"):
      guard var scalar = unit() else { return false }
      if (0xD800..<0xDC00).contains(scalar), place + 1 < input.count, input[place] == UInt8(ascii: "\\"),
        input[place + 1] == UInt8(ascii: "u")
      {
        let mark = place
        place += 2
        if let low = unit(), (0xDC00..<0xE000).contains(low) {
          scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
        } else {
          place = mark
        }
      }
      UTF8Text.append(scalar, to: &out)
    default: return false
    }
    return true
  }

  private mutating func unit() -> UInt32? {
    guard place + 4 <= input.count else { return nil }
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Hex.digit(input[place]) else { return nil }
      value = value << 4 | UInt32(digit)
      place += 1
    }
    return value
  }

  private mutating func number() -> VQLValue? {
    let start = place
    var isFloat = false
    if input[place] == UInt8(ascii: "-") { place += 1 }
    guard place < input.count, (48...57).contains(input[place]) else { return nil }
    while place < input.count {
      switch input[place] {
      case 48...57: break
      case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"), UInt8(ascii: "+"), UInt8(ascii: "-"): isFloat = true
      default: return finish(start, isFloat)
      }
      place += 1
    }
    return finish(start, isFloat)
  }

  private func finish(_ start: Int, _ isFloat: Bool) -> VQLValue? {
    if !isFloat, place - start < 18 {
      var value: Int64 = 0
      let negative = input[start] == UInt8(ascii: "-")
      for at in (negative ? start + 1 : start)..<place { value = value * 10 + Int64(input[at] - 48) }
      return .int(negative ? -value : value)
    }
    let text = String(decoding: UnsafeBufferPointer(rebasing: input[start..<place]), as: UTF8.self)
    if !isFloat {
      if let value = Int64(text) { return .int(value) }
      if let value = UInt64(text) { return .integer(VQLInteger(bits: Int64(bitPattern: value), kind: .uint64)) }
    }
    return Double(text).flatMap { $0.isFinite ? .double($0) : nil }
  }
}
