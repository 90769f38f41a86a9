/// The reader's rounds (client.md §3), without I/O.
package struct ReaderLoop: Sendable {
  package enum Action: Equatable, Sendable {
    /// Post a check-in; with `clientInfo` it carries the facts about this host.
    case post(clientInfo: Bool)
    case wait(until: Instant)
  }

  /// A server notices a dead reader at its next pad, which comes within 10 s (http.md §5).
  static let conflictPause: Duration = .seconds(10)

  private let pause: Duration
  private let maxPoll: Duration
  private var conflicts = 0
  private var random: RandomSource
  private let clientInfoInterval: Duration?
  private var limiter: Limiter
  private var notBefore: Instant?
  private var clientInfoSentAt: Instant?
  private var clientInfoIsDue: Bool

  /// - Parameter clientInfoInterval: client info is sent at start and then this often; absent: never.
  package init(
    minPoll: Duration, maxPoll: Duration, clientInfoInterval: Duration?, random: RandomSource = RandomSource()
  ) {
    pause = minPoll
    self.maxPoll = maxPoll
    self.random = random
    self.clientInfoInterval = clientInfoInterval
    clientInfoIsDue = clientInfoInterval != nil
    limiter = Limiter(period: maxPoll / 2, burst: 10)
  }

  /// What `next` will say, for log lines.
  package func peek(at now: Instant) -> Action {
    var copy = self
    return copy.next(at: now)
  }

  package mutating func next(at now: Instant) -> Action {
    let ready = max(notBefore ?? now, limiter.readyAt(now))
    guard ready <= now else { return .wait(until: ready) }
    limiter.take(now)
    if let clientInfoSentAt, let clientInfoInterval, now - clientInfoSentAt >= clientInfoInterval {
      clientInfoIsDue = true
    }
    return .post(clientInfo: clientInfoIsDue)
  }

  /// The round ended. A failed one is repeated as soon as the connector offers a server; one that the server did not
  /// take keeps its client info.
  package mutating func answered(_ result: ExchangeResult, at now: Instant) {
    switch result {
    // A server that lets us wait has processed the check-in (http.md §5).
    case .sealed, .padding:
      if clientInfoIsDue { clientInfoSentAt = now }
      clientInfoIsDue = false
    default: break
    }
    if result == .conflict {
      let wait = min(Self.conflictPause * (1 << min(conflicts, 4)), max(maxPoll, pause))
      conflicts += 1
      notBefore = now + wait + random.duration(below: wait / 2)
      return
    }
    conflicts = 0
    notBefore = result.keepsServer ? now + pause : now
  }
}
