/// Cuts the text of rules into tokens. Hexadecimal strings and regular expressions are read when the parser asks.
struct YaraLexer {
  enum Token: Equatable {
    case word(String)
    /// `$a`, `#a`, `@a`, `!a`, with a star for several.
    case reference(Character, String)
    case number(Int64)
    case text([UInt8])
    case symbol(String)
    case end
  }
  private let input: [UInt8]
  private var place = 0
  private(set) var line = 1
  private(set) var current = Token.end

  init(_ text: [UInt8]) throws {
    input = text
    try advance()
  }

  func failure(_ message: String) -> CallError { CallError("line \(line): \(message)") }

  private var byte: UInt8 { place < input.count ? input[place] : 0 }
  private static func isName(_ byte: UInt8) -> Bool { CharacterRanges.word.contains(UInt32(byte)) }

  private mutating func skipBlank() throws {
    while place < input.count {
      if byte == 10 { line += 1 }
      if Bytes.isSpace(byte) {
        place += 1
      } else if input[place...].starts(with: "//".utf8) {
        place = input[place...].firstIndex(of: 10) ?? input.count
      } else if input[place...].starts(with: "/*".utf8) {
        guard let end = Bytes.find(Array("*/".utf8), in: input, from: place + 2) else { throw failure("open comment") }
        line += input[place..<end].count { $0 == 10 }
        place = end + 2
      } else {
        return
      }
    }
  }

  mutating func advance() throws {
    try skipBlank()
    guard place < input.count else {
      current = .end
      return
    }
    let first = byte
    if (48...57).contains(first) { return try number() }
    if Self.isName(first) {
      current = .word(name())
      return
    }
    if first == UInt8(ascii: "\"") {
      current = .text(try text())
      return
    }
    let isMark = [UInt8(ascii: "$"), UInt8(ascii: "#"), UInt8(ascii: "@"), UInt8(ascii: "!")].contains(first)
    let next = place + 1 < input.count ? input[place + 1] : 0
    if isMark, !(first == UInt8(ascii: "!") && next == UInt8(ascii: "=")) {
      place += 1
      var name = name()
      if byte == UInt8(ascii: "*") {
        name += "*"
        place += 1
      }
      current = .reference(Character(Unicode.Scalar(first)), name)
      return
    }
    for symbol in ["==", "!=", "<=", ">=", "<<", ">>", ".."] where input[place...].starts(with: symbol.utf8) {
      place += 2
      current = .symbol(symbol)
      return
    }
    place += 1
    current = .symbol(String(decoding: [first], as: UTF8.self))
  }

  private mutating func name() -> String {
    let start = place
    while place < input.count, Self.isName(byte) { place += 1 }
    return String(decoding: input[start..<place], as: UTF8.self)
  }

  private mutating func number() throws {
    let text = name()
    var digits = Substring(text)
    var factor: Int64 = 1
    for (unit, size) in [("KB", Int64(1024)), ("MB", 1 << 20)] where digits.hasSuffix(unit) {
      digits = digits.dropLast(2)
      factor = size
    }
    let isOctal = digits.hasPrefix("0o")
    let value = digits.hasPrefix("0x") || isOctal ? NumberText.parseInteger(digits.utf8) : Int64(digits)
    guard let value else { throw failure("\(text) is no number") }
    current = .number(value &* factor)
  }

  private mutating func text() throws -> [UInt8] {
    place += 1
    let start = place
    while place < input.count, byte != UInt8(ascii: "\""), byte != 10 { place += byte == UInt8(ascii: "\\") ? 2 : 1 }
    guard place < input.count, byte == UInt8(ascii: "\"") else { throw failure("unterminated string") }
    defer { place += 1 }
    return Lexer.unescape(Array(input[start..<place]))
  }

  /// The inside of `{ … }`; the current token is the brace.
  mutating func hexadecimal() throws -> [UInt8] {
    guard let end = input[place...].firstIndex(of: UInt8(ascii: "}")) else { throw failure("unterminated hex string") }
    let inside = Array(input[place..<end])
    line += inside.count { $0 == 10 }
    place = end + 1
    try advance()
    return inside
  }

  /// The pattern and flags of `/…/is`; the current token is the slash.
  mutating func expression() throws -> (pattern: [UInt8], flags: String) {
    let start = place
    while place < input.count, byte != UInt8(ascii: "/"), byte != 10 { place += byte == UInt8(ascii: "\\") ? 2 : 1 }
    guard place < input.count, byte == UInt8(ascii: "/") else { throw failure("unterminated regular expression") }
    let pattern = Array(input[start..<place])
    place += 1
    let flags = byte == UInt8(ascii: "i") || byte == UInt8(ascii: "s") ? name() : ""
    try advance()
    return (pattern, flags)
  }
}
