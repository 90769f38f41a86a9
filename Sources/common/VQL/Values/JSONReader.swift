/// Parses JSON into values; the order of members is kept.
struct JSONReader {
  /// Deeper nesting is refused.
  static let maximumDepth = 200

  /// The names of the last object of a stream: the next one usually has the same.
  final class NameMemory {
    fileprivate var shape: Shape?
    /// For objects one level further in.
    fileprivate let inner: NameMemory?
    /// Objects in a row that had other names; many of them are not worth learning.
    fileprivate var misses = 0

    init(levels: Int = 3) { inner = levels > 1 ? NameMemory(levels: levels - 1) : nil }

    /// The names with their quotes, one after the other, and where each ends.
    fileprivate var spelling: [UInt8] = []
    fileprivate var ends: [Int] = []

    fileprivate func learn(_ dict: VQLDict) {
      guard dict.count > 0, dict.count <= 64 else { return }
      spelling = []
      ends = []
      for name in dict.keys {
        spelling += [UInt8(ascii: "\"")] + Array(name.utf8) + [UInt8(ascii: "\"")]
        ends.append(spelling.count)
      }
      shape = Shape(dict.keys)
    }
  }

  private let input: UnsafeBufferPointer<UInt8>
  private var place = 0
  private var memory: NameMemory?

  private init(_ input: UnsafeBufferPointer<UInt8>, memory: NameMemory? = nil) {
    self.input = input
    self.memory = memory
  }

  /// One value and nothing after it; nil when the text is not JSON.
  static func value(_ text: [UInt8]) -> VQLValue? {
    text.withUnsafeBufferPointer { value($0) }
  }

  static func value(_ text: UnsafeBufferPointer<UInt8>, memory: NameMemory? = nil) -> VQLValue? {
    var reader = JSONReader(text, memory: memory)
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
    while place < input.count {
      let byte = input[place]
      guard byte == 0x20 || byte == 10 || byte == 13 || byte == 9 else { return }
      place += 1
    }
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

  /// An object whose plain names are those of the last one; nil, with the place unchanged, when it is another.
  private mutating func rememberedObject(
    _ shape: Shape, _ spelling: UnsafeBufferPointer<UInt8>, _ ends: UnsafeBufferPointer<Int>, depth: Int
  ) -> VQLValue? {
    let start = place
    var values: [VQLValue] = []
    values.reserveCapacity(ends.count)
    place += 1
    var from = 0
    for end in ends {
      skipBlank()
      let count = end - from
      guard place + count < input.count else { break }
      var offset = 0
      while offset < count, input[place + offset] == spelling[from + offset] { offset += 1 }
      guard offset == count else { break }
      from = end
      place += count
      skipBlank()
      guard place < input.count, input[place] == UInt8(ascii: ":") else { break }
      place += 1
      guard let member = value(depth: depth + 1) else { break }
      values.append(member)
      skipBlank()
      guard place < input.count else { break }
      place += 1
      if input[place - 1] == UInt8(ascii: "}"), values.count == ends.count {
        return .dict(VQLDict(shape: shape, values: values))
      }
      guard input[place - 1] == UInt8(ascii: ",") else { break }
    }
    place = start
    return nil
  }

  private mutating func object(depth: Int) -> VQLValue? {
    guard let memory else { return plainObject(depth: depth) }
    self.memory = memory.inner
    defer { self.memory = memory }
    if let shape = memory.shape {
      let known = memory.spelling.withUnsafeBufferPointer { spelling in
        memory.ends.withUnsafeBufferPointer { rememberedObject(shape, spelling, $0, depth: depth) }
      }
      if let known {
        memory.misses = 0
        return known
      }
    }
    let made = plainObject(depth: depth)
    memory.misses += 1
    if memory.misses < 20 || memory.misses % 100 == 0, case .dict(let dict)? = made { memory.learn(dict) }
    return made
  }

  private mutating func plainObject(depth: Int) -> VQLValue? {
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
    while place < input.count, input[place] != UInt8(ascii: "\""), input[place] != UInt8(ascii: "\\"),
      input[place] >= 0x20
    {
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
    if isFloat, let value = shortFloat(start) { return .double(value) }
    let text = String(decoding: UnsafeBufferPointer(rebasing: input[start..<place]), as: UTF8.self)
    if !isFloat {
      if let value = Int64(text) { return .int(value) }
      if let value = UInt64(text) { return .integer(VQLInteger(bits: Int64(bitPattern: value), kind: .uint64)) }
    }
    return Double(text).flatMap { $0.isFinite ? .double($0) : nil }
  }

  /// Few digits and no exponent: the quotient of two exact floats is correctly rounded.
  private func shortFloat(_ start: Int) -> Double? {
    guard place - start <= 16 else { return nil }
    var digits: Int64 = 0
    var divisor = 1.0
    var afterPoint = false
    let negative = input[start] == UInt8(ascii: "-")
    for at in (negative ? start + 1 : start)..<place {
      let byte = input[at]
      if byte == UInt8(ascii: "."), !afterPoint {
        afterPoint = true
        continue
      }
      guard (48...57).contains(byte) else { return nil }
      digits = digits * 10 + Int64(byte - 48)
      if afterPoint { divisor *= 10 }
    }
    guard afterPoint, divisor > 1 else { return nil }
    let value = Double(digits) / divisor
    return negative ? -value : value
  }
}
