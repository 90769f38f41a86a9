/// How long to wait after all servers failed (http.md §6, client.md §2.4).
///
/// The first waits after a success are short, so that a restarted server is found again in seconds ("at most 3 attempts
/// follow each other at once"); from then on each is `max_poll + random[0, max_poll_std)`. All are spread at random,
/// so that a fleet that lost its servers together does not return together.
package struct BackOff: Sendable {
  package struct Policy: Sendable {
    /// `max_poll`.
    package var base: Duration
    /// `max_poll_std`: the width of the random part.
    package var deviation: Duration
    /// The middle of the short waits after the first failures.
    package var quick: [Duration]

    package init(base: Duration, deviation: Duration, quick: [Duration] = [.seconds(1), .seconds(3)]) {
      self.base = base
      self.deviation = deviation
      self.quick = quick
    }
  }

  private let policy: Policy
  /// Failed rounds since the last success.
  package private(set) var failures = 0

  package init(policy: Policy) {
    self.policy = policy
  }

  package mutating func succeeded() {
    failures = 0
  }

  /// The wait after one more failed round.
  package mutating func failed(using random: inout RandomSource) -> Duration {
    defer { failures += 1 }
    if failures < policy.quick.count, policy.quick[failures] < policy.base {
      let middle = policy.quick[failures]
      return middle / 2 + random.duration(below: middle)
    }
    return long(using: &random)
  }

  /// The wait after a round in which a server served us and was then lost, as in a restart of all: a short one, and it
  /// is not counted.
  package mutating func interrupted(using random: inout RandomSource) -> Duration {
    guard let middle = policy.quick.last, middle < policy.base else { return failed(using: &random) }
    return middle / 2 + random.duration(below: middle)
  }

  /// The full wait, without counting a failure.
  package func long(using random: inout RandomSource) -> Duration {
    policy.base + random.duration(below: policy.deviation)
  }
}
