/// Turns the strings of rules into patterns over bytes.
enum YaraStrings {
  struct Modifiers {
    var ignoresCase = false
    var isWide = false
    var isASCII = false
    var isFullWord = false
    var isPrivate = false
    var hidden: ClosedRange<UInt8>?
    var isBase64 = false
  }

  /// A text in each form that its modifiers ask for.
  static func text(_ text: [UInt8], _ modifiers: Modifiers) throws -> [YaraPattern] {
    guard !text.isEmpty else { throw CallError("empty string") }
    var forms: [[UInt8]] = []
    if modifiers.isASCII || !modifiers.isWide { forms.append(text) }
    if modifiers.isWide { forms.append(text.flatMap { [$0, 0] }) }
    if modifiers.isBase64 {
      return forms.flatMap { form in (0..<3).map { .literal(base64(form, shift: $0)) } }
    }
    return try forms.map { form in
      if let keys = modifiers.hidden { return .hidden(form, keys) }
      guard modifiers.ignoresCase else { return .literal(form) }
      return .expression(try Regex(binary: .sequence(form.map { .set(folded($0)) }), text: "text"))
    }
  }

  /// What of a text's base64 does not depend on what stands before and after it.
  private static func base64(_ text: [UInt8], shift: Int) -> [UInt8] {
    let whole = Base64.encode([UInt8](repeating: 0, count: shift) + text, padded: false)
    let start = (shift * 8 + 5) / 6
    let end = (shift + text.count) * 8 / 6
    return Array(whole[min(start, whole.count)..<max(min(start, whole.count), min(end, whole.count))])
  }

  private static func folded(_ byte: UInt8) -> CharacterRanges {
    switch byte {
    case 65...90: CharacterRanges([UInt32(byte)...UInt32(byte), UInt32(byte + 32)...UInt32(byte + 32)])
    case 97...122: CharacterRanges([UInt32(byte - 32)...UInt32(byte - 32), UInt32(byte)...UInt32(byte)])
    default: CharacterRanges(UInt32(byte))
    }
  }

  /// A regular expression.
  static func expression(_ pattern: [UInt8], flags: String, _ modifiers: Modifiers) throws -> [YaraPattern] {
    let ignoresCase = modifiers.ignoresCase || flags.contains("i")
    var parser = RegexParser((flags.contains("s") ? Array("(?s)".utf8) : []) + pattern, ignoreCase: ignoresCase)
    let node = try parser.parse()
    let text = String(decoding: pattern, as: UTF8.self)
    var forms: [RegexNode] = []
    if modifiers.isASCII || !modifiers.isWide { forms.append(node) }
    if modifiers.isWide { forms.append(widened(node)) }
    return try forms.map { .expression(try Regex(binary: $0, text: text)) }
  }

  /// The same pattern with a zero byte after each character.
  private static func widened(_ node: RegexNode) -> RegexNode {
    switch node {
    case .set: .sequence([node, .set(CharacterRanges(0))])
    case .sequence(let items): .sequence(items.map(widened))
    case .alternatives(let branches): .alternatives(branches.map(widened))
    case .repetition(let inner, let minimum, let maximum, let greedy):
      .repetition(widened(inner), minimum: minimum, maximum: maximum, greedy: greedy)
    case .capture(let inner, let number): .capture(widened(inner), number)
    case .empty, .assertion: node
    }
  }

  // MARK: hexadecimal strings

  private static var anyByte: RegexNode { .set(CharacterRanges([0...255])) }
  private static let maximumJump = 10_000

  /// `9C 5? ~00 [2-4] ( 01 | 02 03 ) ??`.
  static func hexadecimal(_ text: [UInt8]) throws -> [YaraPattern] {
    var reader = HexReader(text: withoutComments(text))
    let node = try reader.sequence(depth: 0)
    guard reader.isAtEnd else { throw CallError("unexpected character in a hex string") }
    if case .sequence(let items) = node, let bytes = literal(items) { return [.literal(bytes)] }
    return [.expression(try Regex(binary: node, text: "hex string"))]
  }

