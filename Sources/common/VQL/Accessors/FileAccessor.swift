import Glibc

extension VQLPath {
  /// Calls the body with the path as the system takes it.
  func withSystemPath<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
    let text = innerText.isEmpty ? [UInt8(ascii: "/")] : innerText
    var bytes = text.map { CChar(bitPattern: $0) }
    bytes.append(0)
    return bytes.withUnsafeBufferPointer { buffer in
      guard let start = buffer.baseAddress else { return body("/") }
      return body(start)
    }
  }

  var systemText: String {
    let text = innerText
    return text.isEmpty ? "/" : String(decoding: text, as: UTF8.self)
  }
}

/// Operating system files.
struct FileAccessor: Accessor {
  var ignoreCase = false
  /// Devices and pipes may be opened too.
  var anyKind = false

  func open(_ path: VQLPath, _ scope: Scope) throws -> ByteSource {
    let path = ignoreCase ? resolve(path) : path
    var status = stat()
    guard path.withSystemPath({ stat($0, &status) }) == 0 else { throw missing(path) }
    let kind = status.st_mode & S_IFMT
    guard anyKind || kind == S_IFREG || kind == S_IFDIR else { throw CallError("Only regular files supported") }
    // Between the two calls the file may have become a pipe: never wait for a writer.
    let descriptor = path.withSystemPath { Glibc.open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) }
    guard descriptor >= 0 else { throw CallError("open \(path.systemText): \(Posix.message())") }
    return DescriptorSource(descriptor, size: kind == S_IFREG ? Int64(status.st_size) : 0, isDirectory: kind == S_IFDIR)
  }

  /// The error of the first component that cannot be reached, as the reference words it.
  private func missing(_ path: VQLPath) -> CallError {
    let code = errno
    var reached: [[UInt8]] = []
    for part in path.components {
      reached.append(part)
      var status = stat()
      let prefix = path.with(reached)
      if prefix.withSystemPath({ lstat($0, &status) }) != 0 {
        return CallError("lstat \(prefix.systemText): \(Posix.message())")
      }
    }
    return CallError("stat \(path.systemText): \(Posix.message(code))")
  }

  func status(_ path: VQLPath, _ scope: Scope) throws -> FileStatus {
    let path = ignoreCase ? resolve(path) : path
    guard let status = FileStatus.read(path) else { throw missing(path) }
    return status
  }

  func list(_ path: VQLPath, _ scope: Scope) throws -> [DirectoryEntry] {
    guard let directory = path.withSystemPath({ opendir($0) }) else {
      throw CallError("open \(path.systemText): \(Posix.message())")
    }
    defer { closedir(directory) }
    var entries: [DirectoryEntry] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { start -> [UInt8] in
          (0..<strnlen(start, 256)).map { UInt8(bitPattern: start[$0]) }
        }
      }
      if name == [0x2E] || name == [0x2E, 0x2E] { continue }
      let kind: DirectoryEntry.Kind =
        switch entry.pointee.d_type {
        case 4: .directory
        case 10: .link
        case 0: .unknown
        default: .other
        }
      entries.append(DirectoryEntry(name: name, kind: kind))
    }
    return entries
  }

  /// The path with each component in the case that exists.
  private func resolve(_ path: VQLPath) -> VQLPath {
    var found: [[UInt8]] = []
    for part in path.components {
      var status = stat()
      if path.with(found + [part]).withSystemPath({ lstat($0, &status) }) == 0 {
        found.append(part)
        continue
      }
      let wanted = String(decoding: part, as: UTF8.self).lowercased()
      let names = Posix.list(path.with(found).systemText) ?? []
      found.append(names.first { String(decoding: $0, as: UTF8.self).lowercased() == wanted } ?? part)
    }
    return path.with(found)
  }
}

/// An open file.
final class DescriptorSource: ByteSource {
  private let descriptor: Int32
  private let length: Int64
  private let isDirectory: Bool

  init(_ descriptor: Int32, size: Int64, isDirectory: Bool) {
    self.descriptor = descriptor
    length = size
    self.isDirectory = isDirectory
  }

  deinit { close(descriptor) }

  override var size: Int64? { length }

  override func read(_ maximum: Int) throws -> [UInt8]? {
    if isDirectory || maximum <= 0 { return nil }
    var failure: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: maximum) { buffer, count in
      var got = Glibc.read(descriptor, buffer.baseAddress, maximum)
      while got < 0 && errno == EINTR { got = Glibc.read(descriptor, buffer.baseAddress, maximum) }
      if got < 0 { failure = errno }
      count = max(0, got)
    }
    // A pipe without data yet counts as ended: the engine never waits for one here.
    if failure != 0 && failure != EAGAIN { throw CallError("read: \(Posix.message(failure))") }
    return bytes.isEmpty ? nil : bytes
  }

  override func skip(to offset: Int64) throws {
    if lseek(descriptor, Int(offset), SEEK_SET) < 0 { try super.skip(to: offset) }
  }

  override func bytes(at offset: Int64, count: Int) throws -> [UInt8]? {
    var failure: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: max(count, 1)) { buffer, filled in
      filled = 0
      while filled < count {
        let got = pread(descriptor, buffer.baseAddress.map { $0 + filled }, count - filled, Int(offset) + filled)
        if got < 0 && errno == EINTR { continue }
        if got < 0 { failure = errno }
        if got <= 0 { break }
        filled += got
      }
    }
    if failure != 0 { throw CallError("read: \(Posix.message(failure))") }
    return bytes
  }
}
