/// A name, dotted or called (language.md §5).
final class SymbolExpr: Expr {
  let parts: [String]
  private let quotedParts: [String]
  let negated: Bool
  private let arguments: CallArguments?
  private let first: String
  private var builtin: FunctionCallSite?
  private var cachedShape: Shape?
  private var cachedPlace = 0

  init(parts: [String], quotedParts: [String], negated: Bool, arguments: CallArguments?) {
    self.parts = parts
    self.quotedParts = quotedParts
    self.negated = negated
    self.arguments = arguments
    first = parts.first ?? ""
    if let arguments, parts.count == 1, let spec = Registry.function(first) {
      builtin = FunctionCallSite(spec, arguments)
    }
  }

  /// A single name that is not called.
  var isPlain: Bool { arguments == nil && parts.count == 1 }

  override var text: String {
    let name = (negated ? "-" : "") + quotedParts.joined(separator: ".")
    return name + (arguments.map { "(\($0.text))" } ?? "")
  }

  override func eval(_ scope: Scope) -> VQLValue {
    let value = positive(scope)
    // The reference does not negate what a user function answers.
    guard negated, arguments == nil || builtin != nil else { return value }
    switch value.resolved {
    case .bool(let bool): return .bool(!bool)
    case .int(let int): return .int(0 &- int)
    case .integer(let int): return .int(0 &- int.bits)
    case .double(let double): return .double(-double)
    default: return .null
    }
  }

  private func positive(_ scope: Scope) -> VQLValue {
    if let builtin { return builtin.call(scope) }
    if parts.count == 1 && arguments == nil, let value = rowValue(scope) { return value }
    guard let binding = scope.lookup(first) else {
      if parts.count == 1, arguments != nil, ForeignNames.report("Function", first, scope.context) { return .null }
      let name = parts.joined(separator: ".")
      let start = parts.count > 1 ? "While resolving \(name) " : ""
      scope.context.log(.error, "\(start)Symbol \(first) not found. Current Scope is \(scope.dump)")
      return .null
    }
    guard parts.count > 1 else { return finish(binding, scope) }
    var value: VQLValue
    switch binding {
    case .value(let found): value = found
    case .stored(let node): value = Stored.evaluate(node, in: scope)
    }
    for part in parts.dropFirst() { value = Members.get(value, part, scope) ?? .null }
    if arguments != nil {
      scope.context.log(.error, "Symbol \(parts.joined(separator: ".")) is not a function but it is being called.")
      return .null
    }
    return value
  }

  /// The common case: a column of the row in the newest layers, whose place is remembered.
  private func rowValue(_ scope: Scope) -> VQLValue? {
    guard case .row(let dict) = scope.layer else { return nil }
    if let cachedShape, cachedShape === dict.shape { return dict.value(at: cachedPlace).resolved }
    guard let place = dict.shape.find(first) else { return nil }
    if dict.shape.frozen {
      cachedShape = dict.shape
      cachedPlace = place
    }
    return dict.value(at: place).resolved
  }

  private func finish(_ binding: Binding, _ scope: Scope) -> VQLValue {
    switch binding {
    case .value(let value):
      guard arguments != nil else { return value }
      scope.context.log(.error, "Symbol \(first) is not a function but it is being called.")
      return .null
    case .stored(let node):
      guard let arguments else { return Stored.evaluate(node, in: scope) }
      return Stored.call(node, arguments, in: scope)
    }
  }
}
