/// Monotonic time. State machines are handed it; only the drivers read the clock.
package typealias Instant = ContinuousClock.Instant

/// The time and randomness of the drivers; tests put their own in place.
package protocol AgentClock: Sendable {
  var now: Instant { get }
  /// Returns at `deadline`; throws when the task is cancelled.
  func sleep(until deadline: Instant) async throws
}

package struct SystemAgentClock: AgentClock {
  package init() {}
  package var now: Instant { ContinuousClock.now }

  package func sleep(until deadline: Instant) async throws {
    try await Task.sleep(until: deadline, tolerance: nil, clock: .continuous)
  }
}

/// A source of random numbers that can be kept in a value and replaced in tests.
package struct RandomSource: RandomNumberGenerator, Sendable {
  private var generate: @Sendable (inout UInt64) -> UInt64
  private var state: UInt64

  /// The operating system's generator.
  package init() {
    state = 0
    generate = { _ in
      var system = SystemRandomNumberGenerator()
      return system.next()
    }
  }

  /// SplitMix64: the same seed gives the same numbers.
  package init(seed: UInt64) {
    state = seed
    generate = { state in
      state &+= 0x9E37_79B9_7F4A_7C15
      var value = state
      value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
      value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
      return value ^ (value >> 31)
    }
  }

  package mutating func next() -> UInt64 { generate(&state) }

  /// Uniform in `[0, bound)`, in whole milliseconds.
  package mutating func duration(below bound: Duration) -> Duration {
    let milliseconds = bound.milliseconds
    return milliseconds < 1 ? .zero : .milliseconds(Int64.random(in: 0..<milliseconds, using: &self))
  }
}

extension Duration {
  /// Whole milliseconds, rounded down; never overflows.
  package var milliseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1000)
    return overflow ? (seconds < 0 ? .min : .max) : product &+ attoseconds / 1_000_000_000_000_000
  }

  /// For log lines: `1.3s`.
  package var inSeconds: String {
    let tenths = milliseconds / 100
    return "\(tenths / 10).\(abs(tenths % 10))s"
  }

  /// Whole nanoseconds; times of the wire protocol are that fine.
  package var wholeNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds &* 1_000_000_000 &+ attoseconds / 1_000_000_000
  }

  /// For the log of a flow: `12.3ms`, `1.234s`, `2m1.5s`.
  package var inWords: String {
    let micros = wholeNanoseconds / 1000
    guard micros >= 1000 else { return "\(micros)µs" }
    guard micros >= 1_000_000 else { return "\(Self.decimal(micros / 100, 10))ms" }
    let millis = micros / 1000
    guard millis >= 60_000 else { return "\(Self.decimal(millis, 1000))s" }
    let minutes = millis / 60_000
    let hours = minutes < 60 ? "" : "\(minutes / 60)h"
    return "\(hours)\(minutes % 60)m\(Self.decimal(millis % 60_000 / 100, 10))s"
  }

  /// `value / scale` with as many digits as `scale` has zeros, none of them at the end.
  private static func decimal(_ value: Int64, _ scale: Int64) -> String {
    var text = String(value / scale)
    var rest = value % scale
    if rest > 0 { text += "." }
    var place = scale / 10
    while rest > 0 {
      text += String(rest / place)
      rest %= place
      place = max(1, place / 10)
    }
    return text
  }

  /// Seconds from outside, limited so that no later arithmetic can overflow.
  package static func clamped(seconds: UInt64) -> Duration {
    .seconds(Int64(min(seconds, 1_000_000_000)))
  }
}
