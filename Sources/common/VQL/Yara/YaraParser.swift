/// Reads rules.
struct YaraParser {
  private static let maximumDepth = 60
  private static let maximumRules = 20_000
  private var lexer: YaraLexer
  private var rules: [YaraRule] = []
  private var names: Set<String> = []
  private var rule = YaraRule(name: "")
  private var loopVariables: [String] = []
  private let variables: Set<String>
  private var depth = 0

  /// - Parameter variables: names that conditions may use beside their own.
  static func rules(_ text: [UInt8], variables: Set<String>) throws -> [YaraRule] {
    var parser = YaraParser(lexer: try YaraLexer(text), variables: variables)
    while parser.lexer.current != .end { try parser.topLevel() }
    return parser.rules
  }

  private init(lexer: YaraLexer, variables: Set<String>) {
    self.lexer = lexer
    self.variables = variables
  }

  // MARK: tokens

  private mutating func accept(_ symbol: String) throws -> Bool {
    guard lexer.current == .symbol(symbol) else { return false }
    try lexer.advance()
    return true
  }

  private mutating func acceptWord(_ word: String) throws -> Bool {
    guard lexer.current == .word(word) else { return false }
    try lexer.advance()
    return true
  }

  private mutating func expect(_ symbol: String) throws {
    guard try accept(symbol) else { throw unexpected("\"\(symbol)\"") }
  }

  private func unexpected(_ wanted: String) -> CallError { lexer.failure("syntax error, expected \(wanted)") }

  private mutating func name() throws -> String {
    guard case .word(let word) = lexer.current else { throw unexpected("a name") }
    try lexer.advance()
    return word
  }

  // MARK: rules

  private mutating func topLevel() throws {
    if try acceptWord("import") {
      // A module is refused where it is used, so that rules which only name it work.
      guard case .text = lexer.current else { throw unexpected("a module") }
      return try lexer.advance()
    }
    if try acceptWord("include") { throw lexer.failure("include is not supported") }
    rule = YaraRule(name: "")
    while true {
      if try acceptWord("private") {
        rule.isPrivate = true
      } else if try acceptWord("global") {
        rule.isGlobal = true
      } else {
        break
      }
    }
    guard try acceptWord("rule") else { throw unexpected("a rule") }
    rule.name = try name()
    guard names.insert(rule.name).inserted else { throw lexer.failure("duplicated identifier \"\(rule.name)\"") }
    if try accept(":") {
      while case .word(let tag) = lexer.current {
        rule.tags.append(tag)
        try lexer.advance()
      }
    }
    try expect("{")
    if try acceptWord("meta") { try meta() }
    if try acceptWord("strings") { try strings() }
    guard try acceptWord("condition") else { throw unexpected("a condition") }
    try expect(":")
    rule.condition = try expression()
    try expect("}")
    guard rules.count < Self.maximumRules else { throw lexer.failure("too many rules") }
    rules.append(rule)
  }

  private mutating func meta() throws {
    try expect(":")
    while case .word(let name) = lexer.current, name != "strings", name != "condition" {
      try lexer.advance()
      try expect("=")
      let isNegative = try accept("-")
      switch lexer.current {
      case .text(let text): rule.meta.append((name, .bytes(text)))
      case .number(let number): rule.meta.append((name, .int(isNegative ? 0 &- number : number)))
      case .word("true"), .word("false"): rule.meta.append((name, .bool(lexer.current == .word("true"))))
      default: throw unexpected("a value")
      }
      try lexer.advance()
    }
  }

  private mutating func strings() throws {
    try expect(":")
    while case .reference("$", let name) = lexer.current {
      try lexer.advance()
      guard name.isEmpty || !rule.strings.contains(where: { $0.name == "$" + name }) else {
        throw lexer.failure("duplicated string identifier \"$\(name)\"")
      }
      guard lexer.current == .symbol("=") else { throw unexpected("=") }
      try lexer.advance()
      do {
        rule.strings.append(try string("$" + name))
      } catch {
        throw lexer.failure("invalid string \"$\(name)\": \(error)")
      }
    }
  }

  private mutating func string(_ name: String) throws -> YaraString {
    let patterns: [YaraPattern]
    var modifiers: YaraStrings.Modifiers
    switch lexer.current {
    case .text(let text):
      try lexer.advance()
      modifiers = try self.modifiers()
      patterns = try YaraStrings.text(text, modifiers)
    case .symbol("{"):
      let text = try lexer.hexadecimal()
      modifiers = try self.modifiers()
      patterns = try YaraStrings.hexadecimal(text)
    case .symbol("/"):
      let (pattern, flags) = try lexer.expression()
      modifiers = try self.modifiers()
      patterns = try YaraStrings.expression(pattern, flags: flags, modifiers)
    default: throw unexpected("a string")
    }
    return YaraString(
      name: name, patterns: patterns, isFullWord: modifiers.isFullWord, isPrivate: modifiers.isPrivate)
  }

