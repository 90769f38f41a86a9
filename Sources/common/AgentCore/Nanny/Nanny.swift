/// Decides whether the agent is healthy (client.md §10). A value: time and memory are handed to it.
package struct Nanny: Sendable {
  package enum Verdict: Equatable, Sendable {
    case healthy
    /// Out of bounds for the first time: the remedy is tried.
    case restart(reason: String)
    /// Still out of bounds at the next check: the process ends with status 255.
    case exit(reason: String)
  }

  package static let period: Duration = .seconds(10)
  /// A longer time between two checks is a suspended machine.
  static let suspension: Duration = .seconds(20)

  private let longestSilence: Duration?
  private let memoryLimit: Int?
  private var lastBeats: [String: Instant] = [:]
  private var lastCheck: Instant?
  private var wasOut = false

  /// - Parameters:
  ///   - longestSilence: `nanny_max_connection_delay`; nil: loops are not watched.
  ///   - memoryLimit: `max_memory_hard_limit` in bytes; nil: none.
  package init(longestSilence: Duration?, memoryLimit: Int?) {
    self.longestSilence = longestSilence
    self.memoryLimit = memoryLimit
  }

  /// Whether a check can ever find anything.
  package var watchesSomething: Bool { longestSilence != nil || memoryLimit != nil }

  /// A loop is alive. It is watched from its first beat on.
  package mutating func beat(_ loop: String, at now: Instant) { lastBeats[loop] = now }

  /// Called every `period`.
  package mutating func check(at now: Instant, memory: Int) -> Verdict {
    defer { lastCheck = now }
    if let lastCheck, now - lastCheck > Self.suspension {
      for loop in lastBeats.keys { lastBeats[loop] = now }
    }
    guard let reason = complaint(at: now, memory) else {
      wasOut = false
      return .healthy
    }
    defer { wasOut = true }
    guard wasOut else {
      // The loops are started anew and have the whole time again only when they beat.
      return .restart(reason: reason)
    }
    return .exit(reason: reason)
  }

  private func complaint(at now: Instant, _ memory: Int) -> String? {
    if let memoryLimit, memory > memoryLimit {
      return "the agent uses \(memory) bytes of memory; the limit is \(memoryLimit)"
    }
    guard let longestSilence else { return nil }
    let silent = lastBeats.filter { now - $0.value > longestSilence }.min { $0.key < $1.key }
    return silent.map { "the \($0.key) loop was silent for \((now - $0.value).inSeconds)" }
  }
}
