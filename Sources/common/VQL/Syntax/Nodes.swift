/// An expression that can evaluate itself in a scope. Nodes hold per-query caches, so a tree belongs to one session.
class Expr {
  func eval(_ scope: Scope) -> VQLValue { .null }
  /// Canonical text (language.md §2.2).
  var text: String { "" }
}

/// One argument of a call, or one parameter with its default.
struct Argument {
  let name: String
  let quotedName: String
  let value: Expr
  /// Written as `{ SELECT … }`.
  var isQuery: Bool { value is SubqueryExpr }
  var text: String { "\(quotedName)=\(value.text)" }
}

struct Parameter {
  let name: String
  let quotedName: String
  let defaultValue: Expr?
  var text: String { defaultValue.map { "\(quotedName)=\($0.text)" } ?? quotedName }
}

struct Column {
  /// Nil for `*`.
  let value: Expr?
  let alias: String?
  let aliasText: String?

  var name: String {
    if let alias { return alias }
    guard let value else { return "*" }
    let text = value.text
    if let symbol = value as? SymbolExpr, symbol.isPlain, let only = symbol.parts.first, !symbol.negated { return only }
    return text
  }

  var text: String {
    let body = value?.text ?? "*"
    return aliasText.map { "\(body) AS \($0)" } ?? body
  }
}

/// What follows FROM.
final class SourceNode {
  let parts: [String]
  let quotedParts: [String]
  let arguments: CallArguments?
  /// Arguments matched to the plugin, kept for the next use.
  var callCache: PluginCallSite?

  init(parts: [String], quotedParts: [String], arguments: CallArguments?) {
    self.parts = parts
    self.quotedParts = quotedParts
    self.arguments = arguments
  }

  var name: String { parts.joined(separator: ".") }
  var text: String { quotedParts.joined(separator: ".") + (arguments.map { "(\($0.text))" } ?? "") }
}

final class CallArguments {
  let list: [Argument]
  init(_ list: [Argument]) { self.list = list }
  var text: String { list.map(\.text).joined(separator: ", ") }
  /// The expression of a `**` argument, which replaces the whole list.
  var expansion: Expr? { list.first { $0.name == "**" }?.value }
}

/// One SELECT.
final class SelectNode {
  let explain: Bool
  let columns: [Column]
  let source: SourceNode
  let condition: Expr?
  let groupBy: Expr?
  let orderBy: (name: String, quoted: String, descending: Bool)?
  let limit: Int64?
  var plan: SelectPlan?

  init(
    explain: Bool, columns: [Column], source: SourceNode, condition: Expr?, groupBy: Expr?,
    orderBy: (name: String, quoted: String, descending: Bool)?, limit: Int64?
  ) {
    self.explain = explain
    self.columns = columns
    self.source = source
    self.condition = condition
    self.groupBy = groupBy
    self.orderBy = orderBy
    self.limit = limit
  }

  var text: String {
    var out = explain ? "EXPLAIN SELECT " : "SELECT "
    out += columns.map(\.text).joined(separator: ", ")
    out += (columns.isEmpty ? "FROM " : " FROM ") + source.text
    if let condition { out += " WHERE " + condition.text }
    if let groupBy { out += " GROUP BY " + groupBy.text }
    if let orderBy { out += " ORDER BY " + orderBy.quoted + (orderBy.descending ? " DESC" : "") }
    if let limit { out += " LIMIT \(limit)" }
    return out
  }
}

/// What a LET stores.
final class LetNode {
  enum Body {
    case expression(Expr)
    case query(SelectNode)
  }
  let name: String
  let quotedName: String
  let parameters: [Parameter]?
  let materialized: Bool
  let body: Body

  init(name: String, quotedName: String, parameters: [Parameter]?, materialized: Bool, body: Body) {
    self.name = name
    self.quotedName = quotedName
    self.parameters = parameters
    self.materialized = materialized
    self.body = body
  }

  var bodyText: String {
    switch body {
    case .expression(let expr): expr.text
    case .query(let select): select.text
    }
  }

  var text: String {
    let list = parameters.map { "(" + $0.map(\.text).joined(separator: ", ") + ")" } ?? ""
    return "LET \(quotedName)\(list) \(materialized ? "<=" : "=") \(bodyText)"
  }
}

enum Statement {
  case letting(LetNode)
  case select(SelectNode)

  var text: String {
    switch self {
    case .letting(let node): node.text
    case .select(let node): node.text
    }
  }
}

/// A parsed lambda: `a, b => expression`.
final class Lambda {
  let parameters: [String]
  let body: Expr
  let text: String

  init(parameters: [String], body: Expr, text: String) {
    self.parameters = parameters
    self.body = body
    self.text = text
  }

  func call(_ values: [VQLValue], in scope: Scope) -> VQLValue {
    guard values.count == parameters.count else {
      scope.context.log(.error, "Incorrect number of parameters in Lambda call")
      return .null
    }
    let layer = VQLDict()
    for (name, value) in zip(parameters, values) { layer.set(name, value) }
    return body.eval(scope.child(.row(layer))).resolved
  }
}
