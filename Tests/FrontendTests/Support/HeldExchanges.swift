import Synchronization

@testable import frontend

/// Begins answers and ends them when a test says so.
final class HeldExchanges: BodyService {
  private let held = Mutex<[any Exchange]>([])
  private let startsStream: Bool

  init(startsStream: Bool = true) {
    self.startsStream = startsStream
  }

  func handle(_ exchange: any Exchange, _ body: [UInt8]) {
    if startsStream { exchange.startStream() }
    held.withLock { $0.append(exchange) }
  }

  func handleFurther(_ exchange: any Exchange, _ body: [UInt8]) {
    exchange.deliver(body) { _ in }
  }

  var count: Int { held.withLock { $0.count } }
  var all: [any Exchange] { held.withLock { $0 } }

  func finishAll(_ bytes: [UInt8]) {
    for exchange in all { exchange.finish(bytes) }
  }
}

/// The same numbers in each run.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1 }

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }
}
