import Logging
import Store
import Synchronization

/// Whether requests are taken: the store must work and the process must not be stopping. The store is asked on a
/// schedule, not for each request.
final class HealthGate: Sendable {
  struct State: Sendable, Equatable {
    var isHealthy: Bool
    var reason: String
  }

  private let current = Mutex(State(isHealthy: true, reason: ""))
  private let stopping = Mutex(false)
  private let logger: Logger
  private let metrics: FrontendMetrics

  init(logger: Logger, metrics: FrontendMetrics) {
    self.logger = logger
    self.metrics = metrics
  }

  var state: State {
    if stopping.withLock({ $0 }) { return State(isHealthy: false, reason: "stopping") }
    return current.withLock { $0 }
  }

  /// Answers 503 before any header when requests are not taken; agents keep their data and try again.
  /// - Parameter evenWhileStopping: whether only the store's state counts.
  func admit(_ exchange: any Exchange, evenWhileStopping: Bool) -> Bool {
    let state = evenWhileStopping ? current.withLock { $0 } : state
    if state.isHealthy { return true }
    metrics.unavailable.increment()
    exchange.respond(.serviceUnavailable, text: "Error: \(state.reason)")
    return false
  }

  func stop() { stopping.withLock { $0 = true } }

  /// Looks at the store every second until the task is cancelled.
  func watch(_ store: any Store) async {
    while !Task.isCancelled {
      let next =
        switch await store.health() {
        case .healthy: State(isHealthy: true, reason: "")
        case .unhealthy(let error): State(isHealthy: false, reason: "the store does not work (\(error.code.rawValue))")
        }
      let changed = current.withLock { current in
        let changed = current.isHealthy != next.isHealthy
        current = next
        return changed
      }
      if changed {
        next.isHealthy
          ? logger.notice("the store works again") : logger.error("the store does not work: \(next.reason)")
      }
      try? await Task.sleep(for: .seconds(1))
    }
  }
}
