extension Plugins {
  static let streams: [PluginSpec] = [
    PluginSpec(
      "batch", "batch_size: int, batch_func: string, query*: query, timeout: uint", "Rows in groups."
    ) { call, emit in
      let lambda = try call.lambda("batch_func")
      let size = try call.int("batch_size") ?? (lambda == nil ? 10 : .max)
      let timeout = try call.int("timeout") ?? 3600
      if call.has("timeout") {
        return timedBatches(
          call, seconds: max(1, timeout),
          isFull: { rows in
            Int64(rows.count) >= size || lambda?.call([.array(rows)], in: call.scope).isTrue(call.scope) == true
          }, emit)
      }
      var rows: [VQLValue] = []
      var started = Clock.seconds
      func send() -> Bool {
        defer {
          rows = []
          started = Clock.seconds
        }
        return rows.isEmpty || emit(.dict([("rows", .array(rows))]))
      }
      var wanted = true
      call.query("query")?.run(call.scope) { row in
        rows.append(row)
        let full =
          Int64(rows.count) >= size || Clock.seconds - started >= timeout
          || lambda?.call([.array(rows)], in: call.scope).isTrue(call.scope) == true
        if full { wanted = send() }
        return wanted
      }
      if wanted { _ = send() }
    },
    PluginSpec("sample", "query*: query, n*: int", "Every n-th row, from the first.") { call, emit in
      let n = max(1, try call.int("n") ?? 1)
      var count: Int64 = 0
      call.query("query")?.run(call.scope) { row in
        defer { count &+= 1 }
        return count % n == 0 ? emit(row) : true
      }
    },
    PluginSpec("delay", "query*: query, delay*: int, buffer_size: int", "Rows some seconds later.") { call, emit in
      try delay(call, emit)
    },
    PluginSpec(
      "dedup", "key*: string, query*: query, timeout: uint, size: int", "Drops rows whose key was seen lately."
    ) { call, emit in
      let key = String(decoding: try call.required("key"), as: UTF8.self)
      let timeout = try call.int("timeout") ?? 60
      let size = Int(max(1, min(try call.int("size") ?? 1000, 1_000_000)))
      var seen: [[UInt8]: Int64] = [:]
      var order: [[UInt8]] = []
      call.query("query")?.run(call.scope) { row in
        guard let value = Members.get(row, key, call.scope) else { return true }
        let text = value.resolved.text
        let now = Clock.seconds
        if let last = seen[text], now - last < timeout { return true }
        if seen.updateValue(now, forKey: text) == nil { order.append(text) }
        if order.count > size { seen[order.removeFirst()] = nil }
        return emit(row)
      }
    },
    PluginSpec("diff", "query*: query, key*: string, period: int", "What appeared and vanished.") { call, emit in
      let key = String(decoding: try call.required("key"), as: UTF8.self)
      let period = max(1, min(try call.int("period") ?? 60, 86_400))
      var known: [[UInt8]: VQLValue]?
      func marked(_ row: VQLValue, _ mark: String) -> VQLValue {
        guard case .dict(let dict) = row else { return row }
        let copy = dict.copy()
        copy.set("Diff", .string(mark))
        return .dict(copy)
      }
      while !call.context.isStopped {
        var rows: [[UInt8]: VQLValue] = [:]
        var order: [[UInt8]] = []
        call.query("query")?.run(call.scope) { row in
          guard let value = Members.get(row, key, call.scope) else { return true }
          let text = value.resolved.text
          if rows.updateValue(row, forKey: text) == nil { order.append(text) }
          return true
        }
        if let known {
          for text in order where known[text] == nil {
            if let row = rows[text], !emit(marked(row, "added")) { return }
          }
          for (text, row) in known where rows[text] == nil && !emit(marked(row, "removed")) { return }
        }
        known = rows
        guard call.context.sleep(nanoseconds: period * 1_000_000_000) else { return }
      }
    },
    PluginSpec(
      "fifo", "query*: query, max_age: int, max_rows: int, flush: bool", "The last rows of a query."
    ) { call, emit in
      try fifo(call, emit)
    },
    PluginSpec("sequence", "query*: query, max_age: int", "Combines rows of several queries.", anyNames: true) {
      call, emit in
      try sequence(call, emit)
    },
    PluginSpec("clock", "start: any, period: int, ms: int", "The time, again and again.") { call, emit in
      let period = max(0, min(try call.int("period") ?? 0, 1 << 30))
      let milliseconds = max(0, min(try call.int("ms") ?? 0, 1 << 40))
      var step = period * 1_000_000_000 + milliseconds * 1_000_000
      if step == 0 { step = 1_000_000_000 }
      if let start = call.value("start"), let time = TimeParser.convert(start, call.scope) {
        guard call.context.sleep(nanoseconds: time.unixNanoseconds &- Clock.nanoseconds) else { return }
        if !emit(row(VQLTime(nanosecondsSinceEpoch: Clock.nanoseconds))) { return }
      }
      while call.context.sleep(nanoseconds: step) {
        guard emit(row(VQLTime(nanosecondsSinceEpoch: Clock.nanoseconds))) else { return }
      }
    },
  ]

  private static func row(_ time: VQLTime) -> VQLValue {
    .dict(VQLDict(VQLTime.memberNames.compactMap { name in time.member(name).map { (name, $0) } }))
  }
}
