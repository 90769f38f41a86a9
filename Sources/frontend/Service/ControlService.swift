import Logging
import NIOCore
import Observability
import PublicIdentity
import Store
import Wire
import WorkerLink

/// `/control`: takes results and enrollments (http.md §4). The answer that lets an agent forget its data is written
/// after the commit.
final class ControlService: BodyService {
  private let opener: BodyOpener
  private let store: any Store
  private let enrollment: Enrollment
  private let metrics: FrontendMetrics
  private let limited: RateLimitedLog

  private let padInterval: TimeAmount
  private let limit: TimeAmount

  /// - Parameters:
  ///   - padInterval: time without a commit after which the head and padding are written, so that the agent keeps
  ///     waiting.
  ///   - limit: how long a commit may take.
  init(
    opener: BodyOpener, store: any Store, enrollment: Enrollment, metrics: FrontendMetrics, limited: RateLimitedLog,
    padInterval: TimeAmount = .seconds(3), limit: TimeAmount = LateAnswer.limit
  ) {
    self.padInterval = padInterval
    self.limit = limit
    self.opener = opener
    self.store = store
    self.enrollment = enrollment
    self.metrics = metrics
    self.limited = limited
  }

  /// The body is complete: what follows goes on even if the agent hangs up.
  func handle(_ exchange: any Exchange, _ body: [UInt8]) {
    Task.immediate(executorPreference: exchange.connection.executor) { await process(exchange, body) }
  }

  private func process(_ exchange: any Exchange, _ body: [UInt8]) async {
    switch await opener.open(body, from: exchange.remoteAddress, acknowledge: true) {
    case .refused:
      metrics.refused.increment()
      limited.log(.info, "refused", "a body was refused with 403", metadata: ["address": "\(exchange.remoteAddress)"])
      exchange.respond(.forbidden, text: "")
    case .unavailable(let reason): unavailable(exchange, reason)
    case .unauthenticated: await enroll(exchange, body)
    case .authenticated(let opened, let name): await ingest(exchange, opened, name)
    }
  }

  private func unavailable(_ exchange: any Exchange, _ reason: String) {
    metrics.unavailable.increment()
    limited.warning("unavailable", "answering 503: \(reason)")
    exchange.respond(.serviceUnavailable, text: "Error: \(reason)")
  }

  private func enroll(_ exchange: any Exchange, _ body: [UInt8]) async {
    var result = Enrollment.Result.done
    if !body.isEmpty, let opened = await opener.unauthenticatedContent(body), let name = ClientName(opened.source) {
      result = await WorkPlace.run(isSmall: opened.isSmall) {
        let decoded = DecodedBody(opened, name, authenticated: false)
        return await enrollment.process(decoded.jobs, org: name.org, address: exchange.remoteAddress)
      }
    }
    switch result {
    case .done:
      metrics.enrollmentsAsked.increment()
      exchange.respond(.notAcceptable, text: "Please Enrol")
    case .failed: exchange.respond(.serviceUnavailable, text: "Error: enrollment failed")
    }
  }

  private func ingest(_ exchange: any Exchange, _ opened: OpenedBody, _ name: ClientName) async {
    let stream = LateAnswer(exchange: exchange, interval: padInterval, limit: limit) { [metrics, limited] in
      metrics.aborted.increment()
      limited.warning("slow-store", "the store took too long for a body; the agent sends it again")
    }
    let started = ContinuousClock.now
    do {
      let (result, damaged) = try await WorkPlace.run(isSmall: opened.isSmall) {
        let decoded = DecodedBody(opened, name, authenticated: true)
        let submission = Submission(
          client: name, remoteAddress: exchange.remoteAddress, receivedAt: .now(), lists: decoded.lists)
        return (try await store.ingest(submission), decoded.damaged)
      }
      metrics.commitLatency.observe(ContinuousClock.now - started)
      finish(stream, result, opened, name, damaged: damaged)
    } catch {
      metrics.unavailable.increment()
      limited.warning("store", "a body could not be stored, the agent keeps it: \(error)")
      if !stream.fail(.serviceUnavailable, text: "Error: the store does not work") { metrics.aborted.increment() }
    }
  }

  private func finish(
    _ stream: LateAnswer, _ result: IngestResult, _ opened: OpenedBody, _ name: ClientName, damaged: Int
  ) {
    metrics.duplicates.increment(by: UInt64(max(0, result.duplicateLists)))
    metrics.jobFailures.increment(by: UInt64(max(0, result.failures.count)))
    for failure in result.failures.prefix(3) {
      limited.warning(
        "job", "a job was refused: \(failure.reason.rawValue) \(failure.detail)", metadata: ["client": "\(name)"])
    }
    if result.outcome == .unknownClient {
      // Deleted while its session was cached.
      metrics.enrollmentsAsked.increment()
      opener.link.broadcast(.forget(source: name.description))
      if !stream.fail(.notAcceptable, text: "Please Enrol") { metrics.aborted.increment() }
      return
    }
    if damaged > 0 {
      // As the reference ends such a body: complete, and without an envelope. Sending it again would not mend it.
      metrics.jobFailures.increment(by: UInt64(damaged))
      limited.warning("damaged", "a message list did not inflate or parse", metadata: ["client": "\(name)"])
      return stream.succeed([])
    }
    metrics.acknowledged.increment()
    stream.succeed(opened.acknowledgement)
  }
}
