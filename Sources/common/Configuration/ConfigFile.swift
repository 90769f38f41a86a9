import Glibc

/// Reading and writing configuration files.
package enum ConfigFile {
  /// The largest file that is read, in bytes.
  package static let sizeLimit = 16 * 1024 * 1024

  /// The text of a file.
  ///
  /// - Throws: ``ConfigurationError`` when it cannot be read, is too large or is not UTF-8.
  package static func read(_ path: String) throws(ConfigurationError) -> String {
    guard
      let text = String(
        validating: try bytes(path, limit: sizeLimit, missing: "make one with: microraptor config generate"),
        as: UTF8.self)
    else {
      throw ConfigurationError(file: path, expected: "UTF-8 text", found: "other bytes")
    }
    return text
  }

  /// The bytes of a file.
  ///
  /// - Parameters:
  ///   - limit: the most bytes that are read.
  ///   - missing: the remedy when there is no such file.
  /// - Throws: ``ConfigurationError`` when it cannot be read or is larger.
  static func bytes(
    _ path: String, limit: Int, missing: String? = nil
  ) throws(ConfigurationError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      let exists = errno != ENOENT && errno != ENOTDIR
      throw ConfigurationError(
        file: path, expected: "a readable file",
        found: exists ? "a file this user may not read" : "no file",
        remedy: exists ? "run as its owner, or check: ls -l \(path)" : missing)
    }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var failed = false
    while bytes.count <= limit, !failed {
      let part = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
        repeat { count = Glibc.read(descriptor, buffer.baseAddress, buffer.count) } while count < 0 && errno == EINTR
        failed = count < 0
        count = max(0, count)
      }
      if part.isEmpty { break }
      bytes += part
    }
    guard !failed else {
      throw ConfigurationError(file: path, expected: "a file", found: "a directory or a special file")
    }
    guard bytes.count <= limit else {
      throw ConfigurationError(file: path, expected: "at most \(limit) bytes", found: "a larger file")
    }
    return bytes
  }

  /// Refuses a file with secrets that others than its owner may read or change.
  ///
  /// - Throws: ``ConfigurationError`` with the command that repairs it.
  package static func requirePrivate(_ path: String) throws(ConfigurationError) {
    var status = stat()
    guard stat(path, &status) == 0 else { return }
    let mode = status.st_mode & 0o7777
    guard mode & 0o077 == 0 else {
      throw ConfigurationError(
        file: path, expected: "mode 0600, because the file holds secrets", found: "mode 0\(String(mode, radix: 8))",
        remedy: "run: chmod 600 \(path)")
    }
  }

  /// Writes a file with mode 0600 in one step: a reader sees the old text or the new, and no other user sees either.
  ///
  /// - Throws: ``ConfigurationError`` naming the system's reason.
  package static func write(_ text: String, to path: String, mode: mode_t = 0o600) throws(ConfigurationError) {
    try write(Array(text.utf8), to: path, mode: mode)
  }

  /// As ``write(_:to:mode:)-(String,_,_)``, for any bytes.
  static func write(_ bytes: [UInt8], to path: String, mode: mode_t) throws(ConfigurationError) {
    let temporary = path + ".new"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw failure(path) }
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      guard written > 0 else {
        if written < 0, errno == EINTR { continue }
        let error = failure(path)
        close(descriptor)
        unlink(temporary)
        throw error
      }
      rest = rest.dropFirst(written)
    }
    // Root changes a file for its owner: the process that reads it must still be able to.
    var former = stat()
    if geteuid() == 0, stat(path, &former) == 0 { _ = fchown(descriptor, former.st_uid, former.st_gid) }
    guard fchmod(descriptor, mode) == 0, fsync(descriptor) == 0, close(descriptor) == 0,
      rename(temporary, path) == 0
    else {
      let error = failure(path)
      unlink(temporary)
      throw error
    }
  }

  private static func failure(_ path: String) -> ConfigurationError {
    ConfigurationError(file: path, expected: "a file that can be written", found: String(cString: strerror(errno)))
  }
}
