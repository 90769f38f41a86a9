/// What a SELECT's rows look like, worked out once per shape of the source's rows.
final class SelectPlan {
  private enum Slot {
    case source(Int)
    case column(Int)
  }
  /// Names and expressions of the named columns, in order.
  let columnNames: [String]
  private let columnValues: [Expr]
  private let columns: [Column]
  /// `SELECT *` alone: rows pass through.
  let passesThrough: Bool
  private var sourceShape: Shape?
  private var outputShape = Shape([], frozen: true)
  private var slots: [Slot] = []

  init(_ node: SelectNode) {
    columns = node.columns
    columnNames = node.columns.compactMap { $0.value == nil ? nil : $0.name }
    columnValues = node.columns.compactMap(\.value)
    passesThrough = !node.columns.isEmpty && columnValues.isEmpty
    if columnValues.count == node.columns.count { arrange(Shape([], frozen: true)) }
  }

  static func of(_ node: SelectNode) -> SelectPlan {
    if let plan = node.plan { return plan }
    let plan = SelectPlan(node)
    node.plan = plan
    return plan
  }

  private var hasStar: Bool { columnValues.count != columns.count }

  private func arrange(_ source: Shape) {
    var names: [String] = []
    var places: [String: Int] = [:]
    var made: [Slot] = []
    var next = 0
    for column in columns {
      if column.value == nil {
        for place in 0..<source.visibleCount where places[source.names[place]] == nil {
          places[source.names[place]] = names.count
          names.append(source.names[place])
          made.append(.source(place))
        }
        continue
      }
      let name = columnNames[next]
      if let place = places[name] {
        made[place] = .column(next)
      } else {
        places[name] = names.count
        names.append(name)
        made.append(.column(next))
      }
      next += 1
    }
    outputShape = Shape(names, frozen: true, caseInsensitive: source.caseInsensitive)
    slots = made
  }

  func evaluate(column place: Int, in scope: Scope) -> VQLValue {
    let expr = columnValues[place]
    if let sub = expr as? SubqueryExpr { return collapse(sub.select, scope) }
    let value = expr.eval(scope)
    switch value {
    case .query(let query): return .array(query.collect(scope))
    case .lazy(let thunk): return thunk.value
    default: return value
    }
  }

  /// A brace column: one column stands for its value, one row for itself, no row for NULL.
  private func collapse(_ select: SelectNode, _ scope: Scope) -> VQLValue {
    let rows = VQLQuery(.select(select)).collect(scope).map { row -> VQLValue in
      if case .dict(let dict) = row, dict.count == 1 { return dict.value(at: 0).resolved }
      return row
    }
    return rows.isEmpty ? .null : rows.count == 1 ? rows[0] : .array(rows)
  }

  /// The output row; columns that the lazy row has computed already are taken from it.
  func row(_ source: VQLValue, _ scope: Scope, _ lazyRow: LazyRow?) -> VQLValue {
    if passesThrough {
      if case .dict(let dict) = source {
        if dict.shape.visible == nil { return source }
        let copy = VQLDict(shape: visibleShape(of: dict.shape), values: Array(dict.values.prefix(dict.count)))
        return .dict(copy)
      }
      return .dict(VQLDict(shape: Shape.empty.value, values: []))
    }
    var members: VQLDict?
    if hasStar {
      if case .dict(let dict) = source { members = dict }
      let shape = members?.shape ?? Shape.empty.value
      if sourceShape !== shape || !shape.frozen {
        arrange(shape)
        sourceShape = shape
      }
    }
    var values: [VQLValue] = []
    values.reserveCapacity(slots.count)
    for slot in slots {
      switch slot {
      case .source(let place): values.append(members?.value(at: place) ?? .null)
      case .column(let place):
        values.append(lazyRow.map { $0.value(place) } ?? evaluate(column: place, in: scope))
      }
    }
    return .dict(VQLDict(shape: outputShape, values: values))
  }

  private func visibleShape(of shape: Shape) -> Shape {
    if sourceShape === shape { return outputShape }
    sourceShape = shape
    outputShape = Shape(
      Array(shape.names.prefix(shape.visibleCount)), frozen: true, caseInsensitive: shape.caseInsensitive)
    return outputShape
  }
}

/// Runs one SELECT: source → WHERE → GROUP BY → ORDER BY → LIMIT.
enum SelectRunner {
  /// False when the consumer wanted no more rows.
  static func run(_ node: SelectNode, _ scope: Scope, _ emit: (VQLValue) -> Bool) -> Bool {
    let context = scope.context
    guard context.enter() else { return true }
    defer { context.leave() }
    if node.explain { context.log(.debug, "Explain: \(node.text)") }
    guard let limit = node.limit else { return ordered(node, scope, emit) }
    var left = max(limit, 1)
    var wanted = true
    _ = ordered(node, scope) { row in
      wanted = emit(row)
      left -= 1
      return wanted && left > 0
    }
    return wanted
  }

