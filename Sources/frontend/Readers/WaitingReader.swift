import NIOCore
import PublicIdentity
import Synchronization
import Wire

/// A reader whose answer is open: executes what `ReaderWait` says.
final class WaitingReader: Sendable {
  let client: ClientName
  let exchange: any Exchange
  let facts: ReaderFacts
  /// The client's session, which chooses the worker that seals.
  let routingKey: [UInt8]
  /// The server's key that the session was wrapped for.
  let keyID: UInt64

  private struct Timers {
    var pad: RepeatedTask?
    var deadline: Scheduled<Void>?
  }

  private let wait: Mutex<ReaderWait>
  private let timers = Mutex(Timers())
  private let look: @Sendable (WaitingReader) -> Void
  private let ended: @Sendable (WaitingReader) -> Void

  /// Padding keeps proxies and agents from giving up (http.md §5 step 10).
  static let padInterval = TimeAmount.seconds(10)

  /// - Parameters:
  ///   - look: asks the store for tasks and then calls `foundNothing` or `deliver`.
  ///   - ended: called once, when the answer is complete or the agent has gone.
  init(
    client: ClientName, exchange: any Exchange, routingKey: [UInt8], keyID: UInt64 = 0,
    look: @escaping @Sendable (WaitingReader) -> Void, ended: @escaping @Sendable (WaitingReader) -> Void
  ) {
    self.client = client
    self.exchange = exchange
    self.routingKey = routingKey
    self.keyID = keyID
    facts = ReaderFacts(exchange, routingKey: routingKey)
    wait = Mutex(ReaderWait(staysOpen: exchange.staysOpen))
    self.look = look
    self.ended = ended
  }

  /// Writes the head and starts the timers.
  /// - Parameters:
  ///   - deadline: nil for none.
  ///   - interval: between pads, or between looks for tasks where the answer goes on (http.md §7).
  func start(deadline: TimeAmount?, interval: TimeAmount = WaitingReader.padInterval) {
    exchange.startStream()
    let pad = exchange.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) {
      [weak self] task in
      guard let self else { return task.cancel() }
      perform(wait.withLock { $0.padIsDue() })
    }
    let end = deadline.map { deadline in
      exchange.eventLoop.scheduleTask(in: deadline) { [weak self] in
        guard let self else { return }
        perform(wait.withLock { $0.deadlinePassed() })
      }
    }
    timers.withLock { $0 = Timers(pad: pad, deadline: end) }
    exchange.onClose { [self] in
      wait.withLock { $0.closed() }
      leave()
    }
  }

  func signal() { perform(wait.withLock { $0.signalled() }) }

  /// Ends the answer with a pad, as its deadline would.
  func end() { perform(wait.withLock { $0.deadlinePassed() }) }

  /// Ends the answer for a newer reader of the client.
  func displace() { perform(wait.withLock { $0.displaced() }) }

  func foundNothing() { perform(wait.withLock { $0.foundNothing() }) }

  /// Whether the tasks that were found may be written; else they must be given back.
  func claim() -> Bool { wait.withLock { $0.foundTasks() } }

  /// Writes the envelope, and ends unless the answer goes on.
  func deliver(_ body: [UInt8], written: @escaping @Sendable (Bool) -> Void) {
    exchange.deliver(body, written: written)
    if exchange.staysOpen { perform(wait.withLock { $0.delivered() }) } else { leave() }
  }

  /// Ends without an envelope, so that the agent sees an error.
  func fail() {
    wait.withLock { $0.closed() }
    exchange.abort()
    leave()
  }

  private func perform(_ action: ReaderWait.Action) {
    switch action {
    case .none: break
    case .lookForTasks: look(self)
    case .writePad: exchange.writePad()
    case .endWithPad:
      exchange.finish(envelopePad)
      leave()
    }
  }

  private func leave() {
    let running = timers.withLock { timers in
      let taken = timers
      timers = Timers()
      return taken
    }
    running.pad?.cancel()
    running.deadline?.cancel()
    ended(self)
  }
}

extension ReaderFacts {
  init(_ exchange: any Exchange, routingKey: [UInt8]) {
    // FNV-1a: only equality within this deployment matters, and the bytes are RSA ciphertext.
    session = routingKey.reduce(14_695_981_039_346_656_037) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
    remoteAddress = exchange.remoteAddress
    host = Self.host(of: remoteAddress)
    userAgent = exchange.userAgent
    isRelayed = exchange.connection.isRelayed || exchange.connection.peer.map { Self.host(of: $0) } != host
  }

  /// The address without port, of `1.2.3.4:5`, `[::1]:5` or a proxy's header.
  static func host(of address: String) -> String {
    if address.hasPrefix("["), let end = address.firstIndex(of: "]") {
      return String(address[address.index(after: address.startIndex)..<end])
    }
    let parts = address.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let first = parts.first else { return address }
    return String(first)
  }

  private static func host(of address: SocketAddress) -> String { address.ipAddress ?? "" }
}
