/// Evaluation of what LET stored, where it is used (dynamic scoping, language.md §4.1).
enum Stored {
  /// A bare reference: the body without arguments, in the scope of the reference.
  static func evaluate(_ node: LetNode, in scope: Scope) -> VQLValue {
    switch node.body {
    case .query: return .query(VQLQuery(.stored(node)))
    case .expression(let expr):
      guard scope.context.enter() else { return .null }
      defer { scope.context.leave() }
      return expr.eval(scope).resolved
    }
  }

  /// A call: arguments are evaluated now, in the caller's scope, and aggregates start afresh.
  static func call(_ node: LetNode, _ arguments: CallArguments, in scope: Scope) -> VQLValue {
    let layer = bind(node, arguments, in: scope)
    switch node.body {
    case .query: return .query(VQLQuery(.bound(node, layer)))
    case .expression(let expr):
      guard scope.context.enter() else { return .null }
      defer { scope.context.leave() }
      return expr.eval(scope.child(.row(layer), aggregates: AggregateState())).resolved
    }
  }

  static func bind(_ node: LetNode, _ arguments: CallArguments?, in scope: Scope) -> VQLDict {
    let layer = VQLDict()
    if let expansion = arguments?.expansion {
      if case .dict(let dict) = expansion.eval(scope).resolved { dict.eachMember { layer.set($0, $1) } }
    } else {
      for argument in arguments?.list ?? [] { layer.set(argument.name, argument.value.eval(scope).resolved) }
    }
    for parameter in node.parameters ?? [] {
      guard let value = parameter.defaultValue, layer.shape.find(parameter.name) == nil else { continue }
      layer.set(parameter.name, value.eval(scope).resolved)
    }
    return layer
  }

  /// Logs missing and extra arguments of a user plugin; the query still runs.
  static func check(_ node: LetNode, _ layer: VQLDict, in scope: Scope) {
    guard let parameters = node.parameters else { return }
    for parameter in parameters where layer.shape.find(parameter.name) == nil {
      scope.context.log(.error, "Missing arg \(parameter.name) when calling \(node.name)")
    }
    layer.eachMember { name, _ in
      if !parameters.contains(where: { $0.name == name }) {
        scope.context.log(.error, "Extra unrecognized arg \(name) when calling \(node.name)")
      }
    }
  }
}

/// A query as a value: run anew each time it is read, unless its rows were kept.
package final class VQLQuery {
  enum Kind {
    case select(SelectNode)
    case stored(LetNode)
    case bound(LetNode, VQLDict)
    case rows([VQLValue])
  }
  let kind: Kind

  init(_ kind: Kind) { self.kind = kind }

  /// The rows, when they were kept.
  var rows: [VQLValue]? {
    if case .rows(let rows) = kind { return rows }
    return nil
  }

  var text: String {
    switch kind {
    case .select(let node): node.text
    case .stored(let node), .bound(let node, _): node.bodyText
    case .rows(let rows): "\(rows.count) rows"
    }
  }

  /// Sends each row to the consumer until it answers false; false when it was stopped.
  @discardableResult
  func run(_ scope: Scope, _ emit: (VQLValue) -> Bool) -> Bool {
    switch kind {
    case .rows(let rows):
      for row in rows where !emit(row) { return false }
      return true
    case .select(let node): return SelectRunner.run(node, scope, emit)
    case .stored(let node):
      guard case .query(let select) = node.body else { return true }
      return SelectRunner.run(select, scope, emit)
    case .bound(let node, let layer):
      guard case .query(let select) = node.body else { return true }
      return SelectRunner.run(select, scope.child(.row(layer), aggregates: AggregateState()), emit)
    }
  }

  /// All rows, as far as memory allows.
  func collect(_ scope: Scope) -> [VQLValue] {
    if let rows { return rows }
    var result: [VQLValue] = []
    var used = 0
    run(scope) { row in
      let size = row.footprint()
      guard scope.context.reserve(size) else {
        scope.context.log(.error, "Query rows exceed the memory limit of \(scope.context.options.memoryLimit) bytes.")
        return false
      }
      used += size
      result.append(row)
      return true
    }
    scope.context.release(used)
    return result
  }

  /// True when there is at least one row; reading stops at the first.
  func hasRow(_ scope: Scope) -> Bool {
    var found = false
    run(scope) { _ in
      found = true
      return false
    }
    return found
  }
}
