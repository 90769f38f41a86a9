import FoundationEssentials
import Synchronization
import Wire

/// One FlowRequest (client.md §6.1): its collectors, its log, its statuses and its limits.
///
/// `supervise` runs on a thread of the flow's own; tests call `tick` and `finish` themselves.
final class Flow: CollectorHost {
  struct Dependencies: Sendable {
    var engine: any CollectorEngine
    var outbox: any Outbox
    var time: Timekeeper
    var slots: SlotGate
    var settings: AgentSettings
  }

  private struct State {
    var log: LogBatch
    var limits: FlowLimits
    var sentBytes: [String: UInt64] = [:]
    var isCancelled = false
    var isComplete = false
    var hasStarted = false
    var nextStats: Instant
    var nextLogs: Instant
    var uploadNumber: Int64 = 0
  }

  /// The engine is given this long to obey before its thread is left behind.
  static let stopGrace: Duration = .seconds(60)
  static let slotPatience: Duration = .seconds(3600)

  let sessionID: String
  let isUrgent: Bool
  private let request: Proto_FlowRequest
  private let dependencies: Dependencies
  /// Of queries that ran before this request, which goes on where they ended.
  private let previous: [Proto_VeloStatus]
  private let state: Mutex<State>
  private let collectorsBox = Mutex<[Collector]>([])
  /// Collectors that the flow waits for; traces end with them.
  private let mainCount: Int
  /// Held while log lines are taken and queued, so that they leave in order.
  private let logOrder = Mutex(())
  private let wake = ThreadSignal()
  private let logPeriod: Duration
  private let statsPeriod: Duration

  init(
    id: String, isUrgent: Bool, request: Proto_FlowRequest, dependencies: Dependencies,
    previous: [Proto_VeloStatus] = []
  ) {
    self.previous = previous
    sessionID = id
    self.isUrgent = isUrgent
    self.request = request
    self.dependencies = dependencies
    mainCount = request.vqlclientActions.count
    // Servers fill seconds into a field that is declared in milliseconds: nothing below 100 ms is meant.
    logPeriod =
      request.logBatchTime == 0
      ? .seconds(5) : .milliseconds(Int64(min(max(request.logBatchTime, 100), 60_000)))
    statsPeriod =
      request.flowUpdateTime == 0
      ? dependencies.settings.flowStatsInterval : .clamped(seconds: request.flowUpdateTime)
    let now = dependencies.time.monotonic()
    state = Mutex(
      State(
        log: LogBatch(limit: request.maxLogs, pattern: ErrorPattern(request.logErrorRegex)),
        limits: FlowLimits(maxRows: request.maxRows, maxUploadBytes: request.maxUploadBytes),
        nextStats: now + statsPeriod, nextLogs: now + logPeriod))
    makeCollectors()
  }

  private func makeCollectors() {
    let defaults = Collector.Defaults(maxWait: dependencies.settings.defaultMaxWait)
    let all = (request.vqlclientActions + request.trace).map { arguments in
      Collector(
        arguments: arguments, host: self, engine: dependencies.engine, time: dependencies.time, defaults: defaults)
    }
    collectorsBox.withLock { $0 = all }
  }

  private var collectors: [Collector] { collectorsBox.withLock { $0 } }
  private var mainCollectors: ArraySlice<Collector> { collectors.prefix(mainCount) }

  // MARK: supervision

  /// Runs the flow to its end.
  func supervise() {
    if waitForSlot() {
      startCollectors()
      while !mainCollectors.allSatisfy(\.hasEnded) {
        wake.wait(atMost: 0.1)
        tick(at: dependencies.time.monotonic())
      }
      stopTraces()
    }
    if !isUrgent { dependencies.slots.release(sessionID) }
    finish()
  }

  private func waitForSlot() -> Bool {
    guard !isUrgent else { return !isCancelled }
    let begin = dependencies.time.monotonic()
    while !dependencies.slots.acquire(sessionID, atMost: 0.1) {
      let now = dependencies.time.monotonic()
      tick(at: now)
      if isCancelled { return endUnstarted("Cancelled") }
      if now - begin > Self.slotPatience {
        logLine("ERROR:Timed out in concurrency control")
        return endUnstarted("Timed out in concurrency control")
      }
    }
    return isCancelled ? endUnstarted("Cancelled") : true
  }

  private func endUnstarted(_ error: String) -> Bool {
    for collector in collectors { collector.giveUp(error: error) }
    return false
  }

  func startCollectors() {
    state.withLock { $0.hasStarted = true }
    for collector in collectors {
      QueryThread.start("query \(sessionID)") { collector.run() }
    }
  }

  private func stopTraces() {
    for trace in collectors.dropFirst(mainCount) { trace.stop(reason: "the flow is complete", error: nil) }
  }

  func collectorEnded(_ collector: Collector) { wake.signal() }

