import CLibCrypto
import Glibc

/// Digests of a stream of bytes.
package final class Digest {
  private let context: OpaquePointer?

  /// `name` as libcrypto knows it: MD5, SHA1, SHA256.
  package init(_ name: String) {
    context = EVP_MD_CTX_new()
    if EVP_DigestInit_ex(context, EVP_get_digestbyname(name), nil) != 1 { EVP_MD_CTX_reset(context) }
  }

  deinit { EVP_MD_CTX_free(context) }

  package func update(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { _ = EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
  }

  /// The digest, once.
  package var hexadecimal: [UInt8] {
    var out = [UInt8](repeating: 0, count: 64)
    var count: UInt32 = 0
    guard EVP_DigestFinal_ex(context, &out, &count) == 1 else { return [] }
    return Hex.encode(out.prefix(Int(count)))
  }
}

extension Functions {
  static let files: [FunctionSpec] = [
    FunctionSpec("hash", "path*: path, accessor: string, hashselect: string[], max_size: uint", "Digests of a file.") {
      call in try hash(call)
    },
    FunctionSpec(
      "read_file", "length: int, offset: int, filename*: path, accessor: string", "The content of a file."
    ) { call in
      do {
        let source = try Accessors.find(call.accessor).open(try call.path("filename"), call.scope)
        let offset = try call.int("offset") ?? 0
        if offset > 0 { try source.skip(to: offset) }
        let length = try call.int("length") ?? 0
        return .bytes(try source.readAll(limit: length > 0 ? Int(min(length, 1 << 30)) : 4 << 20))
      } catch {
        let path = (try? call.path("filename").text).map { String(decoding: $0, as: UTF8.self) } ?? ""
        call.log("\(path): \(error)")
        return .bytes([])
      }
    },
    FunctionSpec("stat", "filename*: path, accessor: string", "What is known of a file.") { call in
      let path = try call.path("filename")
      return (try? Accessors.find(call.accessor).status(path, call.scope))?.statRow ?? .null
    },
    FunctionSpec("rm", "filename*: string", "Removes a file.") { call in
      let path = String(decoding: try call.required("filename"), as: UTF8.self)
      guard unlink(path) == 0 || rmdir(path) == 0 else {
        return .bool(false)
      }
      return .bool(true)
    },
    FunctionSpec(
      "tempfile", "data: string[], extension: string, permissions: string, remove_last: bool",
      "A temporary file, removed when the scope closes.", failsAsNull: false
    ) { call in
      let base = HostEnvironment.value("TMPDIR") ?? "/tmp"
      let ending = call.text("extension") ?? ""
      guard !ending.contains("/") else { throw CallError("the extension must not hold a slash") }
      var path = ""
      var descriptor: Int32 = -1
      for _ in 0..<100 where descriptor < 0 {
        path = base + "/tmp" + String(UInt64.random(in: 0 ... .max), radix: 36) + ending
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
      }
      guard descriptor >= 0 else { throw CallError(Posix.message()) }
      defer { close(descriptor) }
      let made = path
      (call.bool("remove_last") ? call.scope.root : call.scope).onClose { unlink(made) }
      for piece in call.strings("data") { try Posix.writeAll(piece, to: descriptor) }
      switch call.text("permissions") {
      case "x": fchmod(descriptor, 0o700)
      case "r": fchmod(descriptor, 0o400)
      default: break
      }
      return .string(path)
    },
    FunctionSpec("tempdir", "remove_last: bool", "A temporary directory.", failsAsNull: false) { call in
      let path = try FileTree.temporaryDirectory()
      (call.bool("remove_last") ? call.scope.root : call.scope).onClose { FileTree.remove(path) }
      return .string(path)
    },
    FunctionSpec(
      "copy",
      "filename*: path, accessor: string, dest*: string, permissions: string, dir_permissions: string, append: bool, "
        + "create_directories: bool", "Copies a file."
    ) { call in
      let dest = String(decoding: try call.required("dest"), as: UTF8.self)
      let path = try call.path("filename")
      let source = try Accessors.find(call.accessor).open(path, call.scope)
      if call.accessor != "data" {
        call.log("Copying file from \(String(decoding: path.text, as: UTF8.self)) into \(dest)")
      }
      try write(call, dest) { descriptor in
        while let piece = try source.read(1 << 20) {
          if call.context.isStopped { throw CallError("cancelled") }
          try Posix.writeAll(piece, to: descriptor)
        }
      }
      return .string(dest)
    },
    FunctionSpec(
      "write_file", "data*: string, dest*: string, permissions: string, append: bool, create_directories: bool",
      "Writes text to a file."
    ) { call in
      let dest = String(decoding: try call.required("dest"), as: UTF8.self)
      let data = try call.required("data")
      try write(call, dest) { try Posix.writeAll(data, to: $0) }
      return .string(dest)
    },
    FunctionSpec(
      "upload", "file*: path, name: path, accessor: string, mtime: any, atime: any, ctime: any, btime: any",
      "Sends a file to the server."
    ) { call in try upload(call) },
  ]

  // MARK: digests

  private static func hash(_ call: Call) throws -> VQLValue {
    let path = try call.path("path")
    guard let source = try? Accessors.find(call.accessor).open(path, call.scope) else { return .null }
    let selected = call.strings("hashselect").map { String(decoding: $0, as: UTF8.self).uppercased() }
    let names = ["MD5", "SHA1", "SHA256"]
    if let unknown = selected.first(where: { !names.contains($0) }) {
      throw CallError("Unknown hash \(unknown): known are \(names.joined(separator: ", "))")
    }
    let digests = names.filter { selected.isEmpty || selected.contains($0) }.map { ($0, Digest($0)) }
    var limit = try call.int("max_size") ?? 0
    if limit <= 0 {
      limit = call.scope.variable("HASH_MAX_SIZE").flatMap { NumberText.parseInteger($0.text) } ?? 100_000_000
    }
    var total: Int64 = 0
    do {
      while let piece = try source.read(65_536) {
        for (_, digest) in digests { digest.update(piece) }
        total += Int64(piece.count)
        guard total <= limit else {
          call.log("file \(String(decoding: path.text, as: UTF8.self)) is larger than \(limit) bytes")
          break
        }
        guard call.context.operation() else { return .null }
      }
    } catch {
      call.log("\(error)")
    }
    return .dict(
      names.map { name in (name, .bytes(digests.first { $0.0 == name }?.1.hexadecimal ?? [])) })
  }

  // MARK: writing

  /// `0755` or `rw-r--r--`.
  private static func permissions(_ text: String) -> mode_t? {
    if text.isEmpty { return nil }
    if let number = UInt32(text, radix: 8) { return mode_t(number & 0o777) }
    guard text.utf8.count == 9 else { return nil }
    return text.utf8.reduce(mode_t(0)) { $0 << 1 | ($1 == UInt8(ascii: "-") ? 0 : 1) }
  }

  private static func write(_ call: Call, _ dest: String, _ body: (Int32) throws -> Void) throws {
    let text = call.text("permissions") ?? ""
    let mode = permissions(text)
    if !text.isEmpty && mode == nil { throw CallError("invalid permissions \(text)") }
    if call.bool("create_directories") { FileTree.makeParents(of: dest) }
    let flags = call.bool("append") ? O_WRONLY | O_APPEND : O_WRONLY | O_CREAT | O_TRUNC
    let descriptor = open(dest, flags | O_CLOEXEC | O_NONBLOCK, mode ?? 0o600)
    guard descriptor >= 0 else { throw CallError("open \(dest): \(Posix.message())") }
    defer { close(descriptor) }
    try body(descriptor)
  }

  // MARK: upload

  private static func upload(_ call: Call) throws -> VQLValue {
    guard let uploader = call.context.options.uploader else { throw CallError("Uploader not configured.") }
    let path = try call.path("file")
    let accessor = call.accessor
    let stored = call.has("name") ? (try? call.path("name")) ?? path : path
    let key = "\(accessor):\(String(decoding: stored.text, as: UTF8.self))"
    if let known = call.context.uploads[key] { return known }
    func failed(_ text: String) -> VQLValue {
      call.log("\(text)")
      return .dict([("Path", .string("")), ("Size", .int(0)), ("Error", .string(text))])
    }
    let found = try Accessors.find(accessor)
    let source: ByteSource
    do { source = try found.open(path, call.scope) } catch { return failed("\(error)") }
    let status = accessor == "data" || accessor == "scope" ? nil : try? found.status(path, call.scope)
    if status?.isDirectory == true { return failed("Directories not supported") }
    func nanoseconds(_ name: String, _ known: VQLTime?) -> Int64? {
      if let value = call.value(name), !value.isNull { return TimeParser.convert(value, call.scope)?.unixNanoseconds }
      return known.flatMap { $0.isZero ? nil : $0.unixNanoseconds }
    }
    func words(_ parts: [[UInt8]]) -> [String] { parts.map { String(decoding: $0, as: UTF8.self) } }
    var request = VQLUploadRequest(
      path: String(decoding: path.text, as: UTF8.self), components: words(path.components), accessor: accessor,
      storeAsName: String(decoding: stored.text, as: UTF8.self), storeAsComponents: words(stored.components),
      expectedSize: source.size ?? status?.size ?? 0, modified: nanoseconds("mtime", status?.modified),
      accessed: nanoseconds("atime", status?.accessed), changed: nanoseconds("ctime", status?.changed),
      born: nanoseconds("btime", status?.born), mode: status?.mode ?? 0)
    request.isResumable = call.scope.variable("UPLOAD_IS_RESUMABLE")?.isTrue(call.scope) ?? false
    let result: VQLUploadResult
    do {
      result = try uploader.upload(request) { maximum in
        if call.context.isStopped { throw call.context.cancellation.error }
        return try source.read(maximum)
      }
    } catch {
      return failed("\(error)")
    }
    let answer = VQLDict([
      ("Path", .string(accessor == "data" ? "" : request.path)), ("Size", .int(result.size)),
      ("UploadId", .int(result.uploadID ?? 0)),
    ])
    if result.storedSize > 0 { answer.set("StoredSize", .int(result.storedSize)) }
    if let error = result.error { answer.set("Error", .string(error)) }
    if !result.sha256.isEmpty { answer.set("sha256", .string(result.sha256)) }
    if !result.md5.isEmpty { answer.set("md5", .string(result.md5)) }
    answer.set("StoredName", .string(request.storeAsName))
    answer.set("Components", .array(request.storeAsComponents.map { .string($0) }))
    answer.set("Accessor", .string(accessor))
    call.context.uploads[key] = .dict(answer)
    return .dict(answer)
  }
}