  private mutating func modifiers() throws -> YaraStrings.Modifiers {
    var found = YaraStrings.Modifiers()
    while case .word(let word) = lexer.current {
      switch word {
      case "nocase": found.ignoresCase = true
      case "wide": found.isWide = true
      case "ascii": found.isASCII = true
      case "fullword": found.isFullWord = true
      case "private": found.isPrivate = true
      case "base64": found.isBase64 = true
      case "xor": found.hidden = 0...255
      default: return found
      }
      try lexer.advance()
      if word == "xor", try accept("(") {
        let low = try byte()
        let high = try accept("-") ? try byte() : low
        guard low <= high else { throw lexer.failure("the range of xor is empty") }
        found.hidden = low...high
        try expect(")")
      }
    }
    return found
  }

  private mutating func byte() throws -> UInt8 {
    guard case .number(let number) = lexer.current, (0...255).contains(number) else { throw unexpected("a byte") }
    try lexer.advance()
    return UInt8(number)
  }

  // MARK: conditions

  private mutating func nested<Result>(_ body: (inout YaraParser) throws -> Result) throws -> Result {
    depth += 1
    defer { depth -= 1 }
    guard depth < Self.maximumDepth else { throw lexer.failure("the condition is nested too deeply") }
    return try body(&self)
  }

  private mutating func expression() throws -> YaraExpression {
    try nested { parser in
      var items = [try parser.conjunction()]
      while try parser.acceptWord("or") { items.append(try parser.conjunction()) }
      return items.count == 1 ? items[0] : .or(items)
    }
  }

  private mutating func conjunction() throws -> YaraExpression {
    var items = [try negation()]
    while try acceptWord("and") { items.append(try negation()) }
    return items.count == 1 ? items[0] : .and(items)
  }

  private mutating func negation() throws -> YaraExpression {
    if try acceptWord("not") { return .not(try nested { try $0.negation() }) }
    if try acceptWord("defined") { return .defined(try nested { try $0.negation() }) }
    return try comparison()
  }

  private static let levels: [[String]] = [
    ["==", "!=", "<", "<=", ">", ">="], ["|"], ["^"], ["&"], ["<<", ">>"], ["+", "-"], ["*", "\\", "%"],
  ]
  private static let textual = [
    "contains", "icontains", "startswith", "istartswith", "endswith", "iendswith", "iequals",
  ]

  private mutating func comparison(_ level: Int = 0) throws -> YaraExpression {
    guard level < Self.levels.count else { return try unary() }
    var left = try comparison(level + 1)
    while true {
      if case .symbol(let symbol) = lexer.current, Self.levels[level].contains(symbol) {
        try lexer.advance()
        left = .binary(symbol, left, try comparison(level + 1))
      } else if level == 0, case .word(let word) = lexer.current, Self.textual.contains(word) {
        try lexer.advance()
        left = .binary(word, left, try comparison(level + 1))
      } else if level == 0, try acceptWord("matches") {
        let (pattern, flags) = try lexer.expression()
        left = .binary("matches", left, .constant(.bytes((flags.contains("i") ? Array("(?i)".utf8) : []) + pattern)))
      } else {
        return left
      }
    }
  }

  private mutating func unary() throws -> YaraExpression {
    if try accept("-") { return .negative(try nested { try $0.unary() }) }
    if try accept("~") { return .complement(try nested { try $0.unary() }) }
    return try primary()
  }

  private mutating func primary() throws -> YaraExpression {
    switch lexer.current {
    case .number(let number):
      try lexer.advance()
      if lexer.current == .word("of") { return try of(.number(.constant(.int(number)))) }
      if try accept("%") {
        guard lexer.current == .word("of") else { return .binary("%", .constant(.int(number)), try unary()) }
        return try of(.percent(.constant(.int(number))))
      }
      return .constant(.int(number))
    case .text(let text):
      try lexer.advance()
      return .constant(.bytes(text))
    case .symbol("("):
      try lexer.advance()
      let inner = try expression()
      try expect(")")
      return inner
    case .reference(let mark, let name): return try reference(mark, name)
    case .word(let word): return try self.word(word)
    default: throw unexpected("an expression")
    }
  }

