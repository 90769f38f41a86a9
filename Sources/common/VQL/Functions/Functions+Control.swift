import Glibc

extension Functions {
  static let control: [FunctionSpec] = [
    FunctionSpec("if", "condition*: any, then: lazy, else: lazy", "Evaluates and returns one of two branches.") {
      call in
      let truth = call.value("condition")?.isTrue(call.scope) ?? false
      return call.value(truth ? "then" : "else") ?? .null
    },
    FunctionSpec("eval", "func*: lambda, args: any", "Applies a lambda to values.") { call in
      guard let lambda = try call.lambda("func") else { throw CallError("Field func is required") }
      let values: [VQLValue]
      switch call.value("args") {
      case nil: values = [.object(ScopeObject(call.scope))]
      case .array(let elements): values = elements
      case .some(let single): values = [single]
      }
      return call.expand(lambda.call(values, in: call.scope))
    },
    FunctionSpec("scope", "", "The current scope.") { call in .object(ScopeObject(call.scope)) },
    FunctionSpec("background", "query: query", "Runs a query to its end and drops its rows.") { call in
      guard let query = call.query("query") else { return .null }
      let crew = Crew(call.context, forSession: true)
      let scope = call.scope
      scope.root.onClose { crew.stop() }
      crew.start { _ in query.run(scope) { _ in !scope.context.isStopped } }
      return .null
    },
    FunctionSpec("atexit", "query*: any, env: dict, timeout: uint", "Runs a query when the scope closes.") { call in
      let layer = try call.dict("env") ?? VQLDict()
      guard let query = call.value("query") else { return .null }
      let root = call.scope.root
      let limit = max(1, min(try call.int("timeout") ?? 60, 86_400)) * 1_000_000_000
      root.onClose {
        let text = String(decoding: query.text, as: UTF8.self)
        call.context.log(.none, "Running AtExit query \(text)")
        let scope = root.child(.row(layer))
        call.context.closing(nanoseconds: limit) {
          if case .query(let stored) = query {
            stored.run(scope) { _ in !call.context.isStopped }
          } else if let statements = try? Parser.program(text) {
            let bindings = Bindings()
            let own = scope.child(.bindings(bindings))
            for statement in statements {
              try? StatementRunner.run(statement, in: own, bindings: bindings) { _ in !call.context.isStopped }
            }
          }
        }
      }
      return .bool(true)
    },
    FunctionSpec("sleep", "time: int, ms: int", "Waits for seconds or milliseconds.") { call in
      let milliseconds = try call.int("ms") ?? 0
      let seconds = try call.int("time") ?? 0
      let total = max(0, min(seconds, 1 << 30)) * 1_000_000_000 + max(0, min(milliseconds, 1 << 40)) * 1_000_000
      return .bool(call.context.sleep(nanoseconds: total))
    },
    FunctionSpec(
      "log", "message*: string, dedup: int, args: any, level: string", "Writes a line to the query's log.",
      failsAsNull: false
    ) { call in
      let message = try call.required("message")
      let level = LogLevel(rawValue: (call.text("level") ?? "").uppercased()) ?? .none
      guard call.shouldLog(message, seconds: try call.int("dedup") ?? 60) else { return .bool(true) }
      var text = message
      if let arguments = call.value("args"), !arguments.isNull {
        text = Printf.format(message, Printf.operands(arguments))
      }
      call.context.log(level, String(decoding: text, as: UTF8.self))
      return .bool(true)
    },
    FunctionSpec(
      "alert", "name*: string, dedup: int, condition: any", "Logs an alert with event data.", anyNames: true
    ) { call in
      if let condition = call.value("condition"), !condition.isTrue(call.scope) { return .null }
      let name = try call.required("name")
      let data = VQLDict()
      for (key, value) in call.others { data.set(key, call.expand(value())) }
      let record = VQLDict([
        ("timestamp", .time(VQLTime(seconds: Int64(time(nil))))), ("name", .bytes(name)), ("event_data", .dict(data)),
      ])
      let fresh = call.shouldLog(name, seconds: try call.int("dedup") ?? 7200)
      var text: [UInt8] = []
      JSONWriter.object(record, zone: nil, depth: 0, to: &text)
      call.context.log(fresh ? .alert : .info, String(decoding: text, as: UTF8.self))
      return .bool(true)
    },
  ]
}

extension Call {
  /// False when the same message was logged less than so many seconds ago.
  func shouldLog(_ message: [UInt8], seconds: Int64) -> Bool {
    guard seconds >= 0 else { return true }
    let now = Int64(Glibc.time(nil))
    let key = Array(name.utf8) + message
    if let last = context.logTimes[key], now - last < (seconds == 0 ? 60 : seconds) { return false }
    if context.logTimes.count > 10_000 { context.logTimes.removeAll() }
    context.logTimes[key] = now
    return true
  }
}
