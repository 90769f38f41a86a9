/// Parses RE2 syntax.
struct RegexParser {
  private struct Flags {
    var ignoreCase = false
    var multiline = false
    var dotAll = false
    var ungreedy = false
  }
  private static let maximumNesting = 200
  static let maximumRepeat = 1000

  private let pattern: [UInt32]
  private let full: String
  private var place = 0
  private var flags = Flags()
  private var nesting = 0
  private(set) var groupNames: [String?] = [nil]

  init(_ pattern: [UInt8], ignoreCase: Bool) {
    let text = String(decoding: pattern, as: UTF8.self)
    self.pattern = text.unicodeScalars.map(\.value)
    full = (ignoreCase ? "(?i)" : "") + text
    flags.ignoreCase = ignoreCase
  }

  mutating func parse() throws -> RegexNode {
    let node = try alternatives()
    if place < pattern.count { throw RegexError(reason: "unexpected )", excerpt: full) }
    return node
  }

  private var current: UInt32? { place < pattern.count ? pattern[place] : nil }
  private func ahead(_ offset: Int) -> UInt32? { place + offset < pattern.count ? pattern[place + offset] : nil }

  private mutating func accept(_ character: Unicode.Scalar) -> Bool {
    guard current == character.value else { return false }
    place += 1
    return true
  }

  private func excerpt(_ start: Int, _ end: Int? = nil) -> String {
    var text = String.UnicodeScalarView()
    for value in pattern[start..<(end ?? pattern.count)] {
      if let scalar = Unicode.Scalar(value) { text.append(scalar) }
    }
    return String(text)
  }

  private mutating func alternatives() throws -> RegexNode {
    var branches = [try sequence()]
    while accept("|") { branches.append(try sequence()) }
    return branches.count == 1 ? branches[0] : .alternatives(branches)
  }

  private mutating func sequence() throws -> RegexNode {
    var items: [RegexNode] = []
    while let character = current, character != 0x7C, character != 0x29 {
      let start = place
      guard let atom = try atom() else { continue }
      items.append(try repeated(atom, from: start))
    }
    return items.count == 1 ? items[0] : items.isEmpty ? .empty : .sequence(items)
  }

  private mutating func repeated(_ atom: RegexNode, from start: Int) throws -> RegexNode {
    var node = atom
    var count = 0
    let operators = place
    while true {
      let bounds: (Int, Int?)
      if accept("*") {
        bounds = (0, nil)
      } else if accept("+") {
        bounds = (1, nil)
      } else if accept("?") {
        bounds = (0, 1)
      } else if let found = try braces() {
        bounds = found
      } else {
        return node
      }
      count += 1
      if count > 1 {
        throw RegexError(reason: "invalid nested repetition operator", excerpt: excerpt(operators, place))
      }
      let lazy = accept("?")
      node = .repetition(node, minimum: bounds.0, maximum: bounds.1, greedy: lazy == flags.ungreedy)
    }
  }

  /// `{n}`, `{n,}` or `{n,m}`; anything else is literal text.
  private mutating func braces() throws -> (Int, Int?)? {
    guard current == 0x7B else { return nil }
    let start = place
    place += 1
    guard let low = number() else {
      place = start
      return nil
    }
    var high: Int? = low
    if accept(",") { high = current == 0x7D ? nil : number() ?? -1 }
    guard high != -1, accept("}") else {
      place = start
      return nil
    }
    if low > Self.maximumRepeat || (high ?? 0) > Self.maximumRepeat || (high ?? low) < low {
      throw RegexError(reason: "invalid repeat count", excerpt: excerpt(start, place))
    }
    return (low, high)
  }

  private mutating func number() -> Int? {
    var value = 0
    let start = place
    while let character = current, (48...57).contains(character) {
      value = min(value * 10 + Int(character - 48), 1_000_000)
      place += 1
    }
    return place > start ? value : nil
  }

  /// One atom; nil for a group that only sets flags.
  private mutating func atom() throws -> RegexNode? {
    guard let character = current else { return nil }
    switch character {
    case 0x28: return try group()
    case 0x5B: return .set(try bracket())
    case 0x2E:
      place += 1
      return .set(flags.dotAll ? .any : .anyButNewline)
    case 0x5E:
      place += 1
      return .assertion(flags.multiline ? .beginLine : .beginText)
    case 0x24:
      place += 1
      return .assertion(flags.multiline ? .endLine : .endText)
    case 0x2A, 0x2B, 0x3F:
      throw RegexError(
        reason: "missing argument to repetition operator", excerpt: excerpt(place, place + 1))
    case 0x5C: return try escape()
    default:
      place += 1
      return literal(character)
    }
  }

