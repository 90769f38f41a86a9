/// A token bucket: `burst` at once, then one per `period` (client.md §3 and §4).
package struct Limiter: Sendable {
  private let period: Duration
  private let burst: Int
  /// The time at which the bucket will be full again.
  private var fullAt: Instant?

  package init(period: Duration, burst: Int) {
    self.period = max(period, .zero)
    self.burst = max(burst, 1)
  }

  /// When the next token can be taken; `now` or earlier means at once.
  package func readyAt(_ now: Instant) -> Instant {
    guard let fullAt, fullAt > now else { return now }
    // With one more token taken the bucket fills at fullAt + period; it must not be more than burst periods away.
    let earliest = fullAt - period * (burst - 1)
    return max(earliest, now)
  }

  /// Takes a token, also when none is there (the debt delays the next).
  package mutating func take(_ now: Instant) {
    fullAt = max(fullAt ?? now, now) + period
  }
}
