/// Resolves what follows FROM and reads its rows (language.md §4.2).
enum SourceRunner {
  static func run(_ node: SourceNode, _ scope: Scope, _ emit: (VQLValue) -> Bool) {
    let context = scope.context
    if context.isStopped { return }
    if let arguments = node.arguments {
      if node.parts.count == 1, let spec = Registry.plugin(node.parts[0]) {
        let site = node.callCache ?? PluginCallSite(spec, arguments)
        node.callCache = site
        return site.call(scope, emit)
      }
      if node.parts[0] == "Artifact", node.parts.count > 1 {
        return ArtifactRunner.call(node.parts.dropFirst().joined(separator: "."), arguments, scope, emit)
      }
    }
    guard let binding = scope.lookup(node.parts[0]) else {
      if node.parts.count == 1, node.arguments != nil, ForeignNames.report("Plugin", node.parts[0], context) { return }
      return notFound(node, scope)
    }
    if node.parts.count == 1, case .stored(let stored) = binding {
      return runStored(stored, node.arguments, scope, emit)
    }
    var value: VQLValue
    switch binding {
    case .value(let found): value = found
    case .stored(let stored): value = Stored.evaluate(stored, in: scope)
    }
    for (place, part) in node.parts.enumerated().dropFirst() {
      guard let next = Members.get(value, part, scope) else {
        if place == node.parts.count - 1 { return notFound(node, scope) }
        value = .null
        continue
      }
      value = next.resolved
    }
    rows(of: value, scope, emit)
  }

  private static func runStored(
    _ stored: LetNode, _ arguments: CallArguments?, _ scope: Scope, _ emit: (VQLValue) -> Bool
  ) {
    switch stored.body {
    case .query(let select):
      guard let arguments else {
        _ = SelectRunner.run(select, scope, emit)
        return
      }
      let layer = Stored.bind(stored, arguments, in: scope)
      Stored.check(stored, layer, in: scope)
      VQLQuery(.bound(stored, layer)).run(scope, emit)
    case .expression:
      let value =
        arguments.map { Stored.call(stored, $0, in: scope) } ?? Stored.evaluate(stored, in: scope)
      rows(of: value, scope, emit)
    }
  }

  /// Rows of a value used as a source.
  static func rows(of value: VQLValue, _ scope: Scope, _ emit: (VQLValue) -> Bool) {
    switch value.resolved {
    case .query(let query): query.run(scope, emit)
    case .object(let feed as RowFeed): feed.run(scope, emit)
    case .array(let elements):
      for element in elements where !emit(element.resolved) { return }
    case let single: _ = emit(single)
    }
  }

  private static func notFound(_ node: SourceNode, _ scope: Scope) {
    let name = node.name
    scope.context.log(.error, "Plugin \(name) not found. Current Scope is \(scope.dump)")
    var hint = ""
    if let only = node.parts.first, node.parts.count == 1 {
      let words = Set(only.split(separator: "_"))
      let similar = Registry.pluginNames.filter { !words.isDisjoint(with: $0.split(separator: "_")) }
      if !similar.isEmpty { hint += " Did you mean \(similar.joined(separator: " "))?" }
      if Registry.function(only) != nil {
        hint += " There is a VQL function called \"\(only)\" - did you mean to call this function instead?"
      }
    }
    scope.context.log(.error, "Plugin \(name) not found.\(hint)")
  }
}

/// An object that gives rows when it is read, as a query does.
class RowFeed: VQLObject {
  func run(_ scope: Scope, _ emit: RowSink) {}
}

/// Iteration as `foreach` and query arguments see it: elements without members become `{_value: element}`.
enum RowIteration {
  static func run(_ value: VQLValue, _ scope: Scope, _ emit: (VQLValue) -> Bool) {
    switch value.resolved {
    case .null: return
    case .query(let query): query.run(scope, emit)
    case .object(let feed as RowFeed): feed.run(scope, emit)
    case .array(let elements):
      for element in elements {
        let value = element.resolved
        if case .null = value { continue }
        if !emit(row(value)) { return }
      }
    case let single: _ = emit(row(single))
    }
  }

  private static let valueShape = UnsafeShared(Shape(["_value"]))

  static func row(_ value: VQLValue) -> VQLValue {
    switch value {
    case .dict, .object(is ScopeObject): value
    default: .dict(VQLDict(shape: valueShape.value, values: [value]))
    }
  }
}
