import Dispatch
import FoundationEssentials
import Logging
import Synchronization
import Wire

/// Executes the jobs of authenticated answers (client.md §6).
package final class Executor: Sendable {
  /// What the executor does to the rest of the agent.
  package struct Hooks: Sendable {
    /// KillKillKill: the process is to end with status 255 in a while.
    package var restart: @Sendable () -> Void = {}
    /// A new event table is running.
    package var eventTable: @Sendable (Proto_VQLEventTable) -> Void = { _ in }
    package init() {}
  }

  private struct State {
    var flows: [String: Flow] = [:]
    var isStopping = false
    var idleWaiters: [CheckedContinuation<Void, Never>] = []
  }

  private let dependencies: Flow.Dependencies
  private let journal: FlowJournal
  private let events: EventTable
  private let log: Logger
  private let hooks: Hooks
  private let state = Mutex(State())

  /// - Parameter journalPath: where running and finished flows are remembered; nil: in memory.
  package init(
    engine: any CollectorEngine, outbox: any Outbox, settings: AgentSettings, time: Timekeeper = .system,
    journalPath: String? = nil, log: Logger, hooks: Hooks = Hooks()
  ) {
    dependencies = Flow.Dependencies(
      engine: engine, outbox: outbox, time: time, slots: SlotGate(places: settings.concurrency), settings: settings)
    journal = FlowJournal(path: journalPath, log: log)
    events = EventTable(
      engine: engine, outbox: outbox, time: time, settings: settings, log: log, changed: hooks.eventTable)
    self.log = log
    self.hooks = hooks
  }

  /// Reports flows that died with the last process and starts the saved event table.
  package func start(savedTable: Proto_VQLEventTable?) {
    for id in journal.takeLost() {
      log.warning("Flow \(id) was running when the agent ended; reporting it as failed")
      let stats = ResponseMessages.ended(.genericError, "The agent was restarted while this flow was running")
      journal.finished(id, stats)
      send(ResponseMessages.stats(stats, session: id))
    }
    if let savedTable { events.restore(savedTable) }
  }

  package var eventTableVersion: UInt64 { events.version }

  /// Ids of flows that run or wait.
  package var running: [String] { state.withLock { Array($0.flows.keys) } }

  /// Returns when no flow runs or waits.
  package func waitUntilIdle() async {
    await withCheckedContinuation { continuation in
      let isIdle = state.withLock { state in
        if state.flows.isEmpty { return true }
        state.idleWaiters.append(continuation)
        return false
      }
      if isIdle { continuation.resume() }
    }
  }

  /// Ends all queries; their last words are put into the queue.
  package func stop() async {
    let flows = state.withLock { state in
      state.isStopping = true
      return Array(state.flows.values)
    }
    for flow in flows { flow.cancel(error: "The agent is stopping") }
    let events = events
    await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        events.stop()
        continuation.resume()
      }
    }
    // A query that does not obey must not keep the process; the journal reports its flow at the next start.
    for _ in 0..<500 where !running.isEmpty {
      guard (try? await Task.sleep(for: .milliseconds(20))) != nil else { return }
    }
  }

  // MARK: dispatch

  /// Executes one job. Does not block. The caller vouches for its authenticity.
  package func handle(_ job: Proto_VeloMessage) {
    guard job.authState == .authenticated else { return }
    let id = job.sessionID
    if job.hasVqlclientAction, !job.hasFlowRequest { return }
    if job.hasCancel { return cancel(id) }
    if job.hasFlowRequest { return start(id, job.flowRequest, isUrgent: job.urgent) }
    if job.hasResumeTransactions { return resume(job) }
    if job.hasUpdateEventTable { return events.update(job.updateEventTable) }
    if job.hasUpdateForeman { return }
    if job.hasFlowStatsRequest { return job.flowStatsRequest.flowID.prefix(1000).forEach(answerStatus) }
    if job.hasKillKillKill {
      log.warning("The server asks this agent to restart")
      hooks.restart()
    }
    unsupported(job)
  }

  private func unsupported(_ job: Proto_VeloMessage) {
    let kind = job.hasKillKillKill ? "KillKillKill" : "unknown"
    log.warning("Unsupported payload (\(kind)) in session \(job.sessionID)")
    let text = "Unsupported payload for message: session_id \(job.sessionID), \(kind)"
    send(ResponseMessages.line("ERROR", text, session: job.sessionID, seconds: seconds))
  }

  private var seconds: UInt64 { dependencies.time.microseconds() / 1_000_000 }

  private func cancel(_ id: String) {
    guard id != "F.Monitoring" else { return }
    log.info("Cancelling flow \(id)")
    dependencies.outbox.dropRows(ofFlow: id)
    state.withLock { $0.flows[id] }?.cancel()
  }

  private func start(_ id: String, _ request: Proto_FlowRequest, isUrgent: Bool) {
    guard Self.isUsable(id) else { return }
    if journal.stats(of: id) != nil { return answerStatus(id) }
    launch(Flow(id: id, isUrgent: isUrgent, request: request, dependencies: dependencies), request)
  }

  /// Uploads of a flow that is over go on (client.md §6.4).
  private func resume(_ job: Proto_VeloMessage) {
    let message = job.resumeTransactions
    let id = message.flowID.isEmpty ? job.sessionID : message.flowID
    guard Self.isUsable(id) else { return }
    let resumed = ResumedUploads(message)
    var dependencies = dependencies
    dependencies.engine = resumed.engine
    dependencies.outbox.keepRows(ofFlow: id)
    launch(
      Flow(
        id: id, isUrgent: job.urgent, request: resumed.request, dependencies: dependencies, previous: resumed.previous),
      resumed.request)
  }

  private static func isUsable(_ id: String) -> Bool { !id.isEmpty && id.utf8.count <= 256 }

  /// Runs a flow, unless one of its name runs already.
  private func launch(_ flow: Flow, _ request: Proto_FlowRequest) {
    let id = flow.sessionID
    let (isNew, isStopping) = state.withLock { state in
      guard !state.isStopping, state.flows[id] == nil else { return (false, state.isStopping) }
      state.flows[id] = flow
      return (true, false)
    }
    guard isNew else {
      flow.release()
      // When stopping, the server learns from the next start that the flow is not known.
      if !isStopping { answerStatus(id) }
      return
    }
    log.info("Running flow \(id) with \(request.vqlclientActions.count) collectors")
    journal.started(id)
    if !flow.isUrgent { dependencies.slots.join(id) }
    QueryThread.start("flow \(id)", stackSize: 1 << 20) { [self] in
      flow.supervise()
      ended(flow)
    }
  }

  private func ended(_ flow: Flow) {
    let id = flow.sessionID
    journal.finished(id, flow.stats)
    flow.release()
    log.info("Flow \(id) is complete")
    let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
      state.flows[id] = nil
      guard state.flows.isEmpty else { return [] }
      defer { state.idleWaiters = [] }
      return state.idleWaiters
    }
    for waiter in waiters { waiter.resume() }
  }

  /// Running, one of the last 20, or unknown (client.md §6.3).
  private func answerStatus(_ id: String) {
    let stats =
      state.withLock { $0.flows[id] }?.stats ?? journal.stats(of: id)
      ?? ResponseMessages.ended(.unknownFlow, "Flow not known - maybe the client crashed?")
    var message = ResponseMessages.stats(stats, session: id)
    message.urgent = true
    dependencies.outbox.sendUrgent(message)
  }

  /// From a task: must not block, however full the queue is.
  private func send(_ message: Proto_VeloMessage) {
    dependencies.outbox.send(message, isAbandoned: { true })
  }
}
