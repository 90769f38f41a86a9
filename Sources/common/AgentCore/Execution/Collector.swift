import FoundationEssentials
import Glibc
import Synchronization
import Wire

/// What a collector belongs to: a flow, or the event table.
protocol CollectorHost: AnyObject, Sendable {
  var sessionID: String { get }
  /// A line `LEVEL:text` of this collector.
  func log(_ text: String, from collector: Collector)
  /// A finished response part, in order. May block while the queue is full.
  func deliver(
    _ part: PartBuilder.Part, of query: Proto_VQLRequest, at place: Collector.Place, from collector: Collector)
  /// Where this collector's files go.
  func uploads(for collector: Collector) -> any UploadTarget
  /// The collector's thread is about to end.
  func collectorEnded(_ collector: Collector)
}

/// Runs one VQLCollectorArgs (flows.md §2) on a thread of its own. `tick` is called from the supervising thread.
final class Collector: Sendable {
  /// Where a part belongs.
  struct Place: Sendable {
    /// Index of the statement in `Query`.
    var statement: Int
    /// Rows already sent under the same name in this run.
    var startRow: Int
  }

  struct Defaults: Sendable {
    var maxWait: Duration
    var timeout: Duration = .seconds(600)
    var heartbeat: Duration = .seconds(30)
  }

  private struct State {
    var status = Proto_VeloStatus()
    var session: (any EngineSession)?
    var started: Instant?
    var ended = false
    /// Why the collector must stop; nothing is an error about it.
    var stopReason: String?
    var stoppedAt: Instant?
    var timedOut = false
    var lastHeartbeat: Instant?
    var lastOperation: Instant?
    var statementName = ""
    var uploads: (any UploadTarget)?
  }

  private struct Output {
    var builder: PartBuilder?
    var statement = 0
    var sentRows: [String: Int] = [:]
  }

  let arguments: Proto_VQLCollectorArgs
  /// Name of the first named query, up to the first `/`; opaque.
  let name: String
  private let engine: any CollectorEngine
  private let time: Timekeeper
  private let defaults: Defaults
  /// Weak in effect: the host outlives its collectors.
  private let host: any CollectorHost
  private let state: Mutex<State>
  /// Held while a part is delivered, which may block: parts must leave in order.
  private let output = Mutex(Output())

  init(
    arguments: Proto_VQLCollectorArgs, host: any CollectorHost, engine: any CollectorEngine, time: Timekeeper,
    defaults: Defaults
  ) {
    self.arguments = arguments
    self.host = host
    self.engine = engine
    self.time = time
    self.defaults = defaults
    let first = arguments.query.first { !$0.name.isEmpty }?.name ?? ""
    name = first.firstIndex(of: "/").map { String(first[..<$0]) } ?? first
    var initial = State()
    initial.status.status = .progress
    state = Mutex(initial)
  }

  /// As of now: while it runs, the duration is that so far.
  var status: Proto_VeloStatus {
    let now = time.monotonic()
    return state.withLock { state in
      var status = state.status
      if !state.ended, let started = state.started { status.duration = (now - started).wholeNanoseconds }
      return status
    }
  }
  var hasEnded: Bool { state.withLock { $0.ended } }
  var mustStop: Bool { state.withLock { $0.stopReason != nil } }

  // MARK: running

  /// Runs to the end; call it once, on a `QueryThread`.
  func run() {
    let now = time.monotonic()
    let wall = time.microseconds()
    state.withLock { state in
      state.started = now
      state.lastOperation = now
      state.lastHeartbeat = now
      state.status.firstActive = wall
      state.status.lastActive = wall
    }
    do {
      try collect()
    } catch {
      raise(String(describing: error), log: true)
    }
    finish(session: state.withLock { $0.session })
  }

  private func collect() throws {
    if arguments.expiry > 0, arguments.expiry < time.microseconds() / 1_000_000 {
      return raise("Query expired.", log: true)
    }
    guard !arguments.query.isEmpty else { return raise("Query should be specified.", log: true) }
    let throttle = QueryThrottle(cpuPercent: cpuLimit, ioPerSecond: Double(arguments.iopsLimit))
    let session = try engine.makeSession(request(throttle))
    let isStopped = state.withLock { state in
      state.session = session
      return state.stopReason != nil
    }
    if isStopped { return }
    host.log("INFO:Starting query execution for \(name).\n", from: self)
    for note in throttle.notes { host.log("INFO:" + note, from: self) }
    if arguments.progressTimeout > 0, arguments.progressTimeout < 1e9 {
      host.log("query: Installing a progress alarm for \(seconds(arguments.progressTimeout))s\n", from: self)
    }
    let begun = time.monotonic()
    if !arguments.precondition.isEmpty, try !holds(arguments.precondition, session) {
      return host.log("INFO:\(name): Skipping query due to preconditions\n", from: self)
    }
    for (index, query) in arguments.query.enumerated() {
      if mustStop { break }
      try run(query, index, session)
    }
    host.log("INFO:Collection \(name) is done after \((time.monotonic() - begun).inWords)\n", from: self)
    finishUploads()
  }

