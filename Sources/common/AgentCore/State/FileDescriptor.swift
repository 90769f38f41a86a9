import FoundationEssentials
import Glibc

/// An open file with the few calls the queue and the state file need; failures are errors with the system's reason.
///
/// Not thread-safe beyond what the system calls are; its owners guard it.
final class FileDescriptor {
  private let number: Int32
  let path: String

  private init(number: Int32, path: String) {
    self.number = number
    self.path = path
  }

  deinit { Glibc.close(number) }

  /// Opens or creates a regular file for reading and writing, mode 0600. Symbolic links are refused: queue files often
  /// lie in directories that others can write.
  static func open(_ path: String, flags: Int32 = O_RDWR | O_CREAT) throws(AgentError) -> FileDescriptor {
    let number = Glibc.open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard number >= 0 else { throw failure("open", path) }
    let file = FileDescriptor(number: number, path: path)
    var status = stat()
    guard fstat(number, &status) == 0 else { throw failure("examine", path) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw AgentError(.state, "\(path) is not a regular file") }
    if flags & O_ACCMODE != O_RDONLY { fchmod(number, 0o600) }
    return file
  }

  static func failure(_ what: String, _ path: String) -> AgentError {
    AgentError(.state, "cannot \(what) \(path): \(String(cString: strerror(errno)))")
  }

  var size: Int {
    get throws(AgentError) {
      var status = stat()
      guard fstat(number, &status) == 0 else { throw Self.failure("examine", path) }
      return Int(status.st_size)
    }
  }

  /// Up to `count` bytes; fewer only at the end of the file.
  func read(at offset: Int, count: Int) throws(AgentError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: max(0, count))
    var done = 0
    while done < bytes.count {
      let got = bytes.withUnsafeMutableBytes { buffer in
        pread(number, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(offset + done))
      }
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { throw Self.failure("read", path) }
      if got == 0 { break }
      done += got
    }
    if done < bytes.count { bytes.removeLast(bytes.count - done) }
    return bytes
  }

  func write(_ bytes: [UInt8], at offset: Int) throws(AgentError) {
    var done = 0
    while done < bytes.count {
      let put = bytes.withUnsafeBytes { buffer in
        pwrite(number, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(offset + done))
      }
      if put < 0, errno == EINTR { continue }
      guard put > 0 else { throw Self.failure("write", path) }
      done += put
    }
  }

  func truncate(to size: Int) throws(AgentError) {
    guard ftruncate(number, off_t(size)) == 0 else { throw Self.failure("truncate", path) }
  }

  func sync() throws(AgentError) {
    guard fdatasync(number) == 0 else { throw Self.failure("sync", path) }
  }

  /// Takes the file for this process alone.
  ///
  /// - Returns: false when another process has it.
  func lock() -> Bool {
    flock(number, LOCK_EX | LOCK_NB) == 0
  }

  func unlock() { flock(number, LOCK_UN) }
}

/// Replacing a small file so that a reader, also one after a crash, sees either the old content or the new.
enum AtomicFile {
  static func write(_ bytes: [UInt8], to path: String) throws(AgentError) {
    let temporary = path + ".new"
    unlink(temporary)
    do throws(AgentError) {
      let file = try FileDescriptor.open(temporary, flags: O_RDWR | O_CREAT | O_EXCL)
      try file.write(bytes, at: 0)
      try file.sync()
      guard rename(temporary, path) == 0 else { throw FileDescriptor.failure("replace", path) }
    } catch {
      unlink(temporary)
      throw error
    }
    syncDirectory(of: path)
  }

  /// Makes a rename survive a power failure; a file system that cannot is no error.
  static func syncDirectory(of path: String) {
    let slash = path.lastIndex(of: "/")
    let directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let number = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard number >= 0 else { return }
    fsync(number)
    Glibc.close(number)
  }

  /// The content of a file of at most `limit` bytes; nil when there is none.
  static func read(_ path: String, limit: Int = 64 << 20) throws(AgentError) -> [UInt8]? {
    guard access(path, F_OK) == 0 else { return nil }
    let file = try FileDescriptor.open(path, flags: O_RDONLY)
    let size = try file.size
    guard size <= limit else { throw AgentError(.state, "\(path) is larger than \(limit) bytes") }
    return try file.read(at: 0, count: size)
  }
}
