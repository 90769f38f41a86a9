import Foundation

/// The clocks of the executor: one for durations, one for the times that are reported.
package struct Timekeeper: Sendable {
  package var monotonic: @Sendable () -> Instant
  /// Microseconds since 1970.
  package var microseconds: @Sendable () -> UInt64

  package init(monotonic: @escaping @Sendable () -> Instant, microseconds: @escaping @Sendable () -> UInt64) {
    self.monotonic = monotonic
    self.microseconds = microseconds
  }

  package static let system = Timekeeper(
    monotonic: { ContinuousClock.now },
    microseconds: { UInt64(max(0, Date().timeIntervalSince1970 * 1_000_000)) })
}

/// Threads for queries: they may block, and they recurse deeply.
enum QueryThread {
  static func start(_ name: String, stackSize: Int = 8 << 20, _ body: @escaping @Sendable () -> Void) {
    let thread = Thread(block: body)
    thread.name = name
    thread.stackSize = stackSize
    thread.start()
  }
}
