/// `Frontend.resources.enrollments_per_second`: how many unknown sessions are unwrapped in a second, whoever sent them
/// (crypto.md §6 step 4). Times are milliseconds of a monotonic clock.
struct UnwrapPace {
  /// What may come at once.
  static let burst = 100.0

  private let perMillisecond: Double
  /// Negative when turns are taken that come later.
  private var tokens = Self.burst
  private var last: UInt64?

  /// - Parameter perSecond: above 0.
  init(perSecond: Int) {
    perMillisecond = Double(max(1, perSecond)) / 1_000
  }

  /// Takes a turn.
  /// - Parameter within: milliseconds after which nobody waits any more.
  /// - Returns: milliseconds until the turn; nil when it would come too late, and is not taken.
  mutating func reserve(now: UInt64, within: UInt64) -> UInt64? {
    if let last, now > last { tokens = min(Self.burst, tokens + Double(now - last) * perMillisecond) }
    last = max(now, last ?? 0)
    let wait = tokens >= 1 ? 0 : ((1 - tokens) / perMillisecond).rounded(.up)
    guard wait <= Double(within) else { return nil }
    tokens -= 1
    return UInt64(wait)
  }
}