  private func literal(_ character: UInt32) -> RegexNode { .set(folded(CharacterRanges(character))) }
  private func folded(_ set: CharacterRanges) -> CharacterRanges { flags.ignoreCase ? set.caseFolded : set }

  private mutating func group() throws -> RegexNode? {
    nesting += 1
    defer { nesting -= 1 }
    if nesting > Self.maximumNesting { throw RegexError(reason: "expression nests too deeply", excerpt: full) }
    let start = place
    place += 1
    let saved = flags
    var index: Int?
    if accept("?") {
      let named = current == 0x50 && ahead(1) == 0x3C
      if named || (current == 0x3C && ahead(1) != 0x3D && ahead(1) != 0x21) {
        place += named ? 2 : 1
        index = try groupName(start)
      } else if try flagGroup(start) {
        return nil
      }
    } else {
      index = groupNames.count
      groupNames.append(nil)
    }
    let inner = try alternatives()
    guard accept(")") else { throw RegexError(reason: "missing closing )", excerpt: full) }
    flags = saved
    return index.map { .capture(inner, $0) } ?? inner
  }

  private mutating func groupName(_ start: Int) throws -> Int {
    let from = place
    while let character = current, character != 0x3E {
      _ = character
      place += 1
    }
    let name = excerpt(from, place)
    let valid = !name.isEmpty && name.unicodeScalars.allSatisfy { CharacterRanges.word.contains($0.value) }
    guard accept(">"), valid else {
      throw RegexError(reason: "invalid named capture", excerpt: excerpt(start, place))
    }
    if groupNames.contains(name) { throw RegexError(reason: "duplicate capture group name", excerpt: name) }
    groupNames.append(name)
    return groupNames.count - 1
  }

  /// Reads flags after `(?`; true when the group ends there.
  private mutating func flagGroup(_ start: Int) throws -> Bool {
    var on = true
    while let character = current {
      place += 1
      switch character {
      case 0x69: flags.ignoreCase = on
      case 0x6D: flags.multiline = on
      case 0x73: flags.dotAll = on
      case 0x55: flags.ungreedy = on
      case 0x2D where on: on = false
      case 0x3A: return false
      case 0x29: return true
      default:
        throw RegexError(reason: "invalid or unsupported Perl syntax", excerpt: excerpt(start, place))
      }
    }
    throw RegexError(reason: "missing closing )", excerpt: full)
  }

  private mutating func escape() throws -> RegexNode? {
    let start = place
    guard let character = ahead(1) else {
      throw RegexError(reason: "trailing backslash at end of expression", excerpt: "")
    }
    switch character {
    case 0x41:
      place += 2
      return .assertion(.beginText)
    case 0x7A:
      place += 2
      return .assertion(.endText)
    case 0x62:
      place += 2
      return .assertion(.wordBoundary)
    case 0x42:
      place += 2
      return .assertion(.notWordBoundary)
    case 0x43:
      place += 2
      return .set(.any)
    case 0x51:
      place += 2
      return quoted()
    default: break
    }
    if let set = try classEscape() { return .set(folded(set)) }
    return literal(try characterEscape(start))
  }

  /// `\Q…\E`
  private mutating func quoted() -> RegexNode {
    var items: [RegexNode] = []
    while let character = current {
      if character == 0x5C, ahead(1) == 0x45 {
        place += 2
        break
      }
      items.append(literal(character))
      place += 1
    }
    return items.count == 1 ? items[0] : .sequence(items)
  }

  /// `\d`, `\pL` and their like; nil when the escape is of another kind.
  private mutating func classEscape() throws -> CharacterRanges? {
    guard current == 0x5C, let character = ahead(1) else { return nil }
    let simple: CharacterRanges? =
      switch character {
      case 0x64: .digit
      case 0x44: CharacterRanges.digit.inverted
      case 0x73: .space
      case 0x53: CharacterRanges.space.inverted
      case 0x77: .word
      case 0x57: CharacterRanges.word.inverted
      default: nil
      }
    if let simple {
      place += 2
      return simple
    }
    guard character == 0x70 || character == 0x50 else { return nil }
    let start = place
    place += 2
    var name = ""
    var negated = character == 0x50
    if accept("{") {
      let from = place
      while let inner = current, inner != 0x7D {
        _ = inner
        place += 1
      }
      name = excerpt(from, place)
      _ = accept("}")
      if name.hasPrefix("^") {
        negated.toggle()
        name.removeFirst()
      }
    } else if place < pattern.count {
      name = excerpt(place, place + 1)
      place += 1
    }
    guard let set = UnicodeClasses.find(name) else {
      throw RegexError(reason: "invalid character class range", excerpt: excerpt(start, place))
    }
    return negated ? set.inverted : set
  }

