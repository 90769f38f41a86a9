import CZlib
import Glibc

extension Functions {
  static let storage: [FunctionSpec] = [
    FunctionSpec("compress", "path*: string, output*: string", "Packs a file with gzip.") { call in
      let path = String(decoding: try call.required("path"), as: UTF8.self)
      let output = String(decoding: try call.required("output"), as: UTF8.self)
      let source = try Accessors.find("file").open(VQLPath(Array(path.utf8), style: .linux), call.scope)
      let descriptor = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0o600)
      guard descriptor >= 0 else { throw CallError("open \(output): \(Posix.message())") }
      defer { close(descriptor) }
      let deflater = try Deflater()
      while let piece = try source.read(1 << 18) {
        guard !call.context.isStopped else { throw CallError("cancelled") }
        try Posix.writeAll(try deflater.pack(piece), to: descriptor)
      }
      try Posix.writeAll(try deflater.finish(), to: descriptor)
      return .string(output)
    },
    FunctionSpec(
      "upload_directory",
      "file*: path, name: path, accessor: string, output*: string, mtime: any, atime: any, ctime: any, btime: any",
      "Copies a file into a local directory."
    ) { call in try store(call) },
  ]

  /// Copies a file below a directory, at the place that its name gives.
  private static func store(_ call: Call) throws -> VQLValue {
    let path = try call.path("file")
    let stored = call.has("name") ? (try? call.path("name")) ?? path : path
    let directory = String(decoding: try call.required("output"), as: UTF8.self)
    func words(_ parts: [[UInt8]]) -> [String] { parts.map { String(decoding: $0, as: UTF8.self) } }
    let components = words(stored.components).map { $0.replacing("/", with: "_") }
    guard !components.isEmpty, !components.contains("..") else { throw CallError("the name is not usable") }
    let accessor = try Accessors.find(call.accessor)
    let source = try accessor.open(path, call.scope)
    if (try? accessor.status(path, call.scope))?.isDirectory == true {
      throw CallError("Directories not supported")
    }
    let target = directory + "/" + components.joined(separator: "/")
    FileTree.makeParents(of: target)
    let descriptor = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
    guard descriptor >= 0 else { throw CallError("open \(target): \(Posix.message())") }
    defer { close(descriptor) }
    let digests = [Digest("SHA256"), Digest("MD5")]
    var size: Int64 = 0
    while let piece = try source.read(1 << 18) {
      guard call.context.operation() else { throw CallError("cancelled") }
      for digest in digests { digest.update(piece) }
      size += Int64(piece.count)
      try Posix.writeAll(piece, to: descriptor)
    }
    if let time = call.value("mtime").flatMap({ TimeParser.convert($0, call.scope) }) {
      var times = [
        timespec(tv_sec: Int(time.seconds), tv_nsec: Int(time.nanoseconds)),
        timespec(tv_sec: Int(time.seconds), tv_nsec: Int(time.nanoseconds)),
      ]
      futimens(descriptor, &times)
    }
    return .dict([
      ("Path", .string(target)), ("Size", .int(size)), ("StoredSize", .int(size)),
      ("sha256", .bytes(digests[0].hexadecimal)), ("md5", .bytes(digests[1].hexadecimal)),
      ("StoredName", .bytes(stored.text)), ("Components", .array(components.map { .string($0) })),
      ("Accessor", .string(call.accessor)),
    ])
  }
}

/// Packs bytes in gzip form.
final class Deflater {
  private var stream = z_stream()

  init() throws {
    let code = deflateInit2_(
      &stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
      Int32(MemoryLayout<z_stream>.size))
    guard code == Z_OK else { throw CallError("deflate: out of memory") }
  }

  deinit { deflateEnd(&stream) }

  func pack(_ bytes: [UInt8]) throws -> [UInt8] { try run(bytes, Z_NO_FLUSH) }
  func finish() throws -> [UInt8] { try run([], Z_FINISH) }

  private func run(_ bytes: [UInt8], _ mode: Int32) throws -> [UInt8] {
    var input = bytes
    var out: [UInt8] = []
    try input.withUnsafeMutableBufferPointer { buffer in
      stream.next_in = buffer.baseAddress
      stream.avail_in = UInt32(buffer.count)
      while true {
        var status = Z_OK
        let piece = [UInt8](unsafeUninitializedCapacity: 65_536) { output, count in
          stream.next_out = output.baseAddress
          stream.avail_out = 65_536
          status = deflate(&stream, mode)
          count = 65_536 - Int(stream.avail_out)
        }
        guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else {
          throw CallError("deflate: error \(status)")
        }
        out += piece
        if stream.avail_out > 0 || status == Z_STREAM_END { return }
      }
    }
    return out
  }
}
