final class ConstantExpr: Expr {
  let value: VQLValue
  private let spelling: String

  init(_ value: VQLValue, text: String) {
    self.value = value
    spelling = text
  }

  override func eval(_ scope: Scope) -> VQLValue { value }
  override var text: String { spelling }
}

/// A number that could not be converted: reported when it is evaluated (language.md §1.1).
final class NumberExpr: Expr {
  private let spelling: String
  init(_ spelling: String) { self.spelling = spelling }

  static func make(_ spelling: String) -> Expr {
    if let value = NumberText.parseInteger(spelling.utf8) {
      return ConstantExpr(.int(value), text: String(value))
    }
    if !spelling.lowercased().contains("x"), let value = NumberText.parseFloat(spelling.utf8) {
      var text: [UInt8] = []
      NumberText.appendText(value, to: &text)
      return ConstantExpr(.double(value), text: String(decoding: text, as: UTF8.self))
    }
    return NumberExpr(spelling)
  }

  override func eval(_ scope: Scope) -> VQLValue {
    scope.context.log(.error, "Unable to parse \(spelling) as a number.")
    return .null
  }
  override var text: String { spelling }
}

/// An expression in brackets.
final class GroupExpr: Expr {
  private let inner: Expr
  private let open: String
  private let close: String

  init(_ inner: Expr, open: String, close: String) {
    self.inner = inner
    self.open = open
    self.close = close
  }

  override func eval(_ scope: Scope) -> VQLValue { inner.eval(scope) }
  override var text: String { open + inner.text + close }
}

/// An array: a list with a comma.
final class ListExpr: Expr {
  private let elements: [Expr]
  private let bracketed: Bool
  private let trailingComma: Bool

  init(_ elements: [Expr], bracketed: Bool, trailingComma: Bool) {
    self.elements = elements
    self.bracketed = bracketed
    self.trailingComma = trailingComma
  }

  override func eval(_ scope: Scope) -> VQLValue { .array(elements.map { $0.eval(scope).resolved }) }

  override var text: String {
    let inner = elements.map(\.text).joined(separator: ", ") + (trailingComma ? ", " : "")
    return bracketed ? "[\(inner)]" : "(\(inner))"
  }
}

/// `{ SELECT … }`: passed on as a query.
final class SubqueryExpr: Expr {
  let select: SelectNode
  private let query: VQLQuery

  init(_ select: SelectNode) {
    self.select = select
    query = VQLQuery(.select(select))
  }

  override func eval(_ scope: Scope) -> VQLValue { .query(query) }
  override var text: String { "{ \(select.text) }" }
}

final class NotExpr: Expr {
  private let operand: Expr
  init(_ operand: Expr) { self.operand = operand }
  override func eval(_ scope: Scope) -> VQLValue { .bool(!operand.eval(scope).isTrue(scope)) }
  override var text: String { "NOT \(operand.text)" }
}

final class AndExpr: Expr {
  private let first: Expr
  private let rest: [(symbolic: Bool, operand: Expr)]

  init(_ first: Expr, _ rest: [(symbolic: Bool, operand: Expr)]) {
    self.first = first
    self.rest = rest
  }

  override func eval(_ scope: Scope) -> VQLValue {
    guard first.eval(scope).isTrue(scope) else { return .bool(false) }
    var last = VQLValue.bool(true)
    for (_, operand) in rest {
      last = operand.eval(scope).resolved
      guard last.isTrue(scope) else { return .bool(false) }
    }
    return rest.last?.symbolic == true ? last : .bool(true)
  }

  override var text: String {
    rest.reduce(first.text) { $0 + "  " + ($1.symbolic ? "&&" : "AND") + " " + $1.operand.text }
  }
}

final class OrExpr: Expr {
  private let first: Expr
  private let rest: [(spelling: String, operand: Expr)]

  init(_ first: Expr, _ rest: [(spelling: String, operand: Expr)]) {
    self.first = first
    self.rest = rest
  }

  override func eval(_ scope: Scope) -> VQLValue {
    var last = first.eval(scope).resolved
    if last.isTrue(scope) { return last }
    for (spelling, operand) in rest {
      last = operand.eval(scope).resolved
      if last.isTrue(scope) { return spelling == "||" ? last : .bool(true) }
    }
    return last
  }

  override var text: String { rest.reduce(first.text) { "\($0) \($1.spelling) \($1.operand.text)" } }
}

enum Comparison: String {
  case equal = "="
  case notEqual = "!="
  case lessOrGreater = "<>"
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="
  case matches = "=~"
  case isIn = "IN"
}

/// Of a chain only the last comparison counts (language.md §2).
final class CompareExpr: Expr {
  private let first: Expr
  private let rest: [(op: Comparison, operand: Expr)]
  private let left: Expr
  private let op: Comparison
  private let right: Expr

  init(_ first: Expr, _ rest: [(op: Comparison, operand: Expr)]) {
    self.first = first
    self.rest = rest
    left = first
    op = rest.last?.op ?? .equal
    right = rest.last?.operand ?? first
  }

  override func eval(_ scope: Scope) -> VQLValue {
    let a = left.eval(scope).resolved
    let b = right.eval(scope).resolved
    return .bool(Operators.compare(a, op, b, scope))
  }

  override var text: String { rest.reduce(first.text) { "\($0) \($1.op.rawValue) \($1.operand.text)" } }
}

enum Arithmetic: String {
  case add = "+"
  case subtract = "-"
  case multiply = "*"
  case divide = "/"
}

final class ArithmeticExpr: Expr {
  private let first: Expr
  private let rest: [(op: Arithmetic, operand: Expr)]

  init(_ first: Expr, _ rest: [(op: Arithmetic, operand: Expr)]) {
    self.first = first
    self.rest = rest
  }

  override func eval(_ scope: Scope) -> VQLValue {
    var value = first.eval(scope).resolved
    for (op, operand) in rest { value = Operators.arithmetic(value, op, operand.eval(scope).resolved, scope) }
    return value
  }

  override var text: String { rest.reduce(first.text) { "\($0) \($1.op.rawValue) \($1.operand.text)" } }
}

/// Subscripts and members after a value.
final class MemberExpr: Expr {
  enum Step {
    case member(String, String)
    case index(Expr?)
    case slice(Expr?, Expr?)

    var text: String {
      switch self {
      case .member(_, let quoted): ".\(quoted)"
      case .index(let index): "[\(index?.text ?? "")]"
      case .slice(let low, let high): "[\(low?.text ?? ""):\(high?.text ?? "")]"
      }
    }
  }
  private let base: Expr
  private let steps: [Step]

  init(_ base: Expr, _ steps: [Step]) {
    self.base = base
    self.steps = steps
  }

  override func eval(_ scope: Scope) -> VQLValue {
    var value = base.eval(scope).resolved
    for step in steps {
      switch step {
      case .member(let name, _): value = Members.get(value, name, scope) ?? .null
      case .index(let index): value = Members.index(value, index?.eval(scope).resolved ?? .null, scope)
      case .slice(let low, let high):
        value = Members.slice(value, low?.eval(scope).resolved, high?.eval(scope).resolved, scope)
      }
    }
    return value
  }

  override var text: String { steps.reduce(base.text) { $0 + $1.text } }
}
