/// A process tracker fed by queries: one lists all processes now and then, the other tells of starts and exits.
final class InstalledTracker: VQLObject {
  private final class Tracked {
    let id: String
    let parent: String
    let start: VQLTime
    var end: VQLTime?
    let data: VQLDict
    var seen: Int64

    init(id: String, parent: String, start: VQLTime, data: VQLDict, seen: Int64) {
      self.id = id
      self.parent = parent
      self.start = start
      self.data = data
      self.seen = seen
    }
  }

  private static let maximumUpdates = 1000
  private let maximumSize: Int
  private let expiry: Int64
  private var tracked: [String: Tracked] = [:]
  private var latest: [String: String] = [:]
  private var recent: [VQLValue] = []
  private(set) var updateCount = 0
  private var known: [String: VQLDict]?

  private init(maximumSize: Int, expiry: Int64) {
    self.maximumSize = maximumSize
    self.expiry = expiry
  }

  static func find(_ context: Context) -> InstalledTracker? {
    if case .object(let found as InstalledTracker)? = context.caches["installed tracker"] { return found }
    return nil
  }

  static func install(_ call: Call) throws -> VQLValue {
    let size = try call.int("max_size") ?? 10_000
    let expiry = try call.int("max_expiry") ?? 86_400
    let period = try call.int("sync_period") ?? 5000
    let tracker = InstalledTracker(
      maximumSize: Int(max(1, min(size, 1_000_000))), expiry: max(1, min(expiry, 1 << 30)))
    let context = call.context
    let scope = call.scope
    let crew = Crew(context, forSession: true)
    scope.root.onClose { crew.stop() }
    if let query = call.query("sync_query") {
      tracker.synchronize(query, scope)
      crew.start { _ in
        while context.sleep(nanoseconds: max(100, min(period, 86_400_000)) * 1_000_000) {
          tracker.synchronize(query, scope)
        }
      }
    }
    if let query = call.query("update_query") {
      crew.start { _ in
        query.run(scope) { row in
          tracker.note(row)
          tracker.update(row, scope)
          return !context.isStopped
        }
      }
    }
    context.caches["installed tracker"] = .object(tracker)
    return .bool(true)
  }

  /// Reads all processes; those that are no longer listed have ended.
  private func synchronize(_ query: RowSource, _ scope: Scope) {
    let now = Clock.seconds
    var present: Set<String> = []
    query.run(scope) { row in
      if let id = add(row, scope) { present.insert(id) }
      return !scope.context.isStopped
    }
    guard !scope.context.isStopped, !present.isEmpty else { return }
    for entry in tracked.values where entry.end == nil && !present.contains(entry.id) {
      entry.end = VQLTime(seconds: now)
      known = nil
    }
    trim(now)
  }

  private func update(_ row: VQLValue, _ scope: Scope) {
    guard text("update_type", row, scope) == "exit" else {
      _ = add(row, scope)
      return
    }
    let ended = time("end_time", row, scope) ?? VQLTime(seconds: Clock.seconds)
    tracked[resolve(text("id", row, scope))]?.end = ended
    known = nil
  }

  /// Notes a process; its id in the tracker.
  private func add(_ row: VQLValue, _ scope: Scope) -> String? {
    let pid = text("id", row, scope)
    guard !pid.isEmpty else { return nil }
    let start = time("start_time", row, scope) ?? VQLTime(seconds: 0)
    let id = "\(pid)-\(start.seconds)"
    if let old = tracked[id] {
      old.seen = Clock.seconds
      return id
    }
    let parent = text("parent_id", row, scope)
    var data = VQLDict()
    if case .dict(let given)? = Members.get(row, "data", scope)?.resolved { data = given.copy() }
    let entry = Tracked(
      id: id, parent: latest[parent] ?? parent + "-?", start: start, data: data, seen: Clock.seconds)
    entry.end = time("end_time", row, scope).flatMap { $0.isZero ? nil : $0 }
    tracked[id] = entry
    latest[pid] = id
    known = nil
    return id
  }

  private func text(_ name: String, _ row: VQLValue, _ scope: Scope) -> String {
    guard let value = Members.get(row, name, scope)?.resolved, !value.isNull else { return "" }
    return String(decoding: value.text, as: UTF8.self)
  }

  private func time(_ name: String, _ row: VQLValue, _ scope: Scope) -> VQLTime? {
    guard let value = Members.get(row, name, scope)?.resolved, !value.isNull else { return nil }
    return TimeParser.convert(value, scope)
  }

  /// Forgets what is too old, and the oldest beyond the size.
  private func trim(_ now: Int64) {
    for (id, entry) in tracked where entry.end != nil && now - entry.seen > expiry { tracked[id] = nil }
    guard tracked.count > maximumSize else { return }
    let surplus = tracked.values.sorted { $0.seen < $1.seen }.prefix(tracked.count - maximumSize)
    for entry in surplus { tracked[entry.id] = nil }
    known = nil
  }

  private func note(_ row: VQLValue) {
    recent.append(row)
    updateCount += 1
    if recent.count > Self.maximumUpdates { recent.removeFirst() }
  }

  func updates(since count: Int) -> ArraySlice<VQLValue> { recent.suffix(max(0, updateCount - count)) }

  func resolve(_ id: String) -> String { tracked[id] == nil ? latest[id] ?? id : id }

  /// All processes, in the form that the functions of the tracker give.
  var entries: [String: VQLDict] {
    if let known { return known }
    var children: [String: [VQLValue]] = [:]
    for entry in tracked.values.sorted(by: { $0.id < $1.id }) {
      children[resolve(entry), default: []].append(.string(entry.id))
    }
    let made = tracked.mapValues { entry in
      let end = VQLValue.time(entry.end ?? VQLTime(seconds: VQLTime.zeroSeconds))
      let data = entry.data.copy()
      data.set("Pid", .string(entry.id))
      data.set("Ppid", .string(resolve(entry)))
      data.set("StartTime", .time(entry.start))
      data.set("EndTime", end)
      return VQLDict([
        ("Id", .string(entry.id)), ("ParentId", .string(resolve(entry))), ("StartTime", .time(entry.start)),
        ("EndTime", end), ("Data", .dict(data)), ("Children", .array(children[entry.id] ?? [])),
      ])
    }
    known = made
    return made
  }

  /// A parent that was not known when its child came may be known by now.
  private func resolve(_ entry: Tracked) -> String {
    entry.parent.hasSuffix("-?") ? latest[String(entry.parent.dropLast(2))] ?? entry.parent : entry.parent
  }
}
