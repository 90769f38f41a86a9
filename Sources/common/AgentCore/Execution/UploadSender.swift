import FoundationEssentials
import Wire

/// Sends the pieces of one file.
final class UploadSender: UploadStream {
  private let file: UploadFile
  let number: Int64
  private let host: any UploadHost
  private let collector: Collector
  private var pending: [UInt8] = []
  /// Position in the stored, dense file.
  private var offset: UInt64
  /// Data that the server has already.
  private var toSkip: Int64
  private var index = SparseIndex()

  /// - Parameters:
  ///   - storedBefore: bytes that the server has stored.
  ///   - skipping: how much of the data that is written here is among them.
  init(
    file: UploadFile, number: Int64, host: any UploadHost, collector: Collector, storedBefore: Int64 = 0,
    skipping: Int64 = 0
  ) {
    self.file = file
    self.number = number
    self.host = host
    self.collector = collector
    offset = UInt64(max(0, storedBefore))
    toSkip = skipping
  }

  func write(_ bytes: some Collection<UInt8>) throws {
    index.append(data: Int64(bytes.count))
    let known = Int(min(toSkip, Int64(bytes.count)))
    toSkip -= Int64(known)
    pending.append(contentsOf: bytes.dropFirst(known))
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
    var message = Proto_VeloMessage()
    message.sessionID = host.sessionID
    message.requestID = ResponseMessages.uploadRequestID
    message.fileBuffer = try buffer(data, isLast: isLast)
    collector.countUpload(files: 0, bytes: Int64(data.count), expected: 0)
    host.deliver(upload: message, bytes: data.count, from: collector)
  }

  private func buffer(_ data: [UInt8], isLast: Bool) throws -> Proto_FileBuffer {
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
    // Pieces of sparse files carry one time only (wire.md §4).
    if !file.isSparse {
      buffer.atime = file.accessed
      buffer.ctime = file.changed
      buffer.btime = file.born
    }
    buffer.uploadNumber = number
    buffer.eof = isLast
    buffer.isSparse = file.isSparse || index.hasHoles
    if isLast, index.hasHoles { buffer.index = index.message }
    if host.compressesUploads, !data.isEmpty {
      buffer.data = Data(try Zlib.deflate(data))
      buffer.uncompressedLength = UInt64(data.count)
    } else {
      buffer.data = Data(data)
    }
    return buffer
  }
}
