/// The process tracker (linux-endpoint.md §6). Without an installed source it answers from the list of processes,
/// kept for ten seconds.
enum ProcessTracker {
  private static let lifetime: Int64 = 10

  private final class Snapshot: VQLObject {
    let made = Clock.seconds
    let entries: [String: VQLDict]

    override init() {
      let users = UserNames()
      let boot = Host.bootTime
      var rows: [String: VQLDict] = [:]
      var children: [String: [VQLValue]] = [:]
      for pid in ProcessList.pids {
        guard case .dict(let row)? = ProcessList.row(pid, boot: boot, users: users) else { continue }
        rows[String(pid)] = row
        children[String(row["Ppid"]?.integer ?? 0), default: []].append(.string(String(pid)))
      }
      entries = rows.reduce(into: [:]) { result, pair in
        let (pid, row) = pair
        let data = row.copy()
        let parent = String(row["Ppid"]?.integer ?? 0)
        let started = row["CreateTime"]?.string.flatMap { TimeParser.guess($0, zone: nil) }
        data.set("Pid", .string(pid))
        data.set("Ppid", .string(parent))
        data.set("StartTime", started.map { .time($0) } ?? .null)
        data.set("EndTime", .time(VQLTime(seconds: VQLTime.zeroSeconds)))
        result[pid] = VQLDict([
          ("Id", .string(pid)), ("ParentId", .string(parent)), ("StartTime", data["StartTime"] ?? .null),
          ("EndTime", data["EndTime"] ?? .null), ("Data", .dict(data)), ("Children", .array(children[pid] ?? [])),
        ])
      }
    }
  }

  static func entries(_ context: Context) -> [String: VQLDict] {
    if let installed = InstalledTracker.find(context) { return installed.entries }
    if case .object(let known as Snapshot)? = context.caches["tracker"], Clock.seconds - known.made < lifetime {
      return known.entries
    }
    let made = Snapshot()
    context.caches["tracker"] = .object(made)
    return made.entries
  }

  /// The id under which a process is tracked: a bare pid stands for its latest process.
  static func resolve(_ id: [UInt8], _ context: Context) -> String {
    let text = String(decoding: id, as: UTF8.self)
    if let installed = InstalledTracker.find(context) { return installed.resolve(text) }
    return String(text.prefix { $0 != "-" })
  }

  /// From the oldest known ancestor to the process, at most ten.
  static func chain(_ id: String, _ entries: [String: VQLDict]) -> [VQLValue] {
    var chain: [VQLValue] = []
    var next: String? = id
    while let known = next, chain.count < 10, let entry = entries[known] {
      chain.insert(.dict(entry), at: 0)
      next = entry["ParentId"]?.string
      if next == known { break }
    }
    return chain
  }

  static func tree(_ id: String, _ entries: [String: VQLDict], _ callback: Lambda?, _ scope: Scope, depth: Int)
    -> VQLValue
  {
    guard let entry = entries[id], depth < 9 else { return .null }
    var data = entry["Data"] ?? .null
    let name = Members.get(data, "Name", scope) ?? .null
    if let callback { data = callback.call([.dict(entry)], in: scope) }
    var children: [VQLValue] = []
    if case .array(let ids)? = entry["Children"] {
      children = ids.compactMap(\.string).map { tree($0, entries, callback, scope, depth: depth + 1) }
    }
    return .dict([
      ("name", name), ("id", .string(id)), ("start_time", entry["StartTime"] ?? .null), ("data", data),
      ("children", .array(children)),
    ])
  }

  /// All entries, by process number.
  static func sorted(_ context: Context) -> [VQLDict] {
    func number(_ id: String) -> Int64 { Int64(id.prefix { $0 != "-" }) ?? 0 }
    return entries(context).sorted { (number($0.key), $0.key) < (number($1.key), $1.key) }.map(\.value)
  }
}

extension Functions {
  static let tracker: [FunctionSpec] = [
    FunctionSpec("process_tracker_get", "id*: string, max_items: int", "A tracked process.") { call in
      let entries = ProcessTracker.entries(call.context)
      return entries[ProcessTracker.resolve(try call.required("id"), call.context)].map { .dict($0) } ?? .null
    },
    FunctionSpec("process_tracker_callchain", "id*: string, max_items: int", "A process with its ancestors.") { call in
      let entries = ProcessTracker.entries(call.context)
      return .array(ProcessTracker.chain(ProcessTracker.resolve(try call.required("id"), call.context), entries))
    },
    FunctionSpec("process_tracker_children", "id*: string, max_items: int", "A process's children.") { call in
      let entries = ProcessTracker.entries(call.context)
      let id = ProcessTracker.resolve(try call.required("id"), call.context)
      guard case .array(let ids)? = entries[id]?["Children"] else { return .array([]) }
      return .array(ids.compactMap { id in entries[id.string ?? ""].map { .dict($0) } })
    },
    FunctionSpec(
      "process_tracker_tree", "id: string, data_callback: lambda, max_items: int", "A process with all below it."
    ) { call in
      let entries = ProcessTracker.entries(call.context)
      let id = ProcessTracker.resolve(call.string("id") ?? Array("1".utf8), call.context)
      let callback = try call.lambda("data_callback")
      return ProcessTracker.tree(id, entries, callback, call.scope, depth: 0)
    },
    FunctionSpec("process_tracker_all", "", "All tracked processes.") { call in
      .array(ProcessTracker.sorted(call.context).map { .dict($0) })
    },
    FunctionSpec(
      "process_tracker",
      "sync_query: query, sync_period: int, update_query: query, max_size: uint, max_expiry: uint, "
        + "enrichments: string[], cache: string", "Installs a process tracker for the rest of the session."
    ) { call in try InstalledTracker.install(call) },
  ]
}

extension Plugins {
  static let tracker: [PluginSpec] = [
    PluginSpec("process_tracker_pslist", "", "The data of all tracked processes.") { call, emit in
      for entry in ProcessTracker.sorted(call.context) {
        if let data = entry["Data"], !emit(data) { return }
      }
    },
    PluginSpec("process_tracker_all", "", "All tracked processes.") { call, emit in
      for entry in ProcessTracker.sorted(call.context) where !emit(.dict(entry)) { return }
    },
    PluginSpec("process_tracker_updates", "", "What the installed tracker is told, as it comes.") { call, emit in
      guard let tracker = InstalledTracker.find(call.context) else { throw CallError("no tracker is installed") }
      var next = tracker.updateCount
      while !call.context.isStopped {
        for row in tracker.updates(since: next) where !emit(row) { return }
        next = tracker.updateCount
        guard call.context.sleep(nanoseconds: 50_000_000) else { return }
      }
    },
  ]
}