  private static func withoutComments(_ text: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    var place = 0
    while place < text.count {
      if text[place...].starts(with: "/*".utf8) {
        place = Bytes.find(Array("*/".utf8), in: text, from: place + 2).map { $0 + 2 } ?? text.count
      } else if text[place...].starts(with: "//".utf8) {
        place = text[place...].firstIndex(of: 10) ?? text.count
      } else {
        if !Bytes.isSpace(text[place]) { out.append(text[place]) }
        place += 1
      }
    }
    return out
  }

  private static func literal(_ items: [RegexNode]) -> [UInt8]? {
    var bytes: [UInt8] = []
    for item in items {
      guard case .set(let set) = item, set.ranges.count == 1, let range = set.ranges.first, range.count == 1 else {
        return nil
      }
      bytes.append(UInt8(truncatingIfNeeded: range.lowerBound))
    }
    return bytes.isEmpty ? nil : bytes
  }

  private struct HexReader {
    let text: [UInt8]
    var place = 0
    var isAtEnd: Bool { place == text.count }
    private var byte: UInt8 { place < text.count ? text[place] : 0 }

    init(text: [UInt8]) { self.text = text }

    mutating func sequence(depth: Int) throws -> RegexNode {
      guard depth < 20 else { throw CallError("a hex string is nested too deeply") }
      var items: [RegexNode] = []
      while place < text.count, byte != UInt8(ascii: ")"), byte != UInt8(ascii: "|") {
        if byte == UInt8(ascii: "(") {
          place += 1
          var branches = [try sequence(depth: depth + 1)]
          while byte == UInt8(ascii: "|") {
            place += 1
            branches.append(try sequence(depth: depth + 1))
          }
          guard byte == UInt8(ascii: ")") else { throw CallError("an alternative of a hex string has no end") }
          place += 1
          items.append(.alternatives(branches))
        } else if byte == UInt8(ascii: "[") {
          items.append(try jump())
        } else {
          items.append(.set(try oneByte()))
        }
      }
      guard !items.isEmpty else { throw CallError("an empty hex string") }
      return .sequence(items)
    }

    private mutating func jump() throws -> RegexNode {
      guard let end = text[place...].firstIndex(of: UInt8(ascii: "]")) else { throw CallError("a jump has no end") }
      let inside = String(decoding: text[(place + 1)..<end], as: UTF8.self)
      place = end + 1
      let parts = inside.split(separator: "-", omittingEmptySubsequences: false)
      let low = parts.first.map { $0.isEmpty ? 0 : Int($0) } ?? nil
      let high = parts.count == 1 ? low : parts[1].isEmpty ? nil : Int(parts[1])
      guard let low, low <= maximumJump, high == nil || (high ?? 0) <= maximumJump, high == nil || (high ?? 0) >= low,
        parts.count <= 2
      else { throw CallError("a jump of a hex string may span at most \(maximumJump) bytes") }
      return .repetition(anyByte, minimum: low, maximum: high, greedy: false)
    }

    private mutating func oneByte() throws -> CharacterRanges {
      let isNegated = byte == UInt8(ascii: "~")
      if isNegated { place += 1 }
      guard place + 1 < text.count else { throw CallError("half a byte in a hex string") }
      let (high, low) = (text[place], text[place + 1])
      place += 2
      func digits(_ character: UInt8) throws -> ClosedRange<UInt32> {
        if character == UInt8(ascii: "?") { return 0...15 }
        guard let value = Hex.digit(character) else { throw CallError("unexpected character in a hex string") }
        return UInt32(value)...UInt32(value)
      }
      let lows = try digits(low)
      let ranges = try digits(high).map { ($0 << 4 | lows.lowerBound)...($0 << 4 | lows.upperBound) }
      let set = CharacterRanges(ranges)
      return isNegated
        ? CharacterRanges(set.inverted.ranges.compactMap { $0.lowerBound > 255 ? nil : $0.clamped(to: 0...255) }) : set
    }
  }
}
