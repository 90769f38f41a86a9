import NIOCore
import NIOHTTP1
import Wire

/// An answer whose head is held back until the outcome is known, but not longer than an agent likes to wait: then the
/// head of a 200 and padding are written, and from then on failure can only be told by cutting the connection
/// (http.md §4 steps 8 to 11).
final class LateAnswer: Sendable {
  private let exchange: any Exchange
  private let state: AnswerProgress

  init(exchange: any Exchange, interval: TimeAmount) {
    self.exchange = exchange
    state = AnswerProgress()
    let state = state
    let task = exchange.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { task in
      switch state.tick() {
      case .ended: task.cancel()
      case .first:
        exchange.startStream()
        exchange.writePad()
      case .next: exchange.writePad()
      }
    }
    exchange.onClose { task.cancel() }
  }

  /// Ends the answer with 200 and these bytes.
  func succeed(_ bytes: [UInt8]) {
    if !state.end() { exchange.startStream() }
    exchange.finish(bytes)
  }

  /// Ends with an error.
  /// - Returns: false when the head was already written: the connection was cut instead.
  func fail(_ status: HTTPResponseStatus, text: String) -> Bool {
    if state.end() {
      exchange.abort()
      return false
    }
    exchange.respond(status, text: text)
    return true
  }
}
