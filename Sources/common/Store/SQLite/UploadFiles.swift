import Dispatch
import Foundation
import PublicIdentity

/// Uploaded files below the datastore directory: `uploads/ORG/CLIENT/FLOW/NUMBER/ACCESSOR/COMPONENTS…`.
///
/// Pieces are written at their offset, so that a piece that comes again changes nothing (verify.md S-8), and synced
/// before the commit that acknowledges them. Components come from the client; each is made harmless (S-9).
struct UploadFiles: Sendable {
  private let root: String
  private let queue = DispatchQueue(label: "microraptor.store.uploads", attributes: .concurrent)

  init(directory: String) {
    root = (directory as NSString).appendingPathComponent("uploads")
  }

  /// The file's path relative to the datastore directory.
  static func storedPath(_ piece: UploadPiece, of client: ClientName) -> String {
    let accessor = piece.accessor.isEmpty ? "auto" : component(piece.accessor)
    var components = piece.components.map(component)
    if components.count > 32 || components.reduce(0, { $0 + $1.utf8.count }) > 1_500, let last = components.last {
      // Deeper than file systems take: a digest stands for the directories.
      components = ["%" + digest(piece.clientPath), last]
    }
    return (["uploads", directory(of: client), piece.flow.text, String(piece.number), accessor] + components)
      .joined(separator: "/")
  }

  /// The client's directory below `uploads`.
  static func directory(of client: ClientName) -> String {
    "\(client.org.isEmpty ? "root" : client.org)/\(client.id.rawValue)"
  }

