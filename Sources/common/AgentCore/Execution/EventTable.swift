import Dispatch
import FoundationEssentials
import Logging
import Synchronization
import Wire

/// The standing queries (client.md §8, flows.md §7).
///
/// Changes are made on one serial queue, one after the other, because stopping the old queries takes time.
final class EventTable: Sendable {
  private struct State {
    var table: Proto_VQLEventTable?
    var queries: [EventQuery] = []
    var isStopped = false
  }

  private let engine: any CollectorEngine
  private let outbox: any Outbox
  private let time: Timekeeper
  private let settings: AgentSettings
  private let log: Logger
  private let changed: @Sendable (Proto_VQLEventTable) -> Void
  private let state = Mutex(State())
  private let changes = DispatchQueue(label: "microraptor.event-table")

  init(
    engine: any CollectorEngine, outbox: any Outbox, time: Timekeeper, settings: AgentSettings, log: Logger,
    changed: @escaping @Sendable (Proto_VQLEventTable) -> Void
  ) {
    self.engine = engine
    self.outbox = outbox
    self.time = time
    self.settings = settings
    self.log = log
    self.changed = changed
  }

  /// Version of the running table; 0 when there is none.
  var version: UInt64 { state.withLock { $0.table?.version ?? 0 } }

  /// Starts the table of the last run. Its version counts at once, so that the first check-in carries it.
  func restore(_ table: Proto_VQLEventTable) {
    state.withLock { $0.table = table }
    changes.async { [self] in replace(with: table) }
  }

  /// A table of the server's. Returns at once.
  func update(_ table: Proto_VQLEventTable) {
    changes.async { [self] in
      guard table.version > version else { return }
      let isSame = state.withLock { $0.table.map { Self.runsSame($0, table) } ?? false }
      if isSame {
        state.withLock { $0.table?.version = table.version }
      } else {
        replace(with: table)
      }
      changed(table)
    }
  }

  /// Waits until all changes so far are made.
  func settle() { changes.sync {} }

  func stop() {
    changes.sync {
      let old = state.withLock { state in
        state.isStopped = true
        defer { state.queries = [] }
        return state.queries
      }
      end(old)
    }
  }

  /// Whether queries and environments are equal, so that nothing need be restarted.
  static func runsSame(_ left: Proto_VQLEventTable, _ right: Proto_VQLEventTable) -> Bool {
    left.event.count == right.event.count
      && zip(left.event, right.event).allSatisfy { $0.query == $1.query && $0.env == $1.env }
  }

  private func replace(with table: Proto_VQLEventTable) {
    let old = state.withLock { state in
      defer { state.queries = [] }
      return state.queries
    }
    end(old)
    let named = table.event.filter { event in event.query.contains { !$0.name.isEmpty } }
    let queries = named.map {
      EventQuery(arguments: $0, engine: engine, outbox: outbox, time: time, settings: settings)
    }
    let isStopped = state.withLock { state in
      state.table = table
      state.queries = state.isStopped ? [] : queries
      return state.isStopped
    }
    guard !isStopped else { return }
    log.info("Event table version \(table.version): running \(queries.count) queries")
    for query in queries { query.start() }
  }

  private func end(_ queries: [EventQuery]) {
    for query in queries { query.stop() }
    for query in queries where !query.waitForEnd(seconds: 10) {
      log.warning("An event query did not stop when it was told to; it is left behind")
    }
  }
}

/// One standing query: run, and run again after its refresh period.
final class EventQuery: CollectorHost, UploadHost {
  private struct State {
    var log: LogBatch
    var collector: Collector?
    var isStopped = false
    var nextLogs: Instant
  }

  static let defaultRefresh: Duration = .seconds(43_200)

  let sessionID = "F.Monitoring"
  private let arguments: Proto_VQLCollectorArgs
  private let engine: any CollectorEngine
  private let outbox: any Outbox
  private let time: Timekeeper
  private let settings: AgentSettings
  private let state: Mutex<State>
  private let wake = ThreadSignal()
  private let ended = DispatchSemaphore(value: 0)

  init(
    arguments: Proto_VQLCollectorArgs, engine: any CollectorEngine, outbox: any Outbox, time: Timekeeper,
    settings: AgentSettings
  ) {
    self.arguments = arguments
    self.engine = engine
    self.outbox = outbox
    self.time = time
    self.settings = settings
    let name = arguments.query.first { !$0.name.isEmpty }?.name ?? ""
    state = Mutex(
      State(
        log: LogBatch(limit: .max, pattern: ErrorPattern(), artifact: name),
        nextLogs: time.monotonic() + .seconds(5)))
  }

