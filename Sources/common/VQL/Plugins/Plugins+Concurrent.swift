/// Queries that run beside each other.
extension Plugins {
  /// `foreach` with several workers: rows come in whatever order they are made.
  static func foreachConcurrently(
    _ call: Call, _ rows: VQLValue, _ query: VQLValue, workers: Int, pick: (VQLValue) -> VQLValue, _ emit: RowSink
  ) {
    let crew = Crew(call.context)
    defer { crew.stop() }
    var wanted = true
    RowIteration.run(rows, call.scope) { row in
      guard call.context.operation() else { return false }
      let row = pick(row)
      let hasRoom = crew.room(for: workers) { result in
        wanted = emit(result)
        return wanted
      }
      guard hasRoom, wanted else { return false }
      crew.start { crew in
        let scope = call.scope.child(row: row)
        defer { if scope.hasDestructors { scope.runDestructors() } }
        RowIteration.run(query, scope) { crew.send($0) }
      }
      return !call.context.isStopped
    }
    if wanted { crew.drain(emit) }
  }

  /// Runs every given query on a thread of its own.
  static func gather(
    _ call: Call, _ members: [(name: String, value: () -> VQLValue)], _ body: (Crew) -> Void
  ) {
    let crew = Crew(call.context)
    defer { crew.stop() }
    for (_, value) in members {
      crew.start { crew in RowIteration.run(value(), call.scope) { crew.send($0) } }
    }
    body(crew)
  }

  static func sequence(_ call: Call, _ emit: RowSink) throws {
    let maximumAge = max(1, try call.int("max_age") ?? 30)
    var kept: [(time: Int64, row: VQLValue)] = []
    gather(call, call.others) { crew in
      while let row = crew.next() {
        let now = Clock.seconds
        kept.append((now, row))
        kept.removeAll { now - $0.time > maximumAge }
        if kept.count > 1000 { kept.removeFirst() }
        let scope = call.scope.child(.row(VQLDict([("SEQUENCE", .array(kept.map(\.row)))])))
        var found = false
        var wanted = true
        call.query("query")?.run(scope) { result in
          found = true
          wanted = emit(result)
          return wanted
        }
        if found { kept = [] }
        if !wanted || call.context.isStopped { return }
      }
    }
  }

  /// Passes rows on some seconds after they came.
  static func delay(_ call: Call, _ emit: RowSink) throws {
    let delay = max(0, min(try call.int("delay") ?? 0, 86_400)) * 1_000_000_000
    guard let query = call.query("query") else { return }
    let crew = Crew(call.context)
    defer { crew.stop() }
    crew.start { crew in
      query.run(call.scope) { row in crew.send(.array([.int(Clock.nanoseconds), row])) }
    }
    while let stamped = crew.next() {
      guard case .array(let parts) = stamped, parts.count == 2, let time = parts[0].integer else { continue }
      guard call.context.sleep(nanoseconds: time &+ delay &- Clock.nanoseconds), emit(parts[1]) else { return }
    }
  }

  /// Groups of rows that are sent after some seconds at the latest.
  static func timedBatches(
    _ call: Call, seconds: Int64, isFull: @escaping ([VQLValue]) -> Bool, _ emit: RowSink
  ) {
    guard let query = call.query("query") else { return }
    let crew = Crew(call.context)
    defer { crew.stop() }
    crew.start { crew in query.run(call.scope) { crew.send($0) } }
    var rows: [VQLValue] = []
    var started = Clock.seconds
    while true {
      let row = crew.next(milliseconds: max(0, started + seconds - Clock.seconds) * 1000)
      if let row { rows.append(row) }
      let isOver = row == nil && (crew.isIdle || call.context.isStopped)
      if isOver || isFull(rows) || Clock.seconds - started >= seconds {
        if !rows.isEmpty, !emit(.dict([("rows", .array(rows))])) { return }
        rows = []
        started = Clock.seconds
      }
      if isOver { return }
    }
  }

  /// What a `fifo()` call has gathered so far.
  private final class Gathered: VQLObject {
    var rows: [(time: Int64, row: VQLValue)] = []
    let crew: Crew
    init(_ crew: Crew) { self.crew = crew }
  }

  static func fifo(_ call: Call, _ emit: RowSink) throws {
    let limit = Int(max(1, min(try call.int("max_rows") ?? 10, 100_000)))
    let maximumAge = max(1, min(try call.int("max_age") ?? 5, 1 << 30))
    let name = "fifo:\(call.binding.id)"
    let gathered: Gathered
    if case .object(let known as Gathered)? = call.context.caches[name] {
      gathered = known
    } else {
      let crew = Crew(call.context, forSession: true)
      let made = Gathered(crew)
      gathered = made
      call.context.caches[name] = .object(made)
      let query = call.query("query")
      call.scope.root.onClose { crew.stop() }
      crew.start { _ in
        query?.run(call.scope) { row in
          made.rows.append((Clock.seconds, row))
          if made.rows.count > limit { made.rows.removeFirst() }
          return !call.context.isStopped
        }
      }
      // A query that ends at once is seen whole by its first reader.
      let patience = Clock.nanoseconds + 100_000_000
      while crew.running > 0, !call.context.isStopped, Clock.nanoseconds < patience { call.context.waitForNews() }
    }
    let now = Clock.seconds
    let rows = gathered.rows.filter { now - $0.time <= maximumAge }.map(\.row)
    if call.bool("flush") { gathered.rows = [] }
    for row in rows where !emit(row) { return }
  }
}
