/// Access to the grammar for callers that do not run the text.
package enum VQLParser {
  /// Throws the syntax error of a text that does not parse.
  package static func check(_ text: String) throws(VQLError) { _ = try Parser.program(text) }

  /// The canonical text of each statement.
  package static func split(_ text: String) throws(VQLError) -> [String] { try Parser.program(text).map(\.text) }
}

/// Recursive descent over the grammar of language.md §2.
struct Parser {
  /// Brackets, sub-queries and NOTs may be nested this deep; deeper text is refused rather than risking the stack.
  static let maximumNesting = 100

  private let tokens: [Token]
  private let lexer: Lexer
  private var place = 0
  private var nesting = 0

  private init(_ text: String) throws(VQLError) {
    var lexer = Lexer(text)
    tokens = try lexer.tokens()
    self.lexer = lexer
  }

  static func program(_ text: String) throws(VQLError) -> [Statement] {
    var parser = try Parser(text)
    var statements = [try parser.statement()]
    while parser.current.kind != .end { statements.append(try parser.statement()) }
    return statements
  }

  static func lambda(_ text: String) throws(VQLError) -> Lambda {
    var parser = try Parser(text)
    var names = [try parser.identifier().name]
    while parser.accept(",") { names.append(try parser.identifier().name) }
    try parser.expect("=>")
    let body = try parser.expression()
    if parser.current.kind != .end { throw parser.unexpected() }
    return Lambda(parameters: names, body: body, text: text)
  }

  // MARK: tokens

  private var current: Token { tokens[min(place, tokens.count - 1)] }

  private func unexpected(_ expected: String = "") -> VQLError {
    let hint = expected.isEmpty ? "" : " (expected \(expected))"
    return lexer.failure("unexpected token \"\(current.text)\"\(hint)", at: current.offset)
  }

  private func isSymbol(_ text: String) -> Bool { current.kind == .symbol(text) }
  private func isKeyword(_ text: String) -> Bool { current.kind == .keyword(text) }

  private mutating func accept(_ symbol: String) -> Bool {
    guard isSymbol(symbol) else { return false }
    place += 1
    return true
  }

  private mutating func acceptKeyword(_ keyword: String) -> Bool {
    guard isKeyword(keyword) else { return false }
    place += 1
    return true
  }

  private mutating func expect(_ symbol: String) throws(VQLError) {
    if !accept(symbol) { throw unexpected("\"\(symbol)\"") }
  }

  private mutating func identifier() throws(VQLError) -> (name: String, quoted: String) {
    guard case .identifier(let name, let quoted) = current.kind else { throw unexpected("a name") }
    place += 1
    return (name, quoted ? "`\(name)`" : name)
  }

  private mutating func nested<Result>(
    _ body: (inout Parser) throws(VQLError) -> Result
  ) throws(VQLError) -> Result {
    nesting += 1
    defer { nesting -= 1 }
    guard nesting <= Self.maximumNesting else {
      throw lexer.failure("expressions are nested deeper than \(Self.maximumNesting) levels", at: current.offset)
    }
    return try body(&self)
  }

  // MARK: statements

  private mutating func statement() throws(VQLError) -> Statement {
    if acceptKeyword("LET") { return .letting(try letting()) }
    if isKeyword("SELECT") || isKeyword("EXPLAIN") { return .select(try select()) }
    throw unexpected("LET or SELECT")
  }

  private mutating func letting() throws(VQLError) -> LetNode {
    let (name, quoted) = try identifier()
    var parameters: [Parameter]?
    if accept("(") {
      var list: [Parameter] = []
      if !isSymbol(")") {
        repeat { list.append(try parameter()) } while accept(",")
      }
      try expect(")")
      parameters = list
    }
    let materialized = accept("<=")
    if !materialized { try expect("=") }
    let body: LetNode.Body
    if isKeyword("SELECT") || isKeyword("EXPLAIN") {
      body = .query(try select())
    } else {
      body = .expression(try expression())
    }
    return LetNode(name: name, quotedName: quoted, parameters: parameters, materialized: materialized, body: body)
  }

  private mutating func parameter() throws(VQLError) -> Parameter {
    let (name, quoted) = try identifier()
    guard accept("=") else { return Parameter(name: name, quotedName: quoted, defaultValue: nil) }
    return Parameter(name: name, quotedName: quoted, defaultValue: try argumentValue())
  }

  private mutating func select() throws(VQLError) -> SelectNode {
    try nested { parser throws(VQLError) in try parser.selectBody() }
  }

