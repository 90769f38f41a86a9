/// What the sender's machine needs to know of the configuration.
package struct SenderSettings: Sendable {
  /// `min_poll`: the pause between bulk bodies.
  package var pause: Duration
  package var limiterPeriod: Duration
  package var limiterBurst: Int
  /// `max_upload_size`: with more than this waiting, the pause is skipped.
  package var bodySize: Int
  /// The longest wait after answers that did not acknowledge.
  package var longestHold: Duration
  /// How long fresh data waits for company after an idle time.
  package var gather: Duration = .milliseconds(50)

  package init(
    pause: Duration, limiterPeriod: Duration, limiterBurst: Int, bodySize: Int, longestHold: Duration
  ) {
    self.pause = pause
    self.limiterPeriod = limiterPeriod
    self.limiterBurst = limiterBurst
    self.bodySize = bodySize
    self.longestHold = longestHold
  }
}

/// The sender's rounds (client.md §4), without I/O. Urgent bodies go first, without limiter or pause.
package struct SenderLoop: Sendable {
  package enum Urgent: Equatable, Sendable { case none, enrolment, ordinary }

  package enum Action: Equatable, Sendable {
    case sendUrgent(recordLimit: Int?)
    /// Lease and send; at most `recordLimit` records when given.
    case sendBulk(recordLimit: Int?)
    /// Sleep until then, or until the queue changes.
    case wait(until: Instant?)
  }

  private let settings: SenderSettings
  private var limiter: Limiter
  private var urgentJudge = DeliveryJudge()
  private var bulkJudge = DeliveryJudge()
  private var bulkNotBefore: Instant?
  /// Since when data waits after an idle time.
  private var gatherUntil: Instant?
  private var heldUntil: Instant?
  private var hold: Duration = .zero

  package init(settings: SenderSettings) {
    self.settings = settings
    limiter = Limiter(period: settings.limiterPeriod, burst: settings.limiterBurst)
  }

  /// - Parameter bulkBytes: what waits in the bulk queue; 0 when nothing.
  package mutating func next(at now: Instant, urgent: Urgent, bulkBytes: Int) -> Action {
    if urgent == .enrolment { return .sendUrgent(recordLimit: 1) }
    if let heldUntil, heldUntil > now {
      return .wait(until: urgent == .none && bulkBytes == 0 ? nil : heldUntil)
    }
    if urgent == .ordinary { return .sendUrgent(recordLimit: urgentJudge.recordLimit) }
    guard bulkBytes > 0 else {
      gatherUntil = nil
      return .wait(until: nil)
    }
    let gathered = gatherUntil ?? now + settings.gather
    gatherUntil = gathered
    var ready = limiter.readyAt(now)
    if bulkBytes <= settings.bodySize { ready = max(ready, gathered, bulkNotBefore ?? now) }
    guard ready <= now else { return .wait(until: ready) }
    limiter.take(now)
    gatherUntil = nil
    return .sendBulk(recordLimit: bulkJudge.recordLimit)
  }

  /// The answer to an urgent body. A CSR is always answered by 406, which delivers it (client.md §2.3).
  package mutating func urgentAnswered(
    _ result: ExchangeResult, isEnrolment: Bool, records: Int, sealedAnswers: Int, at now: Instant
  ) -> DeliveryJudge.Verdict {
    if isEnrolment {
      switch result {
      case .enrol, .sealed, .accepted, .empty, .padding, .refused: return .delivered
      default: return .keep
      }
    }
    let verdict = urgentJudge.judge(result, records: records, sealedAnswers: sealedAnswers)
    adjustHold(result, at: now)
    return verdict
  }

  package mutating func bulkAnswered(
    _ result: ExchangeResult, records: Int, sealedAnswers: Int, at now: Instant
  ) -> DeliveryJudge.Verdict {
    bulkNotBefore = now + settings.pause
    adjustHold(result, at: now)
    return bulkJudge.judge(result, records: records, sealedAnswers: sealedAnswers)
  }

  /// The server sealed an answer for the reader: whatever held us back (an enrollment) is over.
  package mutating func serverAcknowledged() {
    guard bulkJudge.recordLimit == nil else { return }
    heldUntil = nil
    hold = .zero
  }

  /// Answers that keep the server but acknowledge nothing are repeated at growing distances; failures of the server are
  /// paced by the connector.
  private mutating func adjustHold(_ result: ExchangeResult, at now: Instant) {
    switch result {
    case .sealed, .accepted:
      hold = .zero
      heldUntil = nil
    case .empty, .padding, .refused, .enrol, .conflict:
      hold = hold == .zero ? settings.pause : min(hold * 2, settings.longestHold)
      heldUntil = now + hold
    default: break
    }
  }
}
