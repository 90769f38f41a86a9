extension Plugins {
  static let journal: [PluginSpec] = [
    PluginSpec(
      "parse_journald", "filename*: path[], accessor: string, raw: bool, start_time: time, end_time: time",
      "Entries of systemd's journal files."
    ) { call, emit in
      let first = call.has("start_time") ? microseconds(call.time("start_time")) : nil
      let last = call.has("end_time") ? microseconds(call.time("end_time")) : nil
      let accessor = try Accessors.find(call.accessor)
      let isRaw = call.bool("raw")
      for path in try call.paths("filename") {
        if call.context.isStopped { return }
        var wanted = true
        do {
          _ = try JournalFile(try accessor.open(path, call.scope)).read(from: 0) { entry in
            guard call.context.operation() else { return false }
            if let first, entry.realtime < first { return true }
            if let last, entry.realtime > last { return true }
            wanted = emit(row(entry, isRaw: isRaw))
            return wanted
          }
        } catch {
          call.log("\(String(decoding: path.text, as: UTF8.self)): \(error)")
        }
        if !wanted { return }
      }
    },
    PluginSpec("watch_journald", "filename*: path[], accessor: string, raw: bool", "New entries of journal files.") {
      call, emit in
      let accessor = try Accessors.find(call.accessor)
      let isRaw = call.bool("raw")
      var seen: [[UInt8]: Int64] = [:]
      func open(_ path: VQLPath) throws -> JournalFile { try JournalFile(try accessor.open(path, call.scope)) }
      let paths = try call.paths("filename")
      for path in paths { seen[path.text] = (try? open(path).entryCount) ?? 0 }
      repeat {
        for path in paths {
          var wanted = true
          do {
            let file = try open(path)
            // Fewer entries than before: another file took its place.
            let known = min(seen[path.text] ?? 0, file.entryCount) == seen[path.text] ? seen[path.text] ?? 0 : 0
            seen[path.text] = try file.read(from: known) { entry in
              wanted = call.context.operation() && emit(row(entry, isRaw: isRaw))
              return wanted
            }
          } catch {
            if call.shouldLog(path.text, seconds: 3600) {
              call.log("\(String(decoding: path.text, as: UTF8.self)): \(error)")
            }
          }
          if !wanted { return }
        }
      } while call.context.sleep(nanoseconds: call.context.options.pollInterval)
    },
  ]

  /// Microseconds since the epoch, nil for the zero time.
  private static func microseconds(_ time: VQLTime) -> Int64? {
    time.isZero ? nil : time.seconds &* 1_000_000 &+ Int64(time.nanoseconds / 1000)
  }

  private static func row(_ entry: JournalFile.Entry, isRaw: Bool) -> VQLValue {
    let time = VQLValue.time(
      VQLTime(seconds: entry.realtime / 1_000_000, nanoseconds: Int32(entry.realtime % 1_000_000 * 1000)))
    let data = VQLDict()
    for (name, value) in entry.fields {
      // A name may occur several times in an entry.
      if case .array(let known)? = data[name] {
        data.set(name, .array(known + [.bytes(value)]))
      } else if let known = data[name] {
        data.set(name, .array([known, .bytes(value)]))
      } else {
        data.set(name, .bytes(value))
      }
    }
    let boot = data["_BOOT_ID"] ?? .bytes(Hex.encode(entry.boot))
    let system = VQLDict([
      ("Seq", .int(entry.number)), ("Timestamp", time), ("_BOOT_ID", boot), ("MonotonicTimestamp", .int(entry.monotonic)),
    ])
    if isRaw {
      data.eachMember { system.set($0, $1) }
      return .dict(system)
    }
    return .dict([("System", .dict(system)), ("EventData", .dict(data.filtered { $0 != "_BOOT_ID" }))])
  }
}
