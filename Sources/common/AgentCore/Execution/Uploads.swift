import FoundationEssentials
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
  /// It has holes, which are not sent.
  package var isSparse = false

  package init() {}

  /// The file of a transaction that was begun by an earlier run.
  init(_ transaction: Proto_UploadTransaction) {
    path = transaction.filename
    components = transaction.components
    accessor = transaction.accessor
    storeAsName = transaction.storeAsName
    expectedSize = transaction.expectedSize
    modified = transaction.mtime
    accessed = transaction.atime
    changed = transaction.ctime
    born = transaction.btime
    mode = transaction.mode
  }

  /// What announces it, and later its end.
  func transaction(_ number: Int64, response: String = "") -> Proto_UploadTransaction {
    .with {
      $0.filename = path
      $0.accessor = accessor
      $0.storeAsName = storeAsName
      $0.components = components
      $0.expectedSize = expectedSize
      $0.mtime = modified
      $0.atime = accessed
      $0.ctime = changed
      $0.btime = born
      $0.mode = mode
      $0.uploadID = number
      $0.response = response
    }
  }
}

/// Where a collector's files go.
package protocol UploadTarget: Sendable {
  /// Announces a file; its data is then written to the stream, in order, from one thread.
  func begin(_ file: UploadFile) throws -> any UploadStream
  /// Announces a file of this host that is sent in the background until the collector's end.
  ///
  /// - Returns: its number.
  func later(_ file: UploadFile) throws -> Int64
  /// Goes on with a file that was announced before, from the place that the server names.
  func resume(_ transaction: Proto_UploadTransaction) throws -> UploadOutcome
  /// Waits until nothing is sent in the background, or the collector must stop.
  func drain()
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

extension UploadHost {
  func send(_ transaction: Proto_UploadTransaction, from collector: Collector) {
    var message = Proto_VeloMessage()
    message.sessionID = sessionID
    message.requestID = ResponseMessages.uploadRequestID
    message.uploadTransaction = transaction
    deliver(upload: message, bytes: 0, from: collector)
  }
}

extension Flow: UploadHost {
  var isUploadCancelled: Bool { isCancelled }
}

/// Files of a collector: pieces of up to 1 MiB as `FileBuffer`, then one empty piece with `eof`.
final class CollectorUploads: UploadTarget {
  static let pieceSize = 1 << 20

  private let host: any UploadHost
  private let collector: Collector
  private let background = BackgroundUploads()

  init(host: any UploadHost, collector: Collector) {
    self.host = host
    self.collector = collector
  }

  func begin(_ file: UploadFile) throws -> any UploadStream {
    UploadSender(file: file, number: try announce(file), host: host, collector: collector)
  }

  private func announce(_ file: UploadFile) throws -> Int64 {
    guard !host.isUploadCancelled else { throw AgentError(.request, "Cancelled") }
    let number = host.nextUploadNumber()
    host.send(file.transaction(number), from: collector)
    collector.countUpload(files: 1, bytes: 0, expected: file.expectedSize)
    return number
  }

  func later(_ file: UploadFile) throws -> Int64 {
    let number = try announce(file)
    collector.countTransactions(1)
    background.add { [self] in
      do {
        _ = try send(file, number, from: 0)
      } catch {
        // What was stopped stays open, so that the server may ask for the rest.
        if collector.mustStop || host.isUploadCancelled { return }
        host.log("ERROR:upload: \(file.path): \(error)", of: collector)
        host.send(file.transaction(number, response: UploadOutcome.failure(file, number, "\(error)")), from: collector)
      }
      collector.countTransactions(-1)
    }
    return number
  }

  func resume(_ transaction: Proto_UploadTransaction) throws -> UploadOutcome {
    let file = UploadFile(transaction)
    collector.countTransactions(1)
    let outcome = try send(file, transaction.uploadID, from: max(0, transaction.startOffset))
    collector.countTransactions(-1)
    return outcome
  }

  func drain() { background.drain { collector.mustStop } }

  /// Sends a file of this host, and then what became of it.
  private func send(_ file: UploadFile, _ number: Int64, from start: Int64) throws -> UploadOutcome {
    var file = file
    let source = try LocalFile(file.path)
    file.isSparse = source.isSparse
    // The offset counts stored bytes; only without holes is it the file's own.
    if start > 0, !file.isSparse { try source.seek(to: start) }
    let stream = UploadSender(
      file: file, number: number, host: host, collector: collector, storedBefore: start,
      skipping: file.isSparse ? start : 0)
    var outcome = try UploadCopy.copy(to: stream, isSparse: file.isSparse) { maximum in
      if collector.mustStop { throw AgentError(.request, "Cancelled") }
      return try source.read(maximum)
    }
    if start > 0 { outcome.wasResumed(at: start, isSparse: file.isSparse) }
    host.send(file.transaction(number, response: outcome.json(file, number)), from: collector)
    return outcome
  }
}

extension UploadHost {
  fileprivate func log(_ text: String, of collector: Collector) {
    (self as? any CollectorHost)?.log(text, from: collector)
  }
}

/// Sends files one after the other on a thread of its own, which ends when there are no more.
final class BackgroundUploads: Sendable {
  private struct State {
    var waiting: [@Sendable () -> Void] = []
    var isRunning = false
  }

  private let state = Mutex(State())
  private let done = ThreadSignal()

  func add(_ upload: @escaping @Sendable () -> Void) {
    let isFirst = state.withLock { state in
      state.waiting.append(upload)
      defer { state.isRunning = true }
      return !state.isRunning
    }
    if isFirst { QueryThread.start("upload") { [self] in run() } }
  }

  private func run() {
    while true {
      let next = state.withLock { state -> (@Sendable () -> Void)? in
        state.isRunning = !state.waiting.isEmpty
        return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
      }
      guard let next else { return done.signal() }
      next()
    }
  }

  /// Returns when nothing is left. Each upload asks by itself whether it must stop.
  func drain(mustStop: () -> Bool) {
    while state.withLock({ $0.isRunning }) {
      if mustStop() { state.withLock { $0.waiting = [] } }
      done.wait(atMost: 0.1)
    }
  }
}
