import Glibc

/// Follows files that grow: complete lines are given out as they appear (linux-endpoint.md §4).
///
/// A file known from the start is read from its end, one that turns up later from its start; one that shrank was
/// replaced or truncated, and is read anew.
struct FileWatcher {
  private static let maximumLine = 16 << 10
  private static let maximumFiles = 10_000

  private struct Followed {
    var offset: Int64
    var partial: [UInt8] = []
  }
  private let call: Call
  private let accessor: any Accessor
  private var files: [[UInt8]: Followed] = [:]
  private var paths: [VQLPath]

  init(_ call: Call, _ paths: [VQLPath]) throws {
    self.call = call
    accessor = try Accessors.find(call.accessor)
    self.paths = paths
    for path in paths { files[path.text] = Followed(offset: size(path) ?? 0) }
  }

  private func size(_ path: VQLPath) -> Int64? { try? accessor.open(path, call.scope).size }

  /// Polls until the query ends or the consumer has enough.
  /// - Parameter discover: files that are to be followed too.
  mutating func run(discover: () -> [VQLPath], _ body: (VQLPath, [UInt8]) -> Bool) {
    while !call.context.isStopped {
      for path in discover() where files[path.text] == nil && files.count < Self.maximumFiles {
        files[path.text] = Followed(offset: 0)
        paths.append(path)
      }
      for path in paths {
        guard poll(path, body) else { return }
      }
      guard call.context.sleep(nanoseconds: call.context.options.pollInterval) else { return }
    }
  }

  private mutating func poll(_ path: VQLPath, _ body: (VQLPath, [UInt8]) -> Bool) -> Bool {
    guard var followed = files[path.text], let source = try? accessor.open(path, call.scope) else { return true }
    if let size = source.size, size < followed.offset { followed = Followed(offset: 0) }
    defer { files[path.text] = followed }
    do {
      try source.skip(to: followed.offset)
      while !call.context.isStopped, let piece = try source.read(65_536) {
        followed.offset += Int64(piece.count)
        for byte in piece {
          if byte == 10 {
            if followed.partial.last == 13 { followed.partial.removeLast() }
            let line = followed.partial
            followed.partial = []
            guard body(path, line) else { return false }
          } else if followed.partial.count < Self.maximumLine {
            followed.partial.append(byte)
          }
        }
      }
    } catch {
      call.log("\(String(decoding: path.text, as: UTF8.self)): \(error)")
    }
    return true
  }
}

extension Plugins {
  static let watchers: [PluginSpec] = [
    PluginSpec(
      "watch_syslog", "filename: path[], accessor: string, buffer_size: int, query: query", "New lines of log files."
    ) { call, emit in
      var watcher = try FileWatcher(call, call.has("filename") ? try call.paths("filename") : [])
      let shape = Shape(["OSPath", "Line"])
      let query = call.query("query")
      watcher.run(discover: {
        var found: [VQLPath] = []
        query?.run(call.scope) { row in
          if let value = Members.get(row, "OSPath", call.scope)?.resolved,
            let path = try? Accessors.path(value, accessor: call.accessor)
          {
            found.append(path)
          }
          return !call.context.isStopped
        }
        return found
      }) { path, line in
        emit(.dict(VQLDict(shape: shape, values: [.path(path), .bytes(line)])))
      }
    },
    PluginSpec(
      "watch_jsonl", "filename*: path[], accessor: string, buffer_size: int", "New objects of JSON line files."
    ) { call, emit in
      var watcher = try FileWatcher(call, try call.paths("filename"))
      watcher.run(discover: { [] }) { _, line in
        if line.allSatisfy(Bytes.isSpace) { return true }
        guard let value = JSONReader.value(line) else {
          call.log("Invalid JSON line: \(String(decoding: line.prefix(100), as: UTF8.self))")
          return true
        }
        return emit(RowIteration.row(value))
      }
    },
    PluginSpec(
      "watch_csv",
      "filename*: path[], accessor: string, auto_headers: bool, separator: string, comment: string, "
        + "columns: string[]", "New rows of CSV files."
    ) { call, emit in
      let paths = try call.paths("filename")
      let separator = call.string("separator")?.first ?? UInt8(ascii: ",")
      let comment = call.string("comment")?.first
      let given = call.strings("columns").map { String(decoding: $0, as: UTF8.self) }
      let numbered = call.bool("auto_headers")
      // The header stands before what is followed.
      var shapes: [[UInt8]: Shape] = [:]
      for path in paths where given.isEmpty && !numbered {
        guard let source = try? Accessors.find(call.accessor).open(path, call.scope) else { continue }
        var table = CSVReader(source, separator: separator, comment: comment)
        if let header = try table.next() {
          shapes[path.text] = Shape(header.map { String(decoding: $0, as: UTF8.self) })
        }
      }
      var watcher = try FileWatcher(call, paths)
      watcher.run(discover: { [] }) { path, line in
        var table = CSVReader(MemorySource(line), separator: separator, comment: comment)
        guard let fields = try? table.next() else { return true }
        let names = numbered ? fields.indices.map { "Col\($0)" } : given
        let shape =
          shapes[path.text] ?? Shape(names.isEmpty ? fields.map { String(decoding: $0, as: UTF8.self) } : names)
        if shapes.updateValue(shape, forKey: path.text) == nil && names.isEmpty { return true }
        var values = fields.prefix(shape.names.count).map(CSVReader.value)
        while values.count < shape.names.count { values.append(.bytes([])) }
        return emit(.dict(VQLDict(shape: shape, values: values)))
      }
    },
  ]
}
