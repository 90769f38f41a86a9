/// A lexical unit with its place in the text.
struct Token {
  enum Kind: Equatable {
    /// A keyword, upper case; `GROUP BY` and `ORDER BY` are single keywords.
    case keyword(String)
    /// A name; `quoted` when it was written in backticks.
    case identifier(String, quoted: Bool)
    case negatedIdentifier(String, quoted: Bool)
    case number(String)
    case string([UInt8])
    /// Operators and punctuation, `&&` and runs of bars included.
    case symbol(String)
    case end
  }
  let kind: Kind
  /// The spelling in the text.
  let text: String
  let offset: Int
}

/// Cuts query text into tokens by the ordered rules of language.md §1.
struct Lexer {
  private let input: [UInt8]
  private var place = 0

  private static let keywords: Set<String> = [
    "EXPLAIN", "SELECT", "WHERE", "AND", "OR", "FROM", "NOT", "AS", "IN", "LIMIT", "NULL", "DESC", "LET", "TRUE",
    "FALSE",
  ]
  private static let doubles: Set<String> = ["<>", "!=", "<=", ">=", "=>", "=~"]
  private static let singles = Set("-+:*/%,.()=<>{}[]".utf8)

  init(_ text: String) { input = Array(text.utf8) }

  private func byte(_ offset: Int = 0) -> UInt8 { place + offset < input.count ? input[place + offset] : 0 }

  static func position(of offset: Int, in text: [UInt8]) -> (line: Int, column: Int) {
    var line = 1
    var column = 1
    for byte in text.prefix(offset) {
      if byte == 10 {
        line += 1
        column = 1
      } else if byte & 0xC0 != 0x80 {
        column += 1
      }
    }
    return (line, column)
  }

  func failure(_ message: String, at offset: Int) -> VQLError {
    let position = Self.position(of: offset, in: input)
    return VQLError(code: .syntax, message: message, line: position.line, column: position.column)
  }

  /// All tokens, the last of kind `end`.
  mutating func tokens() throws(VQLError) -> [Token] {
    var result: [Token] = []
    while true {
      try skipBlank()
      guard place < input.count else {
        result.append(Token(kind: .end, text: "<EOF>", offset: input.count))
        return result
      }
      result.append(try next())
    }
  }

  private mutating func skipBlank() throws(VQLError) {
    while place < input.count {
      let current = byte()
      if current == 0x20 || (0x09...0x0D).contains(current) {
        place += 1
      } else if current == UInt8(ascii: "/") && byte(1) == UInt8(ascii: "*") {
        let start = place
        place += 2
        while place < input.count, !(byte() == UInt8(ascii: "*") && byte(1) == UInt8(ascii: "/")) { place += 1 }
        guard place < input.count else { throw failure("unterminated comment", at: start) }
        place += 2
      } else if (current == UInt8(ascii: "-") || current == UInt8(ascii: "/")) && byte(1) == current {
        while place < input.count, byte() != 10 { place += 1 }
      } else {
        return
      }
    }
  }