  /// Files that are sent in the background belong to the query: its time-out and its cancellation are theirs.
  private func finishUploads() {
    let (status, uploads) = state.withLock { ($0.status, $0.uploads) }
    guard status.uploadedFiles > 0 else { return }
    let open = status.transactionsOutstanding
    let rest = open > 0 ? " with \(open) outstanding upload transactions." : "."
    host.log("\(name): Uploaded \(status.uploadedFiles) files\(rest)", from: self)
    uploads?.drain()
  }

  /// Percent of all cores; of its old name `ops_per_second` only 1 to 99 were ever meant so.
  private var cpuLimit: Double {
    if arguments.cpuLimit != 0 { return Double(arguments.cpuLimit) }
    return (1..<100).contains(arguments.opsPerSecond) ? Double(arguments.opsPerSecond) : 0
  }

  /// A number of seconds without needless zeros.
  private func seconds(_ value: Float) -> String { value == value.rounded() ? String(Int(value)) : String(value) }

  private func request(_ throttle: QueryThrottle) -> EngineRequest {
    var request = EngineRequest(
      sessionID: host.sessionID, log: { [weak self] text in self.map { $0.host.log(text, from: $0) } },
      operation: { [weak self] in
        self?.noteOperation()
        throttle.operation()
      })
    request.environment = arguments.env.map { ($0.key, $0.value) }
    request.artifacts = arguments.artifacts
    let uploads = host.uploads(for: self)
    state.withLock { $0.uploads = uploads }
    request.uploads = uploads
    return request
  }

  private func holds(_ precondition: String, _ session: any EngineSession) throws -> Bool {
    var isTrue = false
    do {
      try session.run(precondition) { _ in
        isTrue = true
        return false
      }
    } catch {
      throw AgentError(.request, "While evaluating preconditions: \(error)")
    }
    return isTrue
  }

  private func run(_ query: Proto_VQLRequest, _ index: Int, _ session: any EngineSession) throws {
    let limits = self.limits
    state.withLock { $0.statementName = query.name }
    output.withLock { output in
      output.builder = PartBuilder(limits: limits, at: time.monotonic())
      output.statement = index
    }
    // Rows that were produced are sent, however the statement ends.
    defer {
      output.withLock { output in
        send(output.builder?.take(at: time.monotonic()), query, &output)
        output.builder = nil
      }
    }
    try session.run(query.vql) { row in
      output.withLock { output in
        send(output.builder?.add(row, at: time.monotonic()), query, &output)
      }
      return !mustStop
    }
  }

  private var limits: PartBuilder.Limits {
    PartBuilder.Limits(
      rows: arguments.maxRow == 0 ? 10_000 : max(1, Int(clamping: arguments.maxRow)),
      bytes: arguments.maxRowBufferSize == 0
        ? 5_242_880 : min(Int(clamping: arguments.maxRowBufferSize), 32 << 20),
      wait: arguments.maxWait == 0 ? defaults.maxWait : .clamped(seconds: arguments.maxWait))
  }

  private func send(_ part: PartBuilder.Part?, _ query: Proto_VQLRequest, _ output: inout Output) {
    guard let part else { return }
    let startRow = output.sentRows[query.name, default: 0]
    output.sentRows[query.name] = startRow + part.rows
    let wall = time.microseconds()
    state.withLock { state in
      state.status.resultRows += Int64(part.rows)
      state.status.lastActive = wall
      if !query.name.isEmpty, !state.status.namesWithResponse.contains(query.name) {
        state.status.namesWithResponse.append(query.name)
      }
    }
    if !query.name.isEmpty {
      host.log(
        "DEFAULT:\(name): Time \(elapsed): \(query.name): Sending response part \(part.number) "
          + "\(ByteCount.text(part.jsonl.count)) (\(part.rows) rows).", from: self)
    }
    host.deliver(part, of: query, at: Place(statement: output.statement, startRow: startRow), from: self)
  }

  private var elapsed: Int64 {
    state.withLock { $0.started }.map { (time.monotonic() - $0).milliseconds / 1000 } ?? 0
  }

  private func finish(session: (any EngineSession)?) {
    session?.close()
    let now = time.monotonic()
    let wall = time.microseconds()
    state.withLock { state in
      state.ended = true
      state.session = nil
      state.uploads = nil
      settle(&state, now, wall)
    }
    host.collectorEnded(self)
  }