  /// The period after which the query is started anew, spread by a tenth so that hosts do not do it together.
  static func refreshPeriod(_ timeout: UInt64, using random: inout some RandomNumberGenerator) -> Duration {
    let base = timeout == 0 ? defaultRefresh : .clamped(seconds: timeout)
    return .milliseconds(Int64(Double(base.milliseconds) * Double.random(in: 0.9...1.1, using: &random)))
  }

  func start() {
    QueryThread.start("event query", stackSize: 1 << 20) { [self] in
      while !isStopped { runOnce() }
      flushLogs()
      ended.signal()
    }
  }

  private var isStopped: Bool { state.withLock { $0.isStopped } }

  /// One refresh period. A query that ends by itself is started again only at its end.
  private func runOnce() {
    var random = SystemRandomNumberGenerator()
    let collector = Collector(
      arguments: arguments, host: self, engine: engine, time: time,
      defaults: Collector.Defaults(maxWait: settings.defaultMaxWait, heartbeat: .seconds(300)))
    let mayRun = state.withLock { state in
      state.collector = state.isStopped ? nil : collector
      return !state.isStopped
    }
    guard mayRun else { return }
    let refreshAt = time.monotonic() + Self.refreshPeriod(arguments.timeout, using: &random)
    QueryThread.start("event collector") { collector.run() }
    while !isStopped, time.monotonic() < refreshAt {
      wake.wait(atMost: 0.5)
      tick(at: time.monotonic())
    }
    collector.stop(reason: "the query is refreshed", error: nil)
    while !collector.hasEnded, !collector.isStuck(at: time.monotonic(), after: Flow.stopGrace) {
      wake.wait(atMost: 0.5)
    }
    state.withLock { $0.collector = nil }
  }

  func tick(at now: Instant) {
    let (collector, logsDue) = state.withLock { state in
      let due = now >= state.nextLogs || state.log.isLarge
      if due { state.nextLogs = now + .seconds(5) }
      return (state.collector, due)
    }
    collector?.tick(at: now, timesOut: false)
    if logsDue { flushLogs() }
  }

  func stop() {
    state.withLock { state in
      state.isStopped = true
      return state.collector
    }?.stop(reason: "the event table changes", error: nil)
    wake.signal()
  }

  func waitForEnd(seconds: Double) -> Bool {
    ended.wait(timeout: .now() + seconds) == .success
  }

  // MARK: host

  func collectorEnded(_ collector: Collector) { wake.signal() }

  func log(_ text: String, from collector: Collector) {
    let seconds = time.microseconds() / 1_000_000
    if case .alert(let alert) = state.withLock({ $0.log.add(text, at: seconds) }) {
      send(ResponseMessages.log(alert, session: sessionID))
    }
  }

  // MARK: uploads (client.md §8.6)

  func uploads(for collector: Collector) -> any UploadTarget { CollectorUploads(host: self, collector: collector) }

  var isUploadCancelled: Bool { isStopped }
  var compressesUploads: Bool { false }

  /// All standing queries share one session: the numbers start at the time, so that a restart does not repeat them.
  func nextUploadNumber() -> Int64 { Self.uploadNumbers.next(atLeast: Int64(clamping: time.microseconds())) }

  private static let uploadNumbers = UploadNumbers()

  func deliver(upload message: Proto_VeloMessage, bytes: Int, from collector: Collector) { send(message) }

  func deliver(
    _ part: PartBuilder.Part, of query: Proto_VQLRequest, at place: Collector.Place, from collector: Collector
  ) {
    send(
      ResponseMessages.rows(
        part, of: query, at: place, session: sessionID, timestamp: time.microseconds(), byteOffset: nil))
  }

  private func flushLogs() {
    if let batch = state.withLock({ $0.log.drain() }) { send(ResponseMessages.log(batch, session: sessionID)) }
  }

  private func send(_ message: Proto_VeloMessage) {
    outbox.send(message, isAbandoned: { isStopped })
  }
}

/// Numbers that never repeat.
private final class UploadNumbers: Sendable {
  private let last = Mutex<Int64>(0)

  func next(atLeast floor: Int64) -> Int64 {
    last.withLock { last in
      last = max(last + 1, floor)
      return last
    }
  }
}
