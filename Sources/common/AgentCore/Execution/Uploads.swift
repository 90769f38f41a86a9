import FoundationEssentials
import Glibc
import Synchronization
import Wire

/// A file that a query sends (flows.md §8). Times are nanoseconds since 1970; 0: unknown.
package struct UploadFile: Sendable {
  package var path = ""
  package var components: [String] = []
  package var accessor = ""
  package var storeAsName = ""
  package var expectedSize: Int64 = 0
  package var modified: Int64 = 0
  package var accessed: Int64 = 0
  package var changed: Int64 = 0
  package var born: Int64 = 0
  package var mode: Int64 = 0

  package init() {}
}

/// Where a collector's files go.
package protocol UploadTarget: Sendable {
  /// Announces a file; its data is then written to the stream, in order, from one thread.
  func begin(_ file: UploadFile) throws -> any UploadStream
}

/// One file on its way.
package protocol UploadStream: AnyObject {
  /// Counts from 0 in the flow.
  var number: Int64 { get }
  /// - Throws: when the flow was cancelled.
  func write(_ bytes: some Collection<UInt8>) throws
  /// A range without data: nothing is sent for it, and the last piece then carries an index (client.md §6.4).
  func skip(_ length: Int64) throws
  /// Ends the file. A stream that goes without this is a file that was not completed.
  func finish() throws
}

/// What sends the messages of uploads: a flow, or a standing query under `F.Monitoring`.
protocol UploadHost: AnyObject, Sendable {
  var sessionID: String { get }
  var isUploadCancelled: Bool { get }
  var compressesUploads: Bool { get }
  func nextUploadNumber() -> Int64
  func deliver(upload message: Proto_VeloMessage, bytes: Int, from collector: Collector)
}

extension Flow: UploadHost {
  var isUploadCancelled: Bool { isCancelled }
}

/// Files of a collector: pieces of up to 1 MiB as `FileBuffer`, then one empty piece with `eof`.
final class CollectorUploads: UploadTarget {
  static let pieceSize = 1 << 20

  private let host: any UploadHost
  private let collector: Collector

  init(host: any UploadHost, collector: Collector) {
    self.host = host
    self.collector = collector
  }

  func begin(_ file: UploadFile) throws -> any UploadStream {
    guard !host.isUploadCancelled else { throw AgentError(.request, "Cancelled") }
    let number = host.nextUploadNumber()
    var transaction = Proto_UploadTransaction()
    transaction.filename = file.path
    transaction.accessor = file.accessor
    transaction.storeAsName = file.storeAsName
    transaction.components = file.components
    transaction.expectedSize = file.expectedSize
    transaction.mtime = file.modified
    transaction.atime = file.accessed
    transaction.ctime = file.changed
    transaction.btime = file.born
    transaction.mode = file.mode
    transaction.uploadID = number
    var message = Proto_VeloMessage()
    message.sessionID = host.sessionID
    message.requestID = ResponseMessages.uploadRequestID
    message.uploadTransaction = transaction
    host.deliver(upload: message, bytes: 0, from: collector)
    collector.countUpload(files: 1, bytes: 0, expected: file.expectedSize)
    return Stream(file: file, number: number, host: host, collector: collector)
  }

  private final class Stream: UploadStream {
    private let file: UploadFile
    let number: Int64
    private let host: any UploadHost
    private let collector: Collector
    private var pending: [UInt8] = []
    /// Position in the stored, dense file.
    private var offset: UInt64 = 0
    private var index = SparseIndex()

    init(file: UploadFile, number: Int64, host: any UploadHost, collector: Collector) {
      self.file = file
      self.number = number
      self.host = host
      self.collector = collector
    }

    func write(_ bytes: some Collection<UInt8>) throws {
      index.append(data: Int64(bytes.count))
      pending.append(contentsOf: bytes)
      while pending.count >= CollectorUploads.pieceSize {
        try send(Array(pending.prefix(CollectorUploads.pieceSize)), isLast: false)
        pending.removeFirst(CollectorUploads.pieceSize)
      }
    }

    func skip(_ length: Int64) throws {
      guard !host.isUploadCancelled else { throw AgentError(.request, "Cancelled") }
      index.append(hole: length)
    }

    func finish() throws {
      if !pending.isEmpty { try send(pending, isLast: false) }
      pending = []
      try send([], isLast: true)
    }

    private func send(_ data: [UInt8], isLast: Bool) throws {
      guard !host.isUploadCancelled else { throw AgentError(.request, "Cancelled") }
      var buffer = Proto_FileBuffer()
      buffer.pathspec.path = file.storeAsName.isEmpty ? file.path : file.storeAsName
      buffer.pathspec.components = file.components
      buffer.pathspec.accessor = file.accessor
      buffer.offset = offset
      buffer.size = UInt64(max(0, file.expectedSize))
      offset += UInt64(data.count)
      buffer.storedSize = offset
      buffer.dataLength = UInt64(data.count)
      buffer.mtime = file.modified
      buffer.atime = file.accessed
      buffer.ctime = file.changed
      buffer.btime = file.born
      buffer.uploadNumber = number
      buffer.eof = isLast
      buffer.isSparse = index.hasHoles
      if isLast, index.hasHoles { buffer.index = index.message }
      if host.compressesUploads, !data.isEmpty {
        buffer.data = Data(try Zlib.deflate(data))
        buffer.uncompressedLength = UInt64(data.count)
      } else {
        buffer.data = Data(data)
      }
      var message = Proto_VeloMessage()
      message.sessionID = host.sessionID
      message.requestID = ResponseMessages.uploadRequestID
      message.fileBuffer = buffer
      collector.countUpload(files: 0, bytes: Int64(data.count), expected: 0)
      host.deliver(upload: message, bytes: data.count, from: collector)
    }
  }
}

/// Where the data of a sparse file lies in the dense one (wire.md, Index and Range).
struct SparseIndex: Equatable {
  private struct Range: Equatable {
    var original: Int64
    var stored: Int64
    var length: Int64
    var isHole: Bool
  }

  private var ranges: [Range] = []
  private var original: Int64 = 0
  private var stored: Int64 = 0
  private(set) var hasHoles = false

  mutating func append(data length: Int64) { append(length, isHole: false) }

  mutating func append(hole length: Int64) {
    if length > 0 { hasHoles = true }
    append(length, isHole: true)
  }

  private mutating func append(_ length: Int64, isHole: Bool) {
    guard length > 0 else { return }
    if let last = ranges.last, last.isHole == isHole {
      ranges[ranges.count - 1].length += length
    } else {
      ranges.append(Range(original: original, stored: stored, length: length, isHole: isHole))
    }
    original += length
    if !isHole { stored += length }
  }

  var message: Proto_Index {
    .with { index in
      index.ranges = ranges.map { range in
        .with {
          $0.fileOffset = range.stored
          $0.originalOffset = range.original
          $0.fileLength = range.isHole ? 0 : range.length
          $0.length = range.length
        }
      }
    }
  }
}