  /// Looks at the clock: parts, time-outs, logs, progress.
  func tick(at now: Instant) {
    for collector in collectors {
      collector.tick(at: now)
      if collector.isStuck(at: now, after: Self.stopGrace) {
        logLine("ERROR:A query did not stop when it was told to; it is left behind.")
        collector.giveUp(error: "The query did not stop")
      }
    }
    let (logsDue, statsDue) = state.withLock { state in
      let logs = now >= state.nextLogs || state.log.isLarge
      let stats = now >= state.nextStats
      if logs { state.nextLogs = now + logPeriod }
      if stats { state.nextStats = now + statsPeriod }
      return (logs, stats)
    }
    if logsDue { flushLogs() }
    if statsDue { send(ResponseMessages.stats(stats, session: sessionID)) }
  }

  /// The last lines, then the final status, exactly once.
  func finish() {
    let isFirst = state.withLock { state in
      defer { state.isComplete = true }
      return !state.isComplete
    }
    guard isFirst else { return }
    flushLogs()
    send(ResponseMessages.stats(stats, session: sessionID))
  }

  /// The statuses as they are now; those of a flow that still waits for its slot are left out.
  var stats: Proto_FlowStats {
    var stats = Proto_FlowStats()
    let (hasStarted, isComplete) = state.withLock { ($0.hasStarted, $0.isComplete) }
    stats.flowComplete = isComplete
    if hasStarted || isComplete { stats.queryStatus = previous + collectors.map(\.status) }
    stats.transactionsOutstanding = stats.queryStatus.reduce(0) { $0 &+ $1.transactionsOutstanding }
    return stats
  }

  // MARK: cancelling

  var isCancelled: Bool { state.withLock { $0.isCancelled } }

  /// - Parameter error: for collectors that had none.
  func cancel(error: String = "Cancelled") {
    let isFirst = state.withLock { state in
      defer { state.isCancelled = true }
      return !state.isCancelled && !state.isComplete
    }
    guard isFirst else { return }
    // The line first: with its last collector the flow ends, and the log with it.
    logLine("ERROR:Cancelled all in-flight queries for flow \(sessionID)")
    for collector in collectors where !collector.hasEnded { collector.stop(reason: error, error: error) }
    wake.signal()
  }

  // MARK: output

  private func send(_ message: Proto_VeloMessage) {
    dependencies.outbox.send(message, isAbandoned: { isCancelled })
  }

  /// A line of the flow itself.
  private func logLine(_ text: String) { add(text, from: nil) }

  func log(_ text: String, from collector: Collector) { add(text, from: collector) }

  private func add(_ text: String, from collector: Collector?) {
    let seconds = dependencies.time.microseconds() / 1_000_000
    let added = state.withLock { $0.log.add(text, at: seconds) }
    switch added {
    case .dropped: return
    case .line: break
    case .error(let message): collector?.raise(message)
    case .alert(let alert): send(ResponseMessages.log(alert, session: sessionID))
    }
    collector?.countLogLine()
  }

  private func flushLogs() {
    logOrder.withLock { _ in
      if let batch = state.withLock({ $0.log.drain() }) { send(ResponseMessages.log(batch, session: sessionID)) }
    }
  }

  func deliver(
    _ part: PartBuilder.Part, of query: Proto_VQLRequest, at place: Collector.Place, from collector: Collector
  ) {
    let isCompressed = request.compression == .zlib
    let (offset, refusal) = state.withLock { state in
      let offset = state.sentBytes[query.name, default: 0]
      state.sentBytes[query.name] = offset + UInt64(part.jsonl.count)
      return (offset, state.limits.add(rows: part.rows, flow: sessionID))
    }
    send(
      ResponseMessages.rows(
        part, of: query, at: place, session: sessionID, timestamp: dependencies.time.microseconds(),
        byteOffset: isCompressed ? offset : nil))
    if let refusal { overLimit(refusal, collector) }
  }

  /// The collector that crossed the limit carries the reason; the flow ends.
  private func overLimit(_ message: String, _ collector: Collector) {
    guard !isCancelled else { return }
    add("ERROR:\(message)", from: collector)
    cancel()
  }

  // MARK: uploads

  func uploads(for collector: Collector) -> any UploadTarget { CollectorUploads(host: self, collector: collector) }

  func nextUploadNumber() -> Int64 {
    state.withLock { state in
      defer { state.uploadNumber += 1 }
      return state.uploadNumber
    }
  }

  var compressesUploads: Bool { request.compression == .zlib }

  func deliver(upload message: Proto_VeloMessage, bytes: Int, from collector: Collector) {
    send(message)
    if let refusal = state.withLock({ $0.limits.add(uploadBytes: bytes, flow: sessionID) }) {
      overLimit(refusal, collector)
    }
  }

  /// Lets the collectors go, which hold the flow.
  func release() { collectorsBox.withLock { $0 = [] } }
}