  /// An escape that stands for one character.
  private mutating func characterEscape(_ start: Int) throws -> UInt32 {
    place += 1
    guard let character = current else {
      throw RegexError(reason: "trailing backslash at end of expression", excerpt: "")
    }
    place += 1
    let simple: [UInt32: UInt32] = [0x61: 7, 0x66: 12, 0x74: 9, 0x6E: 10, 0x72: 13, 0x76: 11]
    if let value = simple[character] { return value }
    if character == 0x78, let value = hexadecimal() { return value }
    if (48...55).contains(character), character == 48 || (current.map { (48...55).contains($0) } ?? false) {
      var value = character - 48
      var digits = 1
      while digits < 3, let next = current, (48...55).contains(next) {
        value = value * 8 + next - 48
        place += 1
        digits += 1
      }
      return value
    }
    let isWord = CharacterRanges.word.contains(character)
    if character < 128 && (!isWord || character == 0x5F) { return character }
    throw RegexError(reason: "invalid escape sequence", excerpt: excerpt(start, place))
  }

  private mutating func hexadecimal() -> UInt32? {
    func digit(_ offset: Int) -> UInt32? {
      guard let character = ahead(offset), character < 128, let value = Hex.digit(UInt8(character)) else { return nil }
      return UInt32(value)
    }
    if current == 0x7B {
      var offset = 1
      var value: UInt32 = 0
      while let next = digit(offset), value <= CharacterRanges.last {
        value = value * 16 + next
        offset += 1
      }
      guard offset > 1, ahead(offset) == 0x7D, value <= CharacterRanges.last else { return nil }
      place += offset + 1
      return value
    }
    guard let high = digit(0), let low = digit(1) else { return nil }
    place += 2
    return high * 16 + low
  }

  /// `[…]`
  private mutating func bracket() throws -> CharacterRanges {
    let start = place
    place += 1
    let negated = accept("^")
    var ranges: [ClosedRange<UInt32>] = []
    var first = true
    while first || current != 0x5D {
      guard current != nil else { throw RegexError(reason: "missing closing ]", excerpt: excerpt(start)) }
      first = false
      if current == 0x5B, ahead(1) == 0x3A, let set = try posixClass() {
        ranges += set.ranges
      } else if let set = try classEscape() {
        ranges += set.ranges
      } else {
        ranges.append(try bracketRange(start))
      }
    }
    place += 1
    var set = folded(CharacterRanges(ranges))
    if negated { set = set.inverted }
    return set
  }

  private mutating func posixClass() throws -> CharacterRanges? {
    var end = place + 2
    while end + 1 < pattern.count, !(pattern[end] == 0x3A && pattern[end + 1] == 0x5D) { end += 1 }
    guard end + 1 < pattern.count else { return nil }
    var name = excerpt(place + 2, end)
    let negated = name.hasPrefix("^")
    if negated { name.removeFirst() }
    guard let set = CharacterRanges.posix[name] else {
      throw RegexError(reason: "invalid character class range", excerpt: excerpt(place, end + 2))
    }
    place = end + 2
    return negated ? set.inverted : set
  }

  private mutating func bracketRange(_ start: Int) throws -> ClosedRange<UInt32> {
    let from = place
    let low = try bracketCharacter(start)
    guard current == 0x2D, let after = ahead(1), after != 0x5D else { return low...low }
    place += 1
    let high = try bracketCharacter(start)
    guard low <= high else {
      throw RegexError(reason: "invalid character class range", excerpt: excerpt(from, place))
    }
    return low...high
  }

  private mutating func bracketCharacter(_ start: Int) throws -> UInt32 {
    guard let character = current else { throw RegexError(reason: "missing closing ]", excerpt: excerpt(start)) }
    if character == 0x5C { return try characterEscape(place) }
    place += 1
    return character
  }
}