  private static func isNameStart(_ byte: UInt8) -> Bool {
    (65...90).contains(byte) || (97...122).contains(byte) || byte == 95
  }
  private static func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }

  private func slice(_ start: Int) -> String { String(decoding: input[start..<place], as: UTF8.self) }

  private mutating func next() throws(VQLError) -> Token {
    let start = place
    let current = byte()
    if Self.isNameStart(current) { return word() }
    if current == UInt8(ascii: "|") {
      while byte() == UInt8(ascii: "|") { place += 1 }
      return Token(kind: .symbol(slice(start)), text: slice(start), offset: start)
    }
    if current == UInt8(ascii: "&") && byte(1) == current {
      place += 2
      return Token(kind: .symbol("&&"), text: "&&", offset: start)
    }
    if number() { return Token(kind: .number(slice(start)), text: slice(start), offset: start) }
    let negated = current == UInt8(ascii: "-")
    if negated && (Self.isNameStart(byte(1)) || byte(1) == UInt8(ascii: "`")) {
      place += 1
      let (name, quoted) = try name()
      return Token(kind: .negatedIdentifier(name, quoted: quoted), text: slice(start), offset: start)
    }
    if current == UInt8(ascii: "`") {
      let (name, quoted) = try name()
      return Token(kind: .identifier(name, quoted: quoted), text: slice(start), offset: start)
    }
    let pair = String(decoding: input[start..<min(start + 2, input.count)], as: UTF8.self)
    if Self.doubles.contains(pair) {
      place += 2
      return Token(kind: .symbol(pair), text: pair, offset: start)
    }
    if Self.singles.contains(current) {
      place += 1
      return Token(kind: .symbol(slice(start)), text: slice(start), offset: start)
    }
    if current == 0x27 || current == 0x22 { return try string() }
    throw failure("invalid input text \"\(String(decoding: input[start...].prefix(20), as: UTF8.self))\"", at: start)
  }

  private mutating func word() -> Token {
    let start = place
    while Self.isNameStart(byte()) || Self.isDigit(byte()) { place += 1 }
    let text = slice(start)
    let upper = text.uppercased()
    if Self.keywords.contains(upper) { return Token(kind: .keyword(upper), text: text, offset: start) }
    if upper == "GROUP" || upper == "ORDER" {
      var ahead = place
      while ahead < input.count, input[ahead] == 0x20 || (0x09...0x0D).contains(input[ahead]) { ahead += 1 }
      let after = ahead + 2 < input.count ? input[ahead + 2] : 0
      let isBy = ahead > place && String(decoding: input[ahead...].prefix(2), as: UTF8.self).uppercased() == "BY"
      if isBy && !Self.isNameStart(after) && !Self.isDigit(after) {
        place = ahead + 2
        return Token(kind: .keyword(upper + " BY"), text: slice(start), offset: start)
      }
    }
    return Token(kind: .identifier(text, quoted: false), text: text, offset: start)
  }

  private mutating func name() throws(VQLError) -> (String, Bool) {
    let start = place
    guard byte() == UInt8(ascii: "`") else {
      while Self.isNameStart(byte()) || Self.isDigit(byte()) { place += 1 }
      return (slice(start), false)
    }
    place += 1
    while place < input.count, byte() != UInt8(ascii: "`") { place += 1 }
    guard place < input.count else { throw failure("unterminated name", at: start) }
    place += 1
    return (String(decoding: input[(start + 1)..<(place - 1)], as: UTF8.self), true)
  }

  /// Moves over a number; false when there is none here.
  private mutating func number() -> Bool {
    var at = place
    func digit(_ offset: Int) -> Bool { offset < input.count && Self.isDigit(input[offset]) }
    if byte() == UInt8(ascii: "-") { at += 1 }
    if at + 2 < input.count, input[at] == 48, input[at + 1] | 0x20 == 0x78, Hex.digit(input[at + 2]) != nil {
      at += 2
      while at < input.count, Hex.digit(input[at]) != nil { at += 1 }
      place = at
      return true
    }
    let whole = at
    while digit(at) { at += 1 }
    if at < input.count, input[at] == UInt8(ascii: "."), digit(at + 1) {
      at += 1
      while digit(at) { at += 1 }
    } else if at == whole {
      return false
    }
    if at < input.count, input[at] | 0x20 == 0x65 {
      let signed = at + 1 < input.count && (input[at + 1] == 43 || input[at + 1] == 45)
      if digit(at + (signed ? 2 : 1)) {
        at += signed ? 2 : 1
        while digit(at) { at += 1 }
      }
    }
    place = at
    return true
  }

  private mutating func string() throws(VQLError) -> Token {
    let start = place
    let quote = byte()
    if quote == 0x27 && byte(1) == quote && byte(2) == quote {
      place += 3
      let from = place
      while place < input.count, !(byte() == quote && byte(1) == quote && byte(2) == quote) { place += 1 }
      guard place < input.count else { throw failure("unterminated string", at: start) }
      let content = Array(input[from..<place])
      place += 3
      return Token(kind: .string(content), text: slice(start), offset: start)
    }
    place += 1
    let from = place
    while place < input.count, byte() != quote { place += byte() == UInt8(ascii: "\\") ? 2 : 1 }
    guard place < input.count else {
      place = input.count
      throw failure("unterminated string", at: start)
    }
    let content = Self.unescape(Array(input[from..<place]))
    place += 1
    return Token(kind: .string(content), text: slice(start), offset: start)
  }

  /// Decodes the escapes of a quoted string (language.md §1.2).
  static func unescape(_ raw: [UInt8]) -> [UInt8] {
    guard raw.contains(UInt8(ascii: "\\")) else { return raw }
    var out: [UInt8] = []
    var at = 0
    while at < raw.count {
      guard raw[at] == UInt8(ascii: "\\"), at + 1 < raw.count else {
        out.append(raw[at])
        at += 1
        continue
      }
      let escaped = raw[at + 1]
      at += 2
      switch escaped {
      case UInt8(ascii: "n"): out.append(10)
      case UInt8(ascii: "r"): out.append(13)
      case UInt8(ascii: "t"): out.append(9)
      case UInt8(ascii: "x"), UInt8(ascii: "X"):
        guard at + 1 < raw.count else { return out }
        if let high = Hex.digit(raw[at]), let low = Hex.digit(raw[at + 1]) {
          out.append(high << 4 | low)
          at += 2
        } else {
          out.append(contentsOf: [UInt8(ascii: "\\"), escaped])
        }
      default: out.append(escaped)
      }
    }
    return out
  }
}
