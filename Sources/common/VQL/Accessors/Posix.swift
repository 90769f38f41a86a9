import Glibc

/// Thin helpers over the system's file calls.
enum Posix {
  /// The current error as text, in the lower case of the reference.
  static func message(_ code: Int32 = errno) -> String {
    let text = String(cString: strerror(code))
    return text.prefix(1).lowercased() + text.dropFirst()
  }

  static func writeAll(_ bytes: [UInt8], to descriptor: Int32) throws {
    var done = 0
    while done < bytes.count {
      let written = bytes.withUnsafeBytes { buffer in
        buffer.baseAddress.map { Glibc.write(descriptor, $0 + done, bytes.count - done) } ?? 0
      }
      if written < 0 && errno == EINTR { continue }
      guard written > 0 else { throw CallError("write: \(message())") }
      done += written
    }
  }

  /// Names in a directory, without `.` and `..`; nil when it cannot be read.
  static func list(_ path: String) -> [[UInt8]]? {
    guard let directory = opendir(path) else { return nil }
    defer { closedir(directory) }
    var names: [[UInt8]] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: UInt8.self, capacity: 256) { start -> [UInt8] in
          Array(UnsafeBufferPointer(start: start, count: strnlen(UnsafePointer<CChar>(OpaquePointer(start)), 256)))
        }
      }
      if name != [0x2E] && name != [0x2E, 0x2E] { names.append(name) }
    }
    return names
  }

  /// A whole small file, such as those below /proc; nil when it cannot be read.
  static func readSmall(_ path: String, limit: Int = 16 << 20) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var out: [UInt8] = []
    while out.count < limit {
      let piece = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
        count = max(0, read(descriptor, buffer.baseAddress, 65_536))
      }
      if piece.isEmpty { break }
      out.append(contentsOf: piece)
    }
    return out
  }

  static func readText(_ path: String) -> String? { readSmall(path).map { String(decoding: $0, as: UTF8.self) } }

  static func link(_ path: String) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = buffer.withUnsafeMutableBytes { raw in
      raw.bindMemory(to: CChar.self).baseAddress.map { readlink(path, $0, 4096) } ?? -1
    }
    return count >= 0 ? Array(buffer.prefix(count)) : nil
  }
}
