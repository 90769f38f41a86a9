import NIOCore
import PublicIdentity
import Synchronization
import Wire

/// A reader whose answer is open: executes what `ReaderWait` says.
final class WaitingReader: Sendable {
  let client: ClientName
  let exchange: HTTPExchange
  /// The client's session, which chooses the worker that seals.
  let routingKey: [UInt8]

  private struct Timers {
    var pad: RepeatedTask?
    var deadline: Scheduled<Void>?
  }

  private let wait = Mutex(ReaderWait())
  private let timers = Mutex(Timers())
  private let look: @Sendable (WaitingReader) -> Void
  private let ended: @Sendable (WaitingReader) -> Void

  /// Padding keeps proxies and agents from giving up (http.md §5 step 10).
  static let padInterval = TimeAmount.seconds(10)

  /// - Parameters:
  ///   - look: asks the store for tasks and then calls `foundNothing` or `deliver`.
  ///   - ended: called once, when the answer is complete or the agent has gone.
  init(
    client: ClientName, exchange: HTTPExchange, routingKey: [UInt8],
    look: @escaping @Sendable (WaitingReader) -> Void, ended: @escaping @Sendable (WaitingReader) -> Void
  ) {
    self.client = client
    self.exchange = exchange
    self.routingKey = routingKey
    self.look = look
    self.ended = ended
  }

  /// Writes the head and starts the timers.
  func start(deadline: TimeAmount) {
    exchange.startStream()
    let pad = exchange.eventLoop.scheduleRepeatedTask(initialDelay: Self.padInterval, delay: Self.padInterval) {
      [weak self] task in
      guard let self else { return task.cancel() }
      perform(wait.withLock { $0.padIsDue() })
    }
    let end = exchange.eventLoop.scheduleTask(in: deadline) { [weak self] in
      guard let self else { return }
      perform(wait.withLock { $0.deadlinePassed() })
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

  func foundNothing() { perform(wait.withLock { $0.foundNothing() }) }

  /// Whether the tasks that were found may be written; else they must be given back.
  func claim() -> Bool { wait.withLock { $0.foundTasks() } }

  /// Writes the envelope and ends.
  func deliver(_ body: [UInt8], written: @escaping @Sendable (Bool) -> Void) {
    exchange.finish(body, written: written)
    leave()
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
    case .writePad: exchange.write(envelopePad)
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
