import Glibc

extension Plugins {
  static let files: [PluginSpec] = [
    PluginSpec(
      "glob",
      "globs*: string[], root: path, accessor: string, nosymlink: bool, recursion_callback: string, "
        + "one_filesystem: bool", "Files whose path matches a pattern."
    ) { call, emit in
      let accessor = try Accessors.find(call.accessor)
      var root = call.has("root") ? try call.path("root") : VQLPath(components: [], style: .linux)
      var globs = call.strings("globs")
      // A pattern that is a layered path names its own root.
      if let first = globs.first, first.first == UInt8(ascii: "{"), case .dict(let dict)? = JSONReader.value(first) {
        let whole = Accessors.specification(dict, style: .linux)
        globs[0] = whole.innerText
        root = whole.with([])
      }
      var globber = try Globber(globs, accessor: accessor, scope: call.scope)
      globber.followsLinks = !call.bool("nosymlink")
      globber.recursion = try call.lambda("recursion_callback")
      if call.bool("one_filesystem"), let raw = FileStatus.read(root)?.raw {
        globber.onlyDevice = UInt64(truncatingIfNeeded: raw.st_dev)
      }
      globber.walk(from: root, emit)
    },
    PluginSpec("stat", "filename*: path, accessor: string", "What is known of a file.") { call, emit in
      let path = try call.path("filename")
      if let status = try? Accessors.find(call.accessor).status(path, call.scope) { _ = emit(status.statRow) }
    },
    PluginSpec(
      "read_file", "chunk: int, max_length: int, filenames*: path[], accessor: string", "Files in pieces."
    ) { call, emit in
      let chunk = Int(max(1, min(try call.int("chunk") ?? (4 << 20), 64 << 20)))
      let limit = try call.int("max_length") ?? Int64.max
      let accessor = try Accessors.find(call.accessor)
      for path in try call.paths("filenames") {
        do {
          let source = try accessor.open(path, call.scope)
          var offset: Int64 = 0
          while offset < limit {
            let piece = try source.readAll(limit: Int(min(Int64(chunk), limit - offset)))
            if piece.isEmpty { break }
            let row = VQLValue.dict([
              ("Data", .bytes(piece)), ("Offset", .int(offset)), ("Filename", .path(path)),
            ])
            guard emit(row) else { return }
            offset += Int64(piece.count)
          }
        } catch {
          call.log("\(String(decoding: path.text, as: UTF8.self)): \(error)")
        }
      }
    },
    PluginSpec(
      "cat", "filename*: path, accessor: string, chunk: int, timeout: int", "A pipe, device or file as it comes."
    ) { call, emit in
      let path = try call.path("filename")
      let name = call.has("accessor") ? call.accessor : "raw_file"
      let source = try Accessors.find(name).open(path, call.scope)
      let chunk = Int(max(1, min(try call.int("chunk") ?? 65_536, 16 << 20)))
      while !call.context.isStopped, let piece = try source.read(chunk) {
        guard emit(.dict([("Data", .object(BufferObject(piece)))])) else { return }
      }
    },
    PluginSpec(
      "write_csv", "filename*: path, accessor: string, query*: query", "Writes rows to a CSV file and passes them on."
    ) { call, emit in
      try write(call, emit) { row, first, out in
        guard case .dict(let dict) = row else { return }
        if first.isEmpty {
          first = dict.keys
          CSVWriter.row(first.map { .string($0) }, to: &out)
        }
        CSVWriter.row(first.map { dict[$0] ?? .null }, to: &out)
      }
    },
    PluginSpec(
      "write_jsonl",
      "filename*: path, accessor: string, query*: query, buffer_size: int, max_time: int, append: bool",
      "Writes rows as JSON lines and passes them on."
    ) { call, emit in
      try write(call, emit) { row, _, out in
        row.appendJSON(to: &out)
        out.append(10)
      }
    },
    PluginSpec(
      "unzip",
      "filename*: path, accessor: string, filename_filter: string, output_directory*: string, type: string",
      "Extracts members of a zip file."
    ) { call, emit in
      let directory = String(decoding: try call.required("output_directory"), as: UTF8.self)
      let filter = try call.string("filename_filter").flatMap { text in
        text.isEmpty ? nil : try Regex.cached(text, call, ignoreCase: true)
      }
      let archive = try ZipArchive(try Accessors.find(call.accessor).open(try call.path("filename"), call.scope))
      for member in archive.members where !member.isDirectory && !member.components.isEmpty {
        let inner = VQLPath(components: member.components, style: .zip)
        if let filter, !filter.matches(inner.innerText) { continue }
        // The split drops `..`, so that nothing is written outside the directory.
        let target = directory + String(decoding: inner.innerText, as: UTF8.self)
        FileTree.makeParents(of: target)
        let descriptor = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else {
          call.log("open \(target): \(Posix.message())")
          continue
        }
        var size: Int64 = 0
        do {
          defer { close(descriptor) }
          let source = try archive.open(member)
          while let piece = try source.read(1 << 16), !call.context.isStopped {
            try Posix.writeAll(piece, to: descriptor)
            size += Int64(piece.count)
          }
        } catch {
          call.log("\(target): \(error)")
          continue
        }
        let row = VQLValue.dict([
          ("OriginalPath", .path(inner)), ("NewPath", .string(target)), ("Size", .int(size)),
        ])
        guard emit(row) else { return }
      }
    },
  ]

  private static func write(
    _ call: Call, _ emit: RowSink, _ encode: (VQLValue, inout [String], inout [UInt8]) -> Void
  ) throws {
    let path = try call.path("filename").systemText
    let mode = call.has("append") && call.bool("append") ? O_APPEND : O_TRUNC
    let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | mode, 0o600)
    guard descriptor >= 0 else { throw CallError("open \(path): \(Posix.message())") }
    defer { close(descriptor) }
    var columns: [String] = []
    var buffer: [UInt8] = []
    var failure: (any Error)?
    call.query("query")?.run(call.scope) { row in
      encode(Output.value(row, call.scope, depth: 0), &columns, &buffer)
      if buffer.count > 1 << 16 {
        do { try Posix.writeAll(buffer, to: descriptor) } catch { failure = error }
        buffer.removeAll(keepingCapacity: true)
      }
      return failure == nil && emit(row)
    }
    if let failure { throw failure }
    try Posix.writeAll(buffer, to: descriptor)
  }
}