  private mutating func selectBody() throws(VQLError) -> SelectNode {
    var explain = false
    while acceptKeyword("EXPLAIN") { explain = true }
    guard acceptKeyword("SELECT") else { throw unexpected("SELECT") }
    let columns = try columnList()
    guard acceptKeyword("FROM") else { throw unexpected("FROM") }
    let source = try source()
    let condition = acceptKeyword("WHERE") ? try list() : nil
    let groupBy = acceptKeyword("GROUP BY") ? try list() : nil
    var orderBy: (name: String, quoted: String, descending: Bool)?
    if acceptKeyword("ORDER BY") {
      let (name, quoted) = try identifier()
      orderBy = (name, quoted, acceptKeyword("DESC"))
    }
    let limit = acceptKeyword("LIMIT") ? try limit() : nil
    return SelectNode(
      explain: explain, columns: columns, source: source, condition: condition, groupBy: groupBy, orderBy: orderBy,
      limit: limit)
  }

  private mutating func limit() throws(VQLError) -> Int64 {
    guard case .number(let text) = current.kind, let value = NumberText.parseInteger(text.utf8) else {
      throw unexpected("an integer")
    }
    place += 1
    return value
  }

  private mutating func columnList() throws(VQLError) -> [Column] {
    var columns: [Column] = []
    if isSymbol("*") {
      place += 1
      columns.append(Column(value: nil, alias: nil, aliasText: nil))
      let comma = accept(",")
      if isKeyword("FROM") {
        if comma { throw unexpected("a column") }
        return columns
      }
      if isKeyword("AS") { throw unexpected("FROM") }
    }
    if isKeyword("FROM") { return columns }
    repeat { columns.append(try column()) } while accept(",")
    return columns
  }

  private mutating func column() throws(VQLError) -> Column {
    if accept("*") { return Column(value: nil, alias: nil, aliasText: nil) }
    let value: Expr = isSymbol("{") ? try subquery() : try expression()
    guard acceptKeyword("AS") else { return Column(value: value, alias: nil, aliasText: nil) }
    let (name, quoted) = try identifier()
    return Column(value: value, alias: name, aliasText: quoted)
  }

  private mutating func subquery() throws(VQLError) -> SubqueryExpr {
    try expect("{")
    let select = try select()
    try expect("}")
    return SubqueryExpr(select)
  }

  private mutating func source() throws(VQLError) -> SourceNode {
    let first = try identifier()
    var parts = [first.name]
    var quoted = [first.quoted]
    while accept(".") {
      let next = try identifier()
      parts.append(next.name)
      quoted.append(next.quoted)
    }
    return SourceNode(parts: parts, quotedParts: quoted, arguments: try callArguments())
  }

  private mutating func callArguments() throws(VQLError) -> CallArguments? {
    guard accept("(") else { return nil }
    var list: [Argument] = []
    if !isSymbol(")") {
      repeat {
        let (name, quoted) = try identifier()
        try expect("=")
        list.append(Argument(name: name, quotedName: quoted, value: try argumentValue()))
      } while accept(",")
    }
    try expect(")")
    return CallArguments(list)
  }

  private mutating func argumentValue() throws(VQLError) -> Expr {
    if isSymbol("{") { return try subquery() }
    guard accept("[") else { return try expression() }
    if accept("]") { return ListExpr([], bracketed: true, trailingComma: false) }
    let inner = try nested { parser throws(VQLError) in try parser.list(bracketed: true) }
    try expect("]")
    return inner
  }

  // MARK: expressions

  private mutating func list(bracketed: Bool = false) throws(VQLError) -> Expr {
    let first = try expression()
    guard isSymbol(",") else { return bracketed ? GroupExpr(first, open: "[", close: "]") : first }
    var elements = [first]
    var trailing = false
    while accept(",") {
      trailing = !startsExpression
      if !trailing { elements.append(try expression()) }
    }
    return ListExpr(elements, bracketed: bracketed, trailingComma: trailing)
  }

  private var startsExpression: Bool {
    switch current.kind {
    case .identifier, .negatedIdentifier, .number, .string: true
    case .symbol(let text): text == "("
    case .keyword(let word): ["NOT", "TRUE", "FALSE", "NULL"].contains(word)
    case .end: false
    }
  }

  private mutating func expression() throws(VQLError) -> Expr {
    let first = try orExpression()
    var rest: [(symbolic: Bool, operand: Expr)] = []
    while isKeyword("AND") || isSymbol("&&") {
      let symbolic = isSymbol("&&")
      place += 1
      rest.append((symbolic, try orExpression()))
    }
    return rest.isEmpty ? first : AndExpr(first, rest)
  }

