import NIOCore
import NIOHTTP1
import Synchronization
import Wire

/// An answer whose head is held back until the outcome is known, but not longer than an agent likes to wait: then the
/// head of a 200 and padding are written, and from then on failure can only be told by cutting the connection
/// (http.md §4 steps 8 to 11).
final class LateAnswer: Sendable {
  private struct State {
    var progress: AnswerProgress
    var timer: Scheduled<Void>?
  }

  /// How long processing may take (http.md §4 step 9). What is stored later is recognised when the agent sends it again.
  static let limit = TimeAmount.seconds(60)

  private let exchange: any Exchange
  private let interval: TimeAmount
  private let state: Mutex<State>
  private let expired: @Sendable () -> Void

  /// - Parameters:
  ///   - interval: between pads, and before the first.
  ///   - expired: called when the answer was cut for its time.
  init(
    exchange: any Exchange, interval: TimeAmount, limit: TimeAmount = LateAnswer.limit,
    expired: @escaping @Sendable () -> Void
  ) {
    self.exchange = exchange
    self.interval = interval
    self.expired = expired
    state = Mutex(
      State(progress: AnswerProgress(mostTicks: Int(limit.nanoseconds / max(1, interval.nanoseconds)))))
    schedule()
  }

  private func schedule() {
    let timer = exchange.eventLoop.scheduleTask(in: interval) { [self] in tick() }
    state.withLock { $0.timer = timer }
  }

  private func tick() {
    switch state.withLock({ $0.progress.tick() }) {
    case .ended: return
    case .first:
      exchange.startStream()
      exchange.writePad()
    case .next: exchange.writePad()
    case .expired:
      exchange.abort()
      return expired()
    }
    schedule()
  }

  private func end() -> AnswerProgress.End {
    let (end, timer) = state.withLock { state in
      defer { state.timer = nil }
      return (state.progress.end(), state.timer)
    }
    timer?.cancel()
    return end
  }

  /// Ends the answer with 200 and these bytes.
  func succeed(_ bytes: [UInt8]) {
    switch end() {
    case .fresh: exchange.complete(bytes)
    case .begun: exchange.finish(bytes)
    case .over: break
    }
  }

  /// Ends with an error.
  /// - Returns: false when the head was already written: the connection was cut instead.
  func fail(_ status: HTTPResponseStatus, text: String) -> Bool {
    switch end() {
    case .fresh:
      exchange.respond(status, text: text)
      return true
    case .begun:
      exchange.abort()
      return false
    case .over: return true
    }
  }
}
