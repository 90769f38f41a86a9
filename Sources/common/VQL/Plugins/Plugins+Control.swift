extension Plugins {
  static let control: [PluginSpec] = [
    PluginSpec(
      "foreach", "row*: lazy, query: query, async: bool, workers: int, column: string",
      "Runs a query for each row of another."
    ) { call, emit in
      let column = call.text("column") ?? ""
      let query = call.value("query")
      guard let rows = call.value("row") else { return }
      func pick(_ row: VQLValue) -> VQLValue {
        if column.isEmpty { return row }
        let picked = Members.get(row, column, call.scope)?.resolved ?? .null
        if picked.isNull { return .dict(VQLDict()) }
        if case .query(let inner) = picked { return .array(inner.collect(call.scope)) }
        return picked
      }
      let workers = call.bool("async") ? 100 : max(1, min(try call.int("workers") ?? 1, 100))
      if workers > 1, let query {
        return foreachConcurrently(call, rows, query, workers: Int(workers), pick: pick, emit)
      }
      RowIteration.run(rows, call.scope) { row in
        guard call.context.operation() else { return false }
        let row = pick(row)
        guard let query else { return emit(row) }
        let scope = call.scope.child(row: row)
        defer { if scope.hasDestructors { scope.runDestructors() } }
        var wanted = true
        RowIteration.run(query, scope) { result in
          wanted = emit(result)
          return wanted
        }
        return wanted && !call.context.isStopped
      }
    },
    PluginSpec("if", "condition*: any, then*: query, else: query", "Runs one of two queries.") { call, emit in
      let truth = call.value("condition")?.isTrue(call.scope) ?? false
      if let rows = call.query(truth ? "then" : "else") { rows.run(call.scope, emit) }
    },
    PluginSpec("switch", "", "Runs queries until one gives rows.", anyNames: true) { call, emit in
      for (_, value) in call.all {
        var found = false
        RowIteration.run(value(), call.scope) { row in
          found = true
          return emit(row)
        }
        if found || call.context.isStopped { return }
      }
    },
    PluginSpec("chain", "async: bool", "Runs queries one after the other.", anyNames: true) { call, emit in
      if call.bool("async") {
        gather(call, call.others) { $0.drain(emit) }
      } else {
        chain(call, emit)
      }
    },
    PluginSpec("combine", "", "Runs queries and merges their rows.", anyNames: true) { call, emit in
      gather(call, call.all) { $0.drain(emit) }
    },
    PluginSpec("range", "start: int, end*: int, step: int", "Numbers from start to below end.") { call, emit in
      var value = try call.int("start") ?? 0
      let end = try call.int("end") ?? 0
      var step = try call.int("step") ?? 1
      if step == 0 { step = 1 }
      let shape = Shape(["_value"])
      while step > 0 ? value < end : false {
        guard emit(.dict(VQLDict(shape: shape, values: [.int(value)]))) else { return }
        let (next, overflow) = value.addingReportingOverflow(step)
        if overflow { return }
        value = next
      }
    },
    PluginSpec("scope", "", "One row: the current scope.") { call, emit in
      _ = emit(.object(ScopeObject(call.scope)))
    },
    PluginSpec(
      "query",
      "query*: any, env: dict, copy_env: string[], cpu_limit: float, iops_limit: float, timeout: float, "
        + "progress_timeout: float, org_id: string, runas: string, inherit: bool, exit: lambda",
      "Runs a query given as text or as a query."
    ) { call, emit in
      try query(call, emit)
    },
  ]

  private static func chain(_ call: Call, _ emit: RowSink) {
    for (name, value) in call.all where name != "async" {
      var wanted = true
      RowIteration.run(value(), call.scope) { row in
        wanted = emit(row)
        return wanted
      }
      if !wanted || call.context.isStopped { return }
    }
  }

  private static func query(_ call: Call, _ emit: RowSink) throws {
    let layer = try call.dict("env")?.copy() ?? VQLDict()
    for name in call.strings("copy_env") {
      let name = String(decoding: name, as: UTF8.self)
      if let value = call.scope.variable(name) { layer.set(name, value) }
    }
    let bindings = Bindings()
    let base: Scope
    if call.bool("inherit") {
      base = call.scope
    } else {
      base = Scope(context: call.context, parent: nil, layer: environment(call.scope), aggregates: AggregateState())
    }
    let scope = base.child(.row(layer)).child(.bindings(bindings), aggregates: AggregateState())
    defer { if !call.bool("inherit") { scope.close() } }
    let exit = try call.lambda("exit")
    let seconds = try call.float("timeout") ?? 0
    var wanted = true
    func sink(_ row: VQLValue) -> Bool {
      wanted = emit(row)
      if let exit, exit.call([row], in: scope).isTrue(scope) { wanted = false }
      return wanted
    }
    guard let value = call.value("query") else { return }
    let limit = seconds > 0 ? VQLValue.truncate(min(seconds, 1e9) * 1e9) : Int64.max
    try call.context.limited(nanoseconds: limit) {
      if case .query(let stored) = value {
        stored.run(scope, sink)
        return
      }
      let text = String(decoding: Call.string(value), as: UTF8.self)
      call.log("running query \(text)")
      for statement in try Parser.program(text) where wanted {
        try StatementRunner.run(statement, in: scope, bindings: bindings, sink)
      }
    }
  }

  /// The oldest layer of a scope: what every query of the session sees.
  private static func environment(_ scope: Scope) -> Scope.Layer { scope.root.layer }
}
