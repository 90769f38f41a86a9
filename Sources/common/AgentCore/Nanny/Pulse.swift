/// The loops that the nanny watches (client.md §10).
package enum AgentLoop: String, Sendable, CaseIterable { case reader, sender }

/// Takes the signs of life of the loops.
package struct Pulse: Sendable {
  package static let ignored = Pulse { _ in }

  private let take: @Sendable (AgentLoop) -> Void

  package init(_ take: @escaping @Sendable (AgentLoop) -> Void) {
    self.take = take
  }

  package func beat(_ loop: AgentLoop) { take(loop) }
}

/// A clock whose sleeps are signs of life: a loop that waits is not stuck, however long the wait. A sleep that never
/// ends because the tasks of the process do not run any more is none.
package struct BeatingClock: AgentClock {
  /// A wait is cut into pieces of this length.
  static let slice: Duration = .seconds(30)

  private let base: any AgentClock
  private let pulse: Pulse
  private let loops: [AgentLoop]

  package init(_ base: any AgentClock, _ pulse: Pulse, _ loops: AgentLoop...) {
    self.base = base
    self.pulse = pulse
    self.loops = loops
  }

  package var now: Instant { base.now }

  package func sleep(until deadline: Instant) async throws {
    while true {
      for loop in loops { pulse.beat(loop) }
      let next = min(deadline, base.now + Self.slice)
      try await base.sleep(until: next)
      if next >= deadline { return }
    }
  }
}
