/// What a name stands for.
enum Binding {
  case value(VQLValue)
  case stored(LetNode)
}

/// Variables set by LET and by the environment.
final class Bindings {
  private(set) var names: [String] = []
  private var entries: [String: Binding] = [:]

  subscript(_ name: String) -> Binding? { entries[name] }

  func set(_ name: String, _ binding: Binding) {
    if entries.updateValue(binding, forKey: name) == nil { names.append(name) }
  }
}

/// The state of aggregate functions: one cell per call site.
final class AggregateState {
  var cells: [ObjectIdentifier: VQLValue] = [:]
}

/// The columns of the row being made, each computed on first use.
final class LazyRow {
  let node: SelectNode
  let scope: Scope
  private(set) var values: [VQLValue?]

  init(node: SelectNode, plan: SelectPlan, scope: Scope) {
    self.node = node
    self.scope = scope
    self.plan = plan
    values = [VQLValue?](repeating: nil, count: plan.columnNames.count)
  }

  let plan: SelectPlan

  func find(_ name: String) -> Int? {
    for place in plan.columnNames.indices.reversed() where plan.columnNames[place] == name { return place }
    return nil
  }

  func value(_ place: Int) -> VQLValue {
    if let known = values[place] { return known }
    let value = plan.evaluate(column: place, in: scope)
    values[place] = value
    return value
  }
}

/// A layer of names on top of other layers (language.md §5).
final class Scope {
  enum Layer {
    case none
    case row(VQLDict)
    case object(VQLObject)
    case lazyRow(LazyRow)
    case bindings(Bindings)
  }

  let parent: Scope?
  let context: Context
  var layer: Layer
  let aggregates: AggregateState
  private var destructors: [() -> Void]?
  private var isClosed = false

  init(context: Context, parent: Scope?, layer: Layer, aggregates: AggregateState) {
    self.context = context
    self.parent = parent
    self.layer = layer
    self.aggregates = aggregates
  }

  func child(_ layer: Layer = .none) -> Scope {
    Scope(context: context, parent: self, layer: layer, aggregates: aggregates)
  }

  func child(_ layer: Layer, aggregates: AggregateState) -> Scope {
    Scope(context: context, parent: self, layer: layer, aggregates: aggregates)
  }

  /// A child for the row that a source gave.
  func child(row: VQLValue) -> Scope { child(Self.layer(for: row)) }

  static func layer(for row: VQLValue) -> Layer {
    switch row {
    case .dict(let dict): .row(dict)
    // What the scope knows is visible underneath anyway.
    case .object(is ScopeObject): .none
    case .object(let object): .object(object)
    case .time, .path: .row(VQLDict([("_value", row)]))
    default: .none
    }
  }

  var root: Scope {
    var scope = self
    while let parent = scope.parent { scope = parent }
    return scope
  }

  // MARK: names

  func lookup(_ name: String) -> Binding? {
    var scope: Scope? = self
    while let current = scope {
      switch current.layer {
      case .none: break
      case .row(let dict):
        if let place = dict.shape.find(name) { return .value(dict.value(at: place).resolved) }
      case .object(let object):
        if let value = object.member(name, in: current) { return .value(value.resolved) }
      case .lazyRow(let row):
        if let place = row.find(name) { return .value(row.value(place)) }
      case .bindings(let bindings):
        if let found = bindings[name] { return found }
      }
      scope = current.parent
    }
    return nil
  }

  /// The value of a variable, stored expressions evaluated here.
  func variable(_ name: String) -> VQLValue? {
    switch lookup(name) {
    case nil: nil
    case .value(let value): value
    case .stored(let node): Stored.evaluate(node, in: self)
    }
  }

  /// Names per layer, oldest first, as error messages show them.
  var dump: String {
    var layers: [String] = []
    var scope: Scope? = self
    while let current = scope {
      let names: [String]? =
        switch current.layer {
        case .none: nil
        case .row(let dict): dict.keys
        case .object: ["<scope>"]
        case .lazyRow(let row): row.plan.columnNames
        case .bindings(let bindings): bindings.names
        }
      if let names { layers.append("[" + names.joined(separator: ", ") + "]") }
      scope = current.parent
    }
    return layers.reversed().joined(separator: ", ")
  }

  // MARK: destructors

  /// Runs the body when the scope closes, last registered first; at once when it is closed already.
  func onClose(_ body: @escaping () -> Void) {
    if isClosed { return body() }
    destructors = (destructors ?? []) + [body]
  }

  var hasDestructors: Bool { destructors != nil }

  /// Runs the destructors registered so far; the scope may be used for another row afterwards.
  func runDestructors() {
    var rounds = 0
    while let pending = destructors, rounds < 10 {
      destructors = nil
      for body in pending.reversed() { body() }
      rounds += 1
    }
    destructors = nil
  }

  func close() {
    runDestructors()
    isClosed = true
  }
}

/// The scope as a value: `scope()`.
final class ScopeObject: VQLObject {
  let scope: Scope
  init(_ scope: Scope) { self.scope = scope }
  override var typeName: String { "*vfilter.Scope" }
  override var output: VQLValue { .dict(VQLDict()) }
  override func member(_ name: String, in _: Scope) -> VQLValue? { scope.variable(name) }
}
