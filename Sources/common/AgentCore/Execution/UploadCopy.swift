import Glibc
import VQL

/// What was sent of a file.
package struct UploadOutcome: Equatable, Sendable {
  package var size: Int64 = 0
  package var storedSize: Int64 = 0
  /// Lower-case hex of the whole content, holes included; empty when only a part was read.
  package var sha256 = ""
  package var md5 = ""

  /// Bytes before `start` were not read.
  mutating func wasResumed(at start: Int64, isSparse: Bool) {
    guard !isSparse else { return }
    size += start
    storedSize += start
    sha256 = ""
    md5 = ""
  }

  /// The result of `upload()` as JSON, for `UploadTransaction.response`.
  func json(_ file: UploadFile, _ number: Int64) -> String {
    var members = ["\"Path\":\(JSONText.quote(file.path))", "\"Size\":\(size)", "\"UploadId\":\(number)"]
    members.append("\"StoredSize\":\(storedSize)")
    if !sha256.isEmpty { members.append("\"sha256\":\"\(sha256)\"") }
    if !md5.isEmpty { members.append("\"md5\":\"\(md5)\"") }
    return Self.object(members, file)
  }

  static func failure(_ file: UploadFile, _ number: Int64, _ error: String) -> String {
    object(["\"Path\":\"\"", "\"Size\":0", "\"UploadId\":\(number)", "\"Error\":\(JSONText.quote(error))"], file)
  }

  private static func object(_ members: [String], _ file: UploadFile) -> String {
    let components = file.components.map(JSONText.quote).joined(separator: ",")
    let name = JSONText.quote(file.storeAsName.isEmpty ? file.path : file.storeAsName)
    let rest = [
      "\"StoredName\":\(name)", "\"Components\":[\(components)]", "\"Accessor\":\(JSONText.quote(file.accessor))",
    ]
    return "{\((members + rest).joined(separator: ","))}"
  }
}

/// Copies content into a stream of pieces and takes its digests.
enum UploadCopy {
  /// - Parameters:
  ///   - isSparse: ranges of zeros, a piece long, are holes.
  ///   - read: gives the next bytes, at most as many as asked for; nil at the end.
  static func copy(
    to stream: any UploadStream, isSparse: Bool, read: (_ maxBytes: Int) throws -> [UInt8]?
  ) throws -> UploadOutcome {
    var outcome = UploadOutcome()
    let (sha256, md5) = (Digest("SHA256"), Digest("MD5"))
    while let bytes = try read(CollectorUploads.pieceSize), !bytes.isEmpty {
      outcome.size += Int64(bytes.count)
      sha256.update(bytes)
      md5.update(bytes)
      if isSparse, bytes.allSatisfy({ $0 == 0 }) {
        try stream.skip(Int64(bytes.count))
      } else {
        try stream.write(bytes)
        outcome.storedSize += Int64(bytes.count)
      }
    }
    try stream.finish()
    outcome.sha256 = String(decoding: sha256.hexadecimal, as: UTF8.self)
    outcome.md5 = String(decoding: md5.hexadecimal, as: UTF8.self)
    return outcome
  }
}

/// A regular file of this host that is read from front to back.
final class LocalFile {
  private let descriptor: Int32
  private let path: String
  /// It has fewer blocks on disk than its size needs.
  let isSparse: Bool

  init(_ path: String) throws {
    self.path = path
    // Without blocking on a pipe that nobody writes to.
    descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      isSparse = false
      throw AgentError(.request, String(cString: strerror(errno)))
    }
    var status = stat()
    let isFile = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    isSparse = isFile && Int64(status.st_blocks) * 512 < Int64(status.st_size)
    if !isFile { throw AgentError(.request, "it is not a regular file") }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  static func isSparse(_ path: String) -> Bool { (try? LocalFile(path))?.isSparse ?? false }

  func seek(to offset: Int64) throws {
    if lseek(descriptor, Int(offset), SEEK_SET) < 0 { throw AgentError(.request, String(cString: strerror(errno))) }
  }

  /// A whole piece while there is as much; nil at the end.
  func read(_ maximum: Int) throws -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: maximum)
    var filled = 0
    while filled < maximum {
      let count = bytes.withUnsafeMutableBytes {
        Glibc.read(descriptor, $0.baseAddress?.advanced(by: filled), maximum - filled)
      }
      if count == 0 { break }
      if count < 0 {
        if errno == EINTR { continue }
        throw AgentError(.request, String(cString: strerror(errno)))
      }
      filled += count
    }
    if filled == 0 { return nil }
    return filled == maximum ? bytes : Array(bytes.prefix(filled))
  }
}
