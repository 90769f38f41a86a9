import Foundation
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
  /// Ends the file. A stream that goes without this is a file that was not completed.
  func finish() throws
}

/// Files of a flow: pieces of up to 1 MiB as `FileBuffer`, then one empty piece with `eof`.
final class FlowUploads: UploadTarget {
  static let pieceSize = 1 << 20

  private let flow: Flow
  private let collector: Collector

  init(flow: Flow, collector: Collector) {
    self.flow = flow
    self.collector = collector
  }

  func begin(_ file: UploadFile) throws -> any UploadStream {
    guard !flow.isCancelled else { throw AgentError(.request, "Cancelled") }
    let number = flow.nextUploadNumber()
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
    message.sessionID = flow.sessionID
    message.requestID = ResponseMessages.uploadRequestID
    message.uploadTransaction = transaction
    flow.deliver(upload: message, bytes: 0, from: collector)
    collector.countUpload(files: 1, bytes: 0, expected: file.expectedSize)
    return Stream(file: file, number: number, flow: flow, collector: collector)
  }

  private final class Stream: UploadStream {
    private let file: UploadFile
    let number: Int64
    private let flow: Flow
    private let collector: Collector
    private var pending: [UInt8] = []
    private var offset: UInt64 = 0

    init(file: UploadFile, number: Int64, flow: Flow, collector: Collector) {
      self.file = file
      self.number = number
      self.flow = flow
      self.collector = collector
    }

    func write(_ bytes: some Collection<UInt8>) throws {
      pending.append(contentsOf: bytes)
      while pending.count >= FlowUploads.pieceSize {
        try send(Array(pending.prefix(FlowUploads.pieceSize)), isLast: false)
        pending.removeFirst(FlowUploads.pieceSize)
      }
    }

    func finish() throws {
      if !pending.isEmpty { try send(pending, isLast: false) }
      pending = []
      try send([], isLast: true)
    }

    private func send(_ data: [UInt8], isLast: Bool) throws {
      guard !flow.isCancelled else { throw AgentError(.request, "Cancelled") }
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
      if flow.compressesUploads, !data.isEmpty {
        buffer.data = Data(try Zlib.deflate(data))
        buffer.uncompressedLength = UInt64(data.count)
      } else {
        buffer.data = Data(data)
      }
      var message = Proto_VeloMessage()
      message.sessionID = flow.sessionID
      message.requestID = ResponseMessages.uploadRequestID
      message.fileBuffer = buffer
      collector.countUpload(files: 0, bytes: Int64(data.count), expected: 0)
      flow.deliver(upload: message, bytes: data.count, from: collector)
    }
  }
}

/// Files of event queries are not taken yet: their server side has no flow to count them in.
struct RefusedUploads: UploadTarget {
  func begin(_ file: UploadFile) throws -> any UploadStream {
    throw AgentError(.request, "upload: this agent does not send files from event queries")
  }
}
