import Dispatch
import Glibc
import Synchronization

/// SIGTERM and SIGINT as something that can be awaited.
///
/// The handlers run on a queue of their own and are `@Sendable`, never on the main actor.
package final class ShutdownSignal: Sendable {
  private struct State {
    var received: Int32?
    var cancelled: Set<Int> = []
    var waiters: [Int: CheckedContinuation<Int32?, Never>] = [:]
    var nextWaiter = 0
  }

  private let state = Mutex(State())
  /// Dispatch sources are safe to use from any thread.
  private let sources: [any DispatchSourceSignal & Sendable]

  /// Takes over SIGTERM and SIGINT: from now on they no longer end the process by themselves.
  package convenience init() {
    self.init(signals: [SIGTERM, SIGINT])
  }

  /// - Parameter signals: the signals to listen to; none in tests that call ``trigger(_:)``.
  package init(signals: [Int32]) {
    let queue = DispatchQueue(label: "microraptor.signals")
    // No SIG_IGN: a signal before the registration then ends the process, as it should; libdispatch on Linux replaces
    // the handler by its own. The registration is waited for, so that no signal after `init` is lost.
    let sources = signals.map { ($0, DispatchSource.makeSignalSource(signal: $0, queue: queue)) }
    self.sources = sources.map(\.1)
    let registered = DispatchSemaphore(value: 0)
    for (number, source) in sources {
      source.setEventHandler { @Sendable [weak self] in self?.trigger(number) }
      source.setRegistrationHandler { @Sendable in registered.signal() }
      source.activate()
    }
    for _ in sources {
      _ = registered.wait(timeout: .now() + .seconds(5))
    }
  }

  deinit {
    for source in sources { source.cancel() }
  }

  /// The signal that arrived, if one did.
  package var received: Int32? {
    state.withLock { $0.received }
  }

  /// Behaves as if the signal had arrived.
  package func trigger(_ number: Int32) {
    let waiters = state.withLock { state in
      if state.received == nil {
        state.received = number
      }
      defer { state.waiters = [:] }
      return Array(state.waiters.values)
    }
    for waiter in waiters { waiter.resume(returning: number) }
  }

  /// Waits for the first signal.
  ///
  /// - Returns: its number, or nil when the waiting task was cancelled.
  @discardableResult
  package func wait() async -> Int32? {
    let id = state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { enqueue($0, id) }
    } onCancel: {
      cancel(id)
    }
  }

  private func enqueue(_ continuation: CheckedContinuation<Int32?, Never>, _ id: Int) {
    let answer: Int32?? = state.withLock { state in
      if let received = state.received { return .some(received) }
      if state.cancelled.remove(id) != nil { return .some(nil) }
      state.waiters[id] = continuation
      return nil
    }
    if let answer {
      continuation.resume(returning: answer)
    }
  }

  private func cancel(_ id: Int) {
    let waiter = state.withLock { state in
      let waiter = state.waiters.removeValue(forKey: id)
      if waiter == nil && state.received == nil {
        state.cancelled.insert(id)
      }
      return waiter
    }
    waiter?.resume(returning: nil)
  }
}