  private mutating func reference(_ mark: Character, _ name: String) throws -> YaraExpression {
    try lexer.advance()
    let target: String? = name.isEmpty ? nil : "$" + name
    if let target, !rule.strings.contains(where: { $0.name == target }) {
      throw lexer.failure("undefined string \"\(target)\"")
    }
    switch mark {
    case "$": return .occurs(target, try place())
    case "#": return .count(target, try place())
    default:
      var index = YaraExpression.constant(.int(1))
      if try accept("[") {
        index = try expression()
        try expect("]")
      }
      return mark == "@" ? .offset(target, index) : .length(target, index)
    }
  }

  private mutating func place() throws -> YaraPlace {
    if try acceptWord("at") { return .at(try comparison(1)) }
    if lexer.current == .word("in") {
      try lexer.advance()
      return .inside(try range())
    }
    return .anywhere
  }

  private mutating func range() throws -> YaraRange {
    try expect("(")
    let low = try comparison(1)
    try expect("..")
    let high = try comparison(1)
    try expect(")")
    return YaraRange(low: low, high: high)
  }

  private mutating func word(_ word: String) throws -> YaraExpression {
    try lexer.advance()
    switch word {
    case "true", "false": return .constant(.bool(word == "true"))
    case "filesize": return .fileSize
    case "entrypoint": throw lexer.failure("entrypoint is not supported")
    case "all": return try of(.all)
    case "any": return try of(.any)
    case "none": return try of(.none)
    case "for": return try loop()
    default: break
    }
    if word.hasPrefix("int") || word.hasPrefix("uint"), lexer.current == .symbol("(") {
      let isBig = word.hasSuffix("be")
      let digits = word.drop { !$0.isNumber }.prefix { $0.isNumber }
      if let bits = Int(digits), [8, 16, 32].contains(bits) {
        try lexer.advance()
        let offset = try expression()
        try expect(")")
        return .integer(bits / 8, word.hasPrefix("int"), isBig, offset)
      }
    }
    if loopVariables.contains(word) || variables.contains(word) { return .variable(word) }
    if names.contains(word), word != rule.name { return .rule(word) }
    if lexer.current == .symbol(".") { throw lexer.failure("the module \"\(word)\" is not supported") }
    throw lexer.failure("undefined identifier \"\(word)\"")
  }

  private mutating func of(_ quantity: YaraQuantity) throws -> YaraExpression {
    guard try acceptWord("of") else { throw unexpected("of") }
    let references = try set()
    return .of(quantity, references, try place())
  }

  private mutating func set() throws -> [YaraReference] {
    if try acceptWord("them") { return [YaraReference(name: "$", isPrefix: true)] }
    try expect("(")
    var references: [YaraReference] = []
    repeat {
      let name: String
      switch lexer.current {
      case .reference("$", let text): name = "$" + text
      case .word("them"): name = "$*"
      case .word(let text): name = text
      default: throw unexpected("a string")
      }
      try lexer.advance()
      var isPrefix = name.hasSuffix("*")
      if !isPrefix, try accept("*") { isPrefix = true }
      references.append(YaraReference(name: name.hasSuffix("*") ? String(name.dropLast()) : name, isPrefix: isPrefix))
    } while try accept(",")
    try expect(")")
    return references
  }

  /// `for any of ($a*) : (…)` or `for all i in (1..#a) : (…)`.
  private mutating func loop() throws -> YaraExpression {
    let quantity: YaraQuantity
    if try acceptWord("all") {
      quantity = .all
    } else if try acceptWord("any") {
      quantity = .any
    } else if try acceptWord("none") {
      quantity = .none
    } else {
      let number = try comparison(1)
      quantity = try accept("%") ? .percent(number) : .number(number)
    }
    if try acceptWord("of") {
      let references = try set()
      try expect(":")
      try expect("(")
      let body = try expression()
      try expect(")")
      return .forStrings(quantity, references, body)
    }
    let variable = try name()
    guard try acceptWord("in") else { throw unexpected("in") }
    try expect("(")
    var numbers = [try comparison(1)]
    var range: YaraRange?
    if try accept("..") {
      range = YaraRange(low: numbers[0], high: try comparison(1))
      numbers = []
    } else {
      while try accept(",") { numbers.append(try comparison(1)) }
    }
    try expect(")")
    try expect(":")
    try expect("(")
    loopVariables.append(variable)
    let body = try expression()
    loopVariables.removeLast()
    try expect(")")
    return .forNumbers(quantity, variable, numbers, range, body)
  }
}
