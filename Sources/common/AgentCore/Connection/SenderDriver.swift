import Logging
import Wire

/// Runs the sender's machine: leases from the queue, posts, commits (client.md §4).
package actor SenderDriver {
  private let link: Link
  private let queue: OutboundQueue
  private let clock: any AgentClock
  private let log: Logger
  private let compressed: Bool
  private var dispatch: @Sendable (Proto_VeloMessage) -> Void = { _ in }
  private var enrol: @Sendable () -> Void = {}
  private var loop: SenderLoop
  /// What was sent and is not acknowledged, to be sent again unchanged.
  private var pending: OutboundQueue.Lease?

  package init(
    link: Link, queue: OutboundQueue, settings: AgentSettings, clock: any AgentClock, log: Logger
  ) {
    self.link = link
    self.queue = queue
    self.clock = clock
    self.log = log
    compressed = settings.compress
    loop = SenderLoop(settings: settings.sender)
  }

  /// Whether nothing waits to be sent or acknowledged.
  package var isDrained: Bool { pending == nil && queue.isEmpty }

  /// The server sealed an answer to the reader.
  package func serverAcknowledged() {
    loop.serverAcknowledged()
    queue.doorbell.ring()
  }

  /// Until cancelled. What is not acknowledged then stays in the queue.
  ///
  /// - Parameters:
  ///   - dispatch: takes the jobs of authenticated answers.
  ///   - enrol: told that the server said 406.
  package func run(
    dispatch: @escaping @Sendable (Proto_VeloMessage) -> Void, enrol: @escaping @Sendable () -> Void
  ) async throws {
    self.dispatch = dispatch
    self.enrol = enrol
    while true {
      try Task.checkCancellation()
      do {
        try await step()
      } catch let error as AgentError where error.code == .state {
        // A disk that fails may come back; giving up would lose what it holds.
        log.error("The queue cannot be used: \(error); trying again in \(Self.diskPause.inSeconds)")
        try await clock.sleep(until: clock.now + Self.diskPause)
      }
    }
  }

  private static let diskPause: Duration = .seconds(10)
  /// With nothing to send it looks up once a minute, so that the nanny sees that it can.
  private static let longestNap: Duration = .seconds(60)

  private func step() async throws {
    switch loop.next(at: clock.now, urgent: queue.urgentState, bulkBytes: queue.bulkBytes) {
    case .wait(let until):
      await queue.doorbell.wait(until: until ?? clock.now + Self.longestNap, clock: clock)
    case .sendUrgent(let limit):
      if let lease = try queue.leaseUrgent(recordLimit: limit) { try await send(lease) }
    case .sendBulk(let limit):
      if let lease = try pending ?? queue.leaseBulk(recordLimit: limit) { try await send(lease) }
    }
  }

  private func send(_ lease: OutboundQueue.Lease) async throws {
    if !lease.isUrgent { pending = lease }
    let result = try await link.exchange(
      handler: "control", lists: lease.lists, compressed: compressed, urgent: lease.isUrgent)
    let sealed = await link.sealedAnswers
    let now = clock.now
    let verdict =
      lease.isUrgent
      ? loop.urgentAnswered(
        result, isEnrolment: lease.isEnrolment, records: lease.records, sealedAnswers: sealed, at: now)
      : loop.bulkAnswered(result, records: lease.records, sealedAnswers: sealed, at: now)
    try apply(verdict, to: lease)
    switch result {
    case .sealed(let lists): JobDispatch.deliver(lists, to: dispatch, log: log)
    case .enrol where !lease.isEnrolment: enrol()
    default: break
    }
  }

  private func apply(_ verdict: DeliveryJudge.Verdict, to lease: OutboundQueue.Lease) throws {
    switch verdict {
    case .delivered:
      log.debug("Delivered \(lease.records) messages")
      try queue.commit(lease)
      if !lease.isUrgent { pending = nil }
    case .keep:
      if lease.isUrgent { queue.rollback(lease) }
    case .split(let limit):
      log.notice("\(lease.records) messages were not acknowledged; sending at most \(limit) at a time")
      queue.rollback(lease)
      if !lease.isUrgent { pending = nil }
    case .setAside(let reason):
      try queue.setAside(lease, reason: reason)
      if !lease.isUrgent { pending = nil }
    }
  }
}
