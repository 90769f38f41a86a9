import AgentCore
import Synchronization

/// What the agents of a pool have lived through so far.
final class PoolMeter: Sendable {
  struct Counts: Sendable {
    /// Readers that the server has accepted and that wait now.
    var connected = 0
    /// Agents whose first body was accepted.
    var accepted = 0
    var checkIns = 0
    var deliveries = 0
    var sentBytes = 0
    /// Answers by status other than 200.
    var statuses: [Int: Int] = [:]
    /// Broken exchanges by their reason.
    var errors: [String: Int] = [:]
    /// From sending a check-in to the head of the answer.
    var checkInLatency = LatencyHistogram()
    /// From sending a body to its answer.
    var deliveryLatency = LatencyHistogram()
    /// From an agent's first request to its first accepted check-in.
    var enrollment = LatencyHistogram()
  }

  /// More reasons than this are counted as one, so that a strange server cannot fill the memory.
  private static let reasonLimit = 50

  private let counts = Mutex(Counts())

  var now: Counts { counts.withLock { $0 } }

  func change(_ body: (inout Counts) -> Void) { counts.withLock { body(&$0) } }

  func failed(_ error: any Error) {
    // Addresses and numbers would make each error its own kind.
    let reason = String("\(error)".prefix(120)).replacing(/[0-9]+/, with: "N")
    change { counts in
      let key = counts.errors[reason] != nil || counts.errors.count < Self.reasonLimit ? reason : "other errors"
      counts.errors[key, default: 0] += 1
    }
  }
}

/// One agent's transport, with an eye on it.
final class MeasuredTransport: Transport {
  private let inner: any Transport
  private let meter: PoolMeter
  private let start = Mutex<ContinuousClock.Instant?>(nil)
  private let isAccepted = Atomic(false)

  init(_ inner: any Transport, _ meter: PoolMeter) {
    self.inner = inner
    self.meter = meter
  }

  func close() async { await inner.close() }

  func perform(_ request: TransportRequest) async throws -> TransportAnswer {
    let began = ContinuousClock.now
    start.withLock { if $0 == nil { $0 = began } }
    do {
      let answer =
        request.handler == "reader" ? try await read(request, began) : try await inner.perform(request)
      if request.handler == "control" { delivered(request, answer, began) }
      if answer.status != 200 { meter.change { $0.statuses[answer.status, default: 0] += 1 } }
      return answer
    } catch {
      if !Task.isCancelled { meter.failed(error) }
      throw error
    }
  }

  private func delivered(_ request: TransportRequest, _ answer: TransportAnswer, _ began: ContinuousClock.Instant) {
    guard answer.status == 200 else { return }
    let time = Self.microseconds(since: began)
    meter.change { counts in
      counts.deliveries += 1
      counts.sentBytes += request.body?.count ?? 0
      counts.deliveryLatency.record(microseconds: time)
    }
  }

  /// The answer's head comes at once, the rest when there is work or the wait is over.
  private func read(_ request: TransportRequest, _ began: ContinuousClock.Instant) async throws -> TransportAnswer {
    let waits = Atomic(false)
    var request = request
    let told = request.onHeaders
    let meter = meter
    request.onHeaders = { [self] status in
      told?(status)
      guard status == 200, !waits.exchange(true, ordering: .relaxed) else { return }
      checkedIn(began)
    }
    defer { if waits.load(ordering: .relaxed) { meter.change { $0.connected -= 1 } } }
    return try await inner.perform(request)
  }

  private func checkedIn(_ began: ContinuousClock.Instant) {
    let time = Self.microseconds(since: began)
    let isFirst = !isAccepted.exchange(true, ordering: .relaxed)
    let whole = start.withLock { $0 }.map { Self.microseconds(since: $0) } ?? time
    meter.change { counts in
      counts.connected += 1
      counts.checkIns += 1
      counts.checkInLatency.record(microseconds: time)
      guard isFirst else { return }
      counts.accepted += 1
      counts.enrollment.record(microseconds: whole)
    }
  }

  private static func microseconds(since start: ContinuousClock.Instant) -> Int {
    let time = (ContinuousClock.now - start).components
    return Int(time.seconds) * 1_000_000 + Int(time.attoseconds / 1_000_000_000_000)
  }
}
