import Glibc

/// Plugins that few Linux artifacts need.
extension Plugins {
  static let rare: [PluginSpec] = [
    PluginSpec("plist", "file*: path[], accessor: string", "Property lists of macOS.") { call, emit in
      let accessor = try Accessors.find(call.accessor)
      for path in try call.paths("file") {
        do {
          let value = try PropertyList.parse(try accessor.open(path, call.scope).readAll(limit: 64 << 20))
          guard emit(RowIteration.row(value)), !call.context.isStopped else { return }
        } catch {
          call.log("\(String(decoding: path.text, as: UTF8.self)): \(error)")
        }
      }
    },
    PluginSpec("efivariables", "namespace: string, name: string, value: bool", "Variables of the machine's firmware.") {
      call, emit in
      let folder = "/sys/firmware/efi/efivars"
      guard let names = Posix.list(folder) else { throw CallError("open \(folder): \(Posix.message())") }
      let namespace = call.text("namespace") ?? ""
      let wanted = call.text("name") ?? ""
      let withValue = call.bool("value")
      for file in names.map({ String(decoding: $0, as: UTF8.self) }).sorted() {
        // NAME-GUID; the GUID has 36 characters.
        guard file.utf8.count > 37 else { continue }
        let (name, guid) = (String(file.dropLast(37)), String(file.suffix(36)))
        guard namespace.isEmpty || namespace.lowercased() == guid.lowercased(), wanted.isEmpty || wanted == name else {
          continue
        }
        let row = VQLDict([("Namespace", .string(guid)), ("Name", .string(name))])
        if withValue {
          // Four bytes of attributes stand before the value.
          let content = Posix.readSmall(folder + "/" + file, limit: 1 << 20).map { Array($0.dropFirst(4)) }
          row.set("Value", content.map { .object(BufferObject($0)) } ?? .null)
        }
        guard emit(.dict(row)), !call.context.isStopped else { return }
      }
    },
    PluginSpec(
      "vfs_ls", "path*: path, accessor: string, components: string[], depth: int",
      "Entries of a directory, and of those below it to a depth."
    ) { call, emit in
      let accessor = try Accessors.find(call.accessor)
      let depth = max(0, min(try call.int("depth") ?? 0, 50))
      let components = call.strings("components").map { VQLValue.bytes($0) }
      let root = try call.path("path")
      var pending = [(path: root, components: components, depth: Int64(0))]
      while let next = pending.popLast() {
        let entries: [DirectoryEntry]
        do {
          entries = try accessor.list(next.path, call.scope).sorted { $0.name.lexicographicallyPrecedes($1.name) }
        } catch {
          call.log("\(String(decoding: next.path.text, as: UTF8.self)): \(error)")
          continue
        }
        var below: [(path: VQLPath, components: [VQLValue], depth: Int64)] = []
        for entry in entries {
          let path = next.path.with(next.path.components + [entry.name])
          guard let status = try? accessor.status(path, call.scope),
            case .dict(let row) = status.globRow([], deprecated: {})
          else { continue }
          guard emit(listing(row, path, call.accessor, next.components)), call.context.operation() else { return }
          if status.isDirectory, next.depth < depth {
            below.append((path, next.components + [.bytes(entry.name)], next.depth + 1))
          }
        }
        pending += below.reversed()
      }
    },
  ]

  private static func listing(_ row: VQLDict, _ path: VQLPath, _ accessor: String, _ components: [VQLValue]) -> VQLValue {
    let mode = row["Mode"].map { VQLValue.bytes($0.text) } ?? .null
    return .dict([
      ("_FullPath", .bytes(path.text)), ("_Accessor", .string(accessor)), ("_Data", row["Data"] ?? .null),
      ("_Components", .array(components)), ("Name", row["Name"] ?? .null), ("Size", row["Size"] ?? .null),
      ("Mode", mode), ("mtime", row["Mtime"] ?? .null), ("atime", row["Atime"] ?? .null),
      ("ctime", row["Ctime"] ?? .null), ("btime", row["Btime"] ?? .null),
    ])
  }
}