  private mutating func orExpression() throws(VQLError) -> Expr {
    let first = try condition()
    var rest: [(spelling: String, operand: Expr)] = []
    while true {
      if acceptKeyword("OR") {
        rest.append(("OR", try condition()))
      } else if case .symbol(let text) = current.kind, text.hasPrefix("|") {
        place += 1
        rest.append((text, try condition()))
      } else {
        return rest.isEmpty ? first : OrExpr(first, rest)
      }
    }
  }

  private mutating func condition() throws(VQLError) -> Expr {
    if acceptKeyword("NOT") {
      return NotExpr(try nested { parser throws(VQLError) in try parser.condition() })
    }
    let first = try sum()
    var rest: [(op: Comparison, operand: Expr)] = []
    while true {
      if acceptKeyword("IN") {
        rest.append((.isIn, try sum()))
      } else if case .symbol(let text) = current.kind, let op = Comparison(rawValue: text) {
        place += 1
        rest.append((op, try sum()))
      } else {
        return rest.isEmpty ? first : CompareExpr(first, rest)
      }
    }
  }

  private mutating func sum() throws(VQLError) -> Expr {
    let first = try product()
    var rest: [(op: Arithmetic, operand: Expr)] = []
    while isSymbol("+") || isSymbol("-") {
      let op: Arithmetic = isSymbol("+") ? .add : .subtract
      place += 1
      rest.append((op, try product()))
    }
    return rest.isEmpty ? first : ArithmeticExpr(first, rest)
  }

  private mutating func product() throws(VQLError) -> Expr {
    let first = try member()
    var rest: [(op: Arithmetic, operand: Expr)] = []
    while isSymbol("*") || isSymbol("/") {
      let op: Arithmetic = isSymbol("*") ? .multiply : .divide
      place += 1
      rest.append((op, try value()))
    }
    return rest.isEmpty ? first : ArithmeticExpr(first, rest)
  }

  private mutating func member() throws(VQLError) -> Expr {
    let base = try value()
    var steps: [MemberExpr.Step] = []
    while true {
      if accept(".") {
        let (name, quoted) = try identifier()
        steps.append(.member(name, quoted))
      } else if accept("[") {
        steps.append(try nested { parser throws(VQLError) in try parser.subscriptStep() })
      } else {
        return steps.isEmpty ? base : MemberExpr(base, steps)
      }
    }
  }

  private mutating func subscriptStep() throws(VQLError) -> MemberExpr.Step {
    let low = isSymbol(":") || isSymbol("]") ? nil : try value()
    let slice = accept(":")
    let high = isSymbol("]") ? nil : slice ? try value() : nil
    try expect("]")
    if slice { return .slice(low, high) }
    return .index(low)
  }

  private mutating func value() throws(VQLError) -> Expr {
    let token = current
    switch token.kind {
    case .identifier(let name, let quoted):
      place += 1
      return try symbol(name, quoted ? "`\(name)`" : name, negated: false)
    case .negatedIdentifier(let name, let quoted):
      place += 1
      return try symbol(name, quoted ? "`\(name)`" : name, negated: true)
    case .string(let bytes):
      place += 1
      return ConstantExpr(.bytes(bytes), text: token.text)
    case .number(let text):
      place += 1
      return NumberExpr.make(text)
    case .keyword("TRUE"), .keyword("FALSE"):
      place += 1
      let truth = token.kind == .keyword("TRUE")
      return ConstantExpr(.bool(truth), text: truth ? "true" : "false")
    case .keyword("NULL"):
      place += 1
      return ConstantExpr(.null, text: "NULL")
    case .symbol("("):
      place += 1
      let inner = try nested { parser throws(VQLError) in try parser.list() }
      try expect(")")
      return inner is ListExpr ? inner : GroupExpr(inner, open: "(", close: ")")
    default: throw unexpected("an expression")
    }
  }

  private mutating func symbol(_ name: String, _ quoted: String, negated: Bool) throws(VQLError) -> Expr {
    var parts = [name]
    var texts = [quoted]
    while isSymbol("."), place + 1 < tokens.count, case .identifier = tokens[place + 1].kind {
      place += 1
      let next = try identifier()
      parts.append(next.name)
      texts.append(next.quoted)
    }
    let arguments = try nested { parser throws(VQLError) in try parser.callArguments() }
    return SymbolExpr(parts: parts, quotedParts: texts, negated: negated, arguments: arguments)
  }
}