  private func settle(_ state: inout State, _ now: Instant, _ wall: UInt64) {
    if state.status.status == .progress { state.status.status = .ok }
    state.status.lastActive = wall
    if let started = state.started {
      state.status.duration = (now - started).wholeNanoseconds
    }
  }

  // MARK: errors and ends

  /// The first error becomes the status. It does not stop the query.
  func raise(_ message: String, log: Bool = false) {
    state.withLock { state in
      guard state.status.status != .genericError else { return }
      state.status.status = .genericError
      state.status.errorMessage = message
    }
    if log { host.log("ERROR:\(message)", from: self) }
  }

  /// Counts a line that the host took from this collector.
  func countLogLine() {
    state.withLock { $0.status.logRows += 1 }
  }

  func countUpload(files: Int64, bytes: Int64, expected: Int64) {
    state.withLock { state in
      state.status.uploadedFiles += files
      state.status.uploadedBytes += bytes
      state.status.expectedUploadedBytes += expected
    }
  }

  /// Uploads that are not complete.
  func countTransactions(_ change: Int64) {
    state.withLock { state in
      let open = Int64(clamping: state.status.transactionsOutstanding) + change
      state.status.transactionsOutstanding = UInt64(max(0, open))
    }
  }

  private func noteOperation() {
    let now = time.monotonic()
    state.withLock { $0.lastOperation = now }
  }

  /// Makes the collector end soon.
  ///
  /// - Parameter error: recorded when there was none before; nil when stopping is no fault.
  func stop(reason: String, error: String?) {
    if let error { raise(error) }
    let now = time.monotonic()
    let session = state.withLock { state -> (any EngineSession)? in
      guard state.stopReason == nil else { return nil }
      state.stopReason = reason
      state.stoppedAt = now
      return state.session
    }
    session?.cancel(reason: reason)
  }

  /// Ends a collector that never started, or one whose engine does not come back.
  func giveUp(error: String?) {
    if let error { raise(error) }
    let now = time.monotonic()
    let wall = time.microseconds()
    state.withLock { state in
      guard !state.ended else { return }
      state.ended = true
      settle(&state, now, wall)
    }
  }

  // MARK: time

  /// Looks at the clock: partial responses, time-outs, heartbeats.
  ///
  /// - Parameter timesOut: false for event queries, whose `timeout` is a refresh period.
  func tick(at now: Instant, timesOut: Bool = true) {
    guard let started = state.withLock({ $0.ended ? nil : $0.started }) else { return }
    // When a part is on its way already, the next tick is early enough.
    _ = output.withLockIfAvailable { output in
      guard let query = arguments.query.indices.contains(output.statement) ? arguments.query[output.statement] : nil
      else { return }
      send(output.builder?.due(at: now), query, &output)
    }
    if timesOut { checkTimeout(at: now, started) }
    checkProgress(at: now)
    beat(at: now)
  }

  private func checkTimeout(at now: Instant, _ started: Instant) {
    let timeout = arguments.timeout == 0 ? defaults.timeout : .clamped(seconds: arguments.timeout)
    guard now - started > timeout else { return }
    let isFirst = state.withLock { state in
      defer { state.timedOut = true }
      return !state.timedOut && state.stopReason == nil
    }
    guard isFirst else { return }
    let message = "Query timed out after \(timeout.milliseconds / 1000) seconds"
    raise(message, log: true)
    stop(reason: message, error: nil)
  }

  private func checkProgress(at now: Instant) {
    guard arguments.progressTimeout > 0, arguments.progressTimeout < 1e9, !mustStop,
      let last = state.withLock({ $0.lastOperation }), now - last > .seconds(Double(arguments.progressTimeout))
    else { return }
    let message = "No progress made in \(seconds(arguments.progressTimeout)) seconds! aborting."
    raise(message, log: true)
    stop(reason: message, error: nil)
  }

  private func beat(at now: Instant) {
    let period = arguments.heartbeat == 0 ? defaults.heartbeat : .clamped(seconds: arguments.heartbeat)
    let statement = state.withLock { state -> String? in
      guard let last = state.lastHeartbeat, now - last >= period, state.stopReason == nil else { return nil }
      state.lastHeartbeat = now
      return state.statementName
    }
    guard let statement else { return }
    host.log("DEFAULT:\(name): Time \(elapsed): \(statement): Waiting for rows.", from: self)
  }

  /// Whether the engine was told to stop that long ago and has not come back.
  func isStuck(at now: Instant, after grace: Duration) -> Bool {
    state.withLock { state in
      guard !state.ended, let stoppedAt = state.stoppedAt else { return false }
      return now - stoppedAt > grace
    }
  }
}
