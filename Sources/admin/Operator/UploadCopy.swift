import Foundation
import PublicIdentity
import Store
import Wire

/// Writes one uploaded file as it was on the client: pieces from the store, holes of a sparse file where they were.
struct UploadCopy {
  let store: any Store
  let flow: FlowName
  let upload: UploadRecord

  /// Bytes that are fetched at a time.
  private static let piece = 4 << 20

  /// A part of the stored bytes and its place in the file.
  struct Part: Equatable {
    var stored: Int64
    var length: Int64
    var place: Int64
  }

  /// Where the stored bytes belong, and the file's length (wire.md §4, Index).
  static func layout(_ upload: UploadRecord) throws -> (parts: [Part], size: Int64) {
    guard !upload.index.isEmpty else {
      return ([Part(stored: 0, length: upload.storedSize, place: 0)], upload.storedSize)
    }
    guard let index = try? Proto_Index(serializedBytes: upload.index) else {
      throw CommandFailure(.failed, "the index of upload \(upload.number) cannot be read")
    }
    var parts: [Part] = []
    var size = max(0, upload.size)
    for range in index.ranges {
      let (end, overflow) = range.originalOffset.addingReportingOverflow(range.length)
      guard range.originalOffset >= 0, range.length >= 0, range.fileOffset >= 0, !overflow else {
        throw CommandFailure(.failed, "the index of upload \(upload.number) makes no sense")
      }
      size = max(size, end)
      let length = min(range.fileLength, range.length, max(0, upload.storedSize - range.fileOffset))
      if length > 0 { parts.append(Part(stored: range.fileOffset, length: length, place: range.originalOffset)) }
    }
    return (parts, size)
  }

  /// - Parameter digest: the SHA-256 that the agent gave, in hexadecimal; nil when it gave none.
  func write(to target: URL, digest: String?) async throws {
    let (parts, size) = try Self.layout(upload)
    let descriptor = open(target.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      let reason = errno == EEXIST ? "it exists; remove it or give another --output" : String(cString: strerror(errno))
      throw CommandFailure(.failed, "cannot write \(target.path): \(reason)")
    }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    do {
      let sum = DigestStream()
      for part in parts { try await copy(part, handle, sum) }
      try handle.truncate(atOffset: UInt64(size))
      try handle.close()
      // The digest of a file with holes may count them or not.
      guard let digest, upload.index.isEmpty, upload.complete else { return }
      let found = sum.finish()
      guard found == digest.lowercased() else {
        throw CommandFailure(.failed, "what is stored is not what the agent read: SHA-256 \(found), not \(digest)")
      }
    } catch {
      unlink(target.path)
      if error is CommandFailure || error is StoreError { throw error }
      throw CommandFailure(.failed, "cannot write \(target.path): \(error.localizedDescription)")
    }
  }

  private func copy(_ part: Part, _ handle: FileHandle, _ sum: DigestStream) async throws {
    var done: Int64 = 0
    try handle.seek(toOffset: UInt64(part.place))
    while done < part.length {
      let limit = Int(min(Int64(Self.piece), part.length - done))
      let bytes = try await store.uploadContent(of: flow, upload, from: part.stored + done, limit: limit)
      // A piece that has not come yet reads as a hole.
      guard !bytes.isEmpty else { return }
      sum.update(bytes)
      try handle.write(contentsOf: Data(bytes))
      done += Int64(bytes.count)
    }
  }
}

/// The digests that an `upload()` in the flow's rows gave, by the number of the upload.
enum UploadDigests {
  /// Rows that are looked at; a flow with more has its digests further down and is not checked.
  private static let most = 100_000

  static func find(in flow: FlowName, _ store: any Store) async throws -> [Int64: String] {
    var digests: [Int64: String] = [:]
    for source in try await store.sources(of: flow) {
      for row in try await store.rows(of: flow, source: source.name, from: 0, limit: most)
      where row.json.contains("\"sha256\"") && row.json.contains("\"UploadId\"") {
        if let value = try? JSONSerialization.jsonObject(with: Data(row.json.utf8)) { collect(value, &digests) }
      }
    }
    return digests
  }

  static func collect(_ value: Any, _ digests: inout [Int64: String]) {
    if let object = value as? [String: Any] {
      if let number = object["UploadId"] as? NSNumber, let digest = object["sha256"] as? String {
        digests[number.int64Value] = digest
      }
      for member in object.values { collect(member, &digests) }
    } else if let list = value as? [Any] {
      for member in list { collect(member, &digests) }
    }
  }
}