  private static func ordered(_ node: SelectNode, _ scope: Scope, _ emit: (VQLValue) -> Bool) -> Bool {
    guard let (name, _, descending) = node.orderBy else { return grouped(node, scope, emit) }
    let context = scope.context
    var rows: [(key: VQLValue, row: VQLValue)] = []
    var used = 0
    var missing = false
    _ = grouped(node, scope) { row in
      let key = Members.get(row, name, scope)
      if key == nil && !missing {
        missing = true
        context.log(.none, "Order by column \(name) not present in row")
      }
      let size = row.footprint() + 32
      guard context.reserve(size) else {
        context.log(.error, "ORDER BY exceeds the memory limit of \(context.options.memoryLimit) bytes.")
        return false
      }
      used += size
      rows.append((key?.resolved ?? .null, row))
      return true
    }
    defer { context.release(used) }
    if context.isStopped { return true }
    func key(_ value: VQLValue) -> VQLValue { value.isNull ? .bytes([]) : value }
    rows.sort { a, b in
      descending ? orderedBefore(key(b.key), key(a.key)) : orderedBefore(key(a.key), key(b.key))
    }
    for (_, row) in rows where !emit(row) { return false }
    return true
  }

  /// The order of ORDER BY: `<`, but never true in both directions, as sorting needs a consistent answer.
  private static func orderedBefore(_ a: VQLValue, _ b: VQLValue) -> Bool {
    if Operators.less(a, b) { return !Operators.less(b, a) || b.integer != nil }
    return false
  }

  private final class Group {
    let state = AggregateState()
    var row = VQLValue.null
  }

  private static func grouped(_ node: SelectNode, _ scope: Scope, _ emit: (VQLValue) -> Bool) -> Bool {
    guard let groupBy = node.groupBy else { return filtered(node, scope, emit) }
    let context = scope.context
    let plan = SelectPlan.of(node)
    var places: [[UInt8]: Int] = [:]
    var groups: [Group] = []
    var used = 0
    _ = filtered(node, scope) { row, rowScope, lazyRow in
      let keyScope = lazyRow.map { rowScope.child(.lazyRow($0)) } ?? rowScope
      let key = materialize(groupBy.eval(keyScope).resolved, keyScope).text
      let place = places[key] ?? groups.count
      if place == groups.count {
        let size = 200 + key.count * 2 + row.footprint()
        guard context.reserve(size) else {
          context.log(.error, "GROUP BY exceeds the memory limit of \(context.options.memoryLimit) bytes.")
          return false
        }
        used += size
        places[key] = place
        groups.append(Group())
      }
      let group = groups[place]
      group.row = plan.row(row, rowScope.child(.none, aggregates: group.state), nil)
      return true
    }
    context.release(used)
    if context.isStopped { return true }
    for group in groups where !emit(group.row) { return false }
    return true
  }

  private static func materialize(_ value: VQLValue, _ scope: Scope) -> VQLValue {
    if case .query(let query) = value { return .array(query.collect(scope)) }
    return value
  }

  private static func filtered(_ node: SelectNode, _ scope: Scope, _ emit: (VQLValue) -> Bool) -> Bool {
    let plan = SelectPlan.of(node)
    return filtered(node, scope) { row, rowScope, lazyRow in emit(plan.row(row, rowScope, lazyRow)) }
  }

  /// Source rows that pass WHERE, with their scope and lazy row.
  private static func filtered(
    _ node: SelectNode, _ scope: Scope, _ body: (VQLValue, Scope, LazyRow?) -> Bool
  ) -> Bool {
    let context = scope.context
    let plan = SelectPlan.of(node)
    let needsLazyRow = (node.condition != nil || node.groupBy != nil) && !plan.columnNames.isEmpty
    var rowScope = scope.child()
    var wanted = true
    SourceRunner.run(node.source, scope) { row in
      guard context.operation() else { return false }
      if isKnownUniquelyReferenced(&rowScope) {
        rowScope.layer = Scope.layer(for: row)
      } else {
        rowScope = scope.child(row: row)
      }
      defer { if rowScope.hasDestructors { rowScope.runDestructors() } }
      let lazyRow = needsLazyRow ? LazyRow(node: node, plan: plan, scope: rowScope) : nil
      if let condition = node.condition {
        let visible = lazyRow.map { rowScope.child(.lazyRow($0)) } ?? rowScope
        guard condition.eval(visible).isTrue(visible) else { return !context.isStopped }
      }
      wanted = body(row, rowScope, lazyRow)
      return wanted && !context.isStopped
    }
    return wanted
  }
}