  /// One path component that names a plain entry of its directory: separators, NUL, control characters, `%` and the
  /// names `.` and `..` are written as `%XX`; at most 200 bytes.
  static func component(_ text: String) -> String {
    let dotsOnly = text.utf8.allSatisfy { $0 == UInt8(ascii: ".") }
    var result: [UInt8] = []
    for byte in text.utf8 {
      let isHarmful =
        byte < 0x20 || byte == 0x7F || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "\\")
        || byte == UInt8(ascii: "%") || (dotsOnly && byte == UInt8(ascii: "."))
      if isHarmful {
        result.append(contentsOf: escaped(byte))
      } else {
        result.append(byte)
      }
    }
    if result.isEmpty { return "%" }
    guard result.count > 200 else { return String(decoding: result, as: UTF8.self) }
    // A cut inside a character is repaired by the decoding, which adds two bytes at most.
    return String(decoding: result.prefix(160), as: UTF8.self) + "%" + digest(text)
  }

  /// 16 hexadecimal digits that stand for a text.
  private static func digest(_ text: String) -> String {
    let bytes = Digest.sha256(Array(text.utf8)).prefix(8).flatMap { escaped($0).dropFirst() }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func escaped(_ byte: UInt8) -> [UInt8] {
    let digits = Array("0123456789ABCDEF".utf8)
    return [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
  }

  /// Writes pieces and syncs them. Blocks only a thread of its own.
  /// - Returns: a refusal for each piece whose path no file can have (it names a directory, or lies below a file).
  /// - Throws: `StoreError` when the disk refuses; then nothing may be acknowledged.
  func write(_ pieces: [UploadPiece], of client: ClientName) async throws -> [JobFailure] {
    try await withCheckedThrowingContinuation { continuation in
      queue.async {
        continuation.resume(
          with: Result { try pieces.compactMap { try writeNow($0, to: Self.storedPath($0, of: client)) } })
      }
    }
  }

  /// Some bytes of a stored file; what was never written reads as zero. Blocks only a thread of its own.
  func read(_ storedPath: String, _ range: Range<Int64>) async throws -> [UInt8] {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result { try readNow(absolute(storedPath), range) }) }
    }
  }

  private func readNow(_ path: String, _ range: Range<Int64>) throws -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw StoreError.errno(errno, "cannot open \(path)") }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: Int(range.upperBound - range.lowerBound))
    try bytes.withUnsafeMutableBytes { buffer in
      var done = 0
      while done < buffer.count {
        let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
        let count = pread(descriptor, rest.baseAddress, rest.count, off_t(range.lowerBound) + off_t(done))
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw StoreError.errno(errno, "cannot read \(path)") }
        if count == 0 { break }
        done += count
      }
    }
    return bytes
  }

  func absolute(_ storedPath: String) -> String {
    ((root as NSString).deletingLastPathComponent as NSString).appendingPathComponent(storedPath)
  }

  private func writeNow(_ piece: UploadPiece, to storedPath: String) throws -> JobFailure? {
    let path = absolute(storedPath)
    let parent = (path as NSString).deletingLastPathComponent
    if let code = makeDirectory(parent) { return try failure(code, parent) }
    let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { return try failure(errno, path) }
    defer { close(descriptor) }
    try write(piece.data, at: piece.offset, descriptor, path)
    if piece.isLast { try trim(descriptor, to: piece.storedSize, path) }
    guard fdatasync(descriptor) == 0 else { throw StoreError.errno(errno, "cannot sync \(path)") }
    if piece.offset == 0 { syncDirectory(parent) }
    return nil
  }

  /// The client's choice of a path must not make the whole body fail for ever; trouble of the disk must.
  private func failure(_ code: Int32, _ path: String) throws -> JobFailure {
    guard [ENOTDIR, EISDIR, ENAMETOOLONG, ELOOP, EEXIST, EFBIG].contains(code) else {
      throw StoreError.errno(code, "cannot open \(path)")
    }
    return JobFailure(.malformedUpload, "no file can have the upload's path: \(String(cString: strerror(code)))")
  }

  /// Creates the directory and those above it.
  /// - Returns: errno of the first failure.
  private func makeDirectory(_ path: String) -> Int32? {
    var status = stat()
    if stat(path, &status) == 0 { return status.st_mode & S_IFMT == S_IFDIR ? nil : ENOTDIR }
    let parent = (path as NSString).deletingLastPathComponent
    if parent != path, !parent.isEmpty, let code = makeDirectory(parent) { return code }
    return mkdir(path, 0o700) == 0 || errno == EEXIST ? nil : errno
  }

  private func write(_ data: Data, at offset: Int64, _ descriptor: Int32, _ path: String) throws {
    try data.withUnsafeBytes { buffer in
      var done = 0
      while done < buffer.count {
        let rest = UnsafeRawBufferPointer(rebasing: buffer[done...])
        let written = pwrite(descriptor, rest.baseAddress, rest.count, off_t(offset) + off_t(done))
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { throw StoreError.errno(written < 0 ? errno : EIO, "cannot write \(path)") }
        done += written
      }
    }
  }

  /// An earlier, longer upload of the same name must not leave its tail.
  private func trim(_ descriptor: Int32, to size: Int64, _ path: String) throws {
    var status = stat()
    guard fstat(descriptor, &status) == 0, Int64(status.st_size) > size else { return }
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw StoreError.errno(errno, "cannot shorten \(path)") }
  }

  private func syncDirectory(_ path: String) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }

  /// Where the files of a deleted client wait for their removal.
  static func aside(_ key: Int64) -> String { "uploads/.deleted/\(key)" }

  /// Moves a deleted client's files out of the way; the name may enroll again at once.
  func setAside(_ client: ClientName, key: Int64) {
    let source = absolute("uploads/" + Self.directory(of: client))
    guard FileManager.default.fileExists(atPath: source) else { return }
    try? FileManager.default.createDirectory(
      atPath: absolute("uploads/.deleted"), withIntermediateDirectories: true,
      attributes: [.posixPermissions: 0o700])
    try? FileManager.default.moveItem(atPath: source, toPath: absolute(Self.aside(key)))
  }

  /// Removes one uploaded file, and the directories of its flow that are empty then.
  func discard(_ storedPath: String) {
    guard storedPath.hasPrefix("uploads/"), !storedPath.hasPrefix("uploads/.") else { return }
    unlink(absolute(storedPath))
    // `uploads/ORG/CLIENT` stays.
    var directory = (storedPath as NSString).deletingLastPathComponent
    while directory.split(separator: "/").count > 3, rmdir(absolute(directory)) == 0 {
      directory = (directory as NSString).deletingLastPathComponent
    }
  }

  func remove(_ storedPath: String) {
    guard storedPath.hasPrefix("uploads/.deleted/") else { return }
    try? FileManager.default.removeItem(atPath: absolute(storedPath))
  }
}
