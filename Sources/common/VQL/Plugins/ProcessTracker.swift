/// The process tracker without an installed source: answers from the list of processes, kept for ten seconds
/// (linux-endpoint.md §6).
enum ProcessTracker {
  private static let lifetime: Int64 = 10

  private final class Snapshot: VQLObject {
    let made = Clock.seconds
    let entries: [Int64: VQLDict]

    override init() {
      let users = UserNames()
      let boot = Host.bootTime
      var rows: [Int64: VQLDict] = [:]
      var children: [Int64: [VQLValue]] = [:]
      for pid in ProcessList.pids {
        guard case .dict(let row)? = ProcessList.row(pid, boot: boot, users: users) else { continue }
        rows[Int64(pid)] = row
        children[row["Ppid"]?.integer ?? 0, default: []].append(.string(String(pid)))
      }
      entries = rows.reduce(into: [:]) { result, pair in
        let (pid, row) = pair
        let data = row.copy()
        let parent = String(row["Ppid"]?.integer ?? 0)
        let started = row["CreateTime"]?.string.flatMap { TimeParser.guess($0, zone: nil) }
        data.set("Pid", .string(String(pid)))
        data.set("Ppid", .string(parent))
        data.set("StartTime", started.map { .time($0) } ?? .null)
        data.set("EndTime", .time(VQLTime(seconds: VQLTime.zeroSeconds)))
        result[pid] = VQLDict([
          ("Id", .string(String(pid))), ("ParentId", .string(parent)), ("StartTime", data["StartTime"] ?? .null),
          ("EndTime", data["EndTime"] ?? .null), ("Data", .dict(data)), ("Children", .array(children[pid] ?? [])),
        ])
      }
    }
  }

  static func entries(_ context: Context) -> [Int64: VQLDict] {
    if case .object(let known as Snapshot)? = context.caches["tracker"], Clock.seconds - known.made < lifetime {
      return known.entries
    }
    let made = Snapshot()
    context.caches["tracker"] = .object(made)
    return made.entries
  }

  /// A tracked id is a pid, with or without its start time.
  static func pid(_ id: [UInt8]) -> Int64? {
    Int64(String(decoding: id.prefix { $0 != UInt8(ascii: "-") }, as: UTF8.self))
  }

  /// From the oldest known ancestor to the process, at most ten.
  static func chain(_ id: Int64, _ entries: [Int64: VQLDict]) -> [VQLValue] {
    var chain: [VQLValue] = []
    var next: Int64? = id
    while let pid = next, chain.count < 10, let entry = entries[pid] {
      chain.insert(.dict(entry), at: 0)
      next = entry["ParentId"]?.string.flatMap { Int64($0) }
      if next == pid { break }
    }
    return chain
  }

  static func tree(_ id: Int64, _ entries: [Int64: VQLDict], _ callback: Lambda?, _ scope: Scope, depth: Int)
    -> VQLValue
  {
    guard let entry = entries[id], depth < 9 else { return .null }
    var data = entry["Data"] ?? .null
    let name = Members.get(data, "Name", scope) ?? .null
    if let callback { data = callback.call([.dict(entry)], in: scope) }
    var children: [VQLValue] = []
    if case .array(let ids)? = entry["Children"] {
      children = ids.compactMap { $0.string.flatMap { Int64($0) } }.map {
        tree($0, entries, callback, scope, depth: depth + 1)
      }
    }
    return .dict([
      ("name", name), ("id", .string(String(id))), ("start_time", entry["StartTime"] ?? .null), ("data", data),
      ("children", .array(children)),
    ])
  }
}

extension Functions {
  static let tracker: [FunctionSpec] = [
    FunctionSpec("process_tracker_get", "id*: string, max_items: int", "A tracked process.") { call in
      let entries = ProcessTracker.entries(call.context)
      return ProcessTracker.pid(try call.required("id")).flatMap { entries[$0] }.map { .dict($0) } ?? .null
    },
    FunctionSpec("process_tracker_callchain", "id*: string, max_items: int", "A process with its ancestors.") { call in
      guard let pid = ProcessTracker.pid(try call.required("id")) else { return .array([]) }
      return .array(ProcessTracker.chain(pid, ProcessTracker.entries(call.context)))
    },
    FunctionSpec("process_tracker_children", "id*: string, max_items: int", "A process's children.") { call in
      let entries = ProcessTracker.entries(call.context)
      guard let pid = ProcessTracker.pid(try call.required("id")), case .array(let ids)? = entries[pid]?["Children"]
      else { return .array([]) }
      return .array(ids.compactMap { id in Int64(id.string ?? "").flatMap { entries[$0] }.map { .dict($0) } })
    },
    FunctionSpec(
      "process_tracker_tree", "id: string, data_callback: lambda, max_items: int", "A process with all below it."
    ) { call in
      let id = call.string("id").flatMap { ProcessTracker.pid($0) } ?? 1
      let callback = try call.lambda("data_callback")
      return ProcessTracker.tree(id, ProcessTracker.entries(call.context), callback, call.scope, depth: 0)
    },
    FunctionSpec("process_tracker_all", "", "All tracked processes.") { call in
      .array(ProcessTracker.entries(call.context).sorted { $0.key < $1.key }.map { .dict($0.value) })
    },
  ]
}

extension Plugins {
  static let tracker: [PluginSpec] = [
    PluginSpec("process_tracker_pslist", "", "The data of all tracked processes.") { call, emit in
      for (_, entry) in ProcessTracker.entries(call.context).sorted(by: { $0.key < $1.key }) {
        if let data = entry["Data"], !emit(data) { return }
      }
    },
    PluginSpec("process_tracker_all", "", "All tracked processes.") { call, emit in
      for (_, entry) in ProcessTracker.entries(call.context).sorted(by: { $0.key < $1.key }) where !emit(.dict(entry)) {
        return
      }
    },
  ]
}
