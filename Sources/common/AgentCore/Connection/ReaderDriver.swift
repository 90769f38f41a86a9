import Logging
import Wire

/// Runs the reader's machine: check-ins out, jobs in (client.md §3).
package struct ReaderDriver: Sendable {
  /// What the reader needs from the rest of the agent.
  package struct Hooks: Sendable {
    /// The version of the running event table.
    package var eventTableVersion: @Sendable () -> UInt64
    /// The client info message, made anew at each use.
    package var clientInfo: @Sendable () -> Proto_VeloMessage?
    /// A job of an authenticated answer.
    package var dispatch: @Sendable (Proto_VeloMessage) -> Void
    /// The server said 406.
    package var enrol: @Sendable () -> Void
    /// The server sealed an answer.
    package var acknowledged: @Sendable () -> Void
  }

  let link: Link
  let settings: AgentSettings
  let clock: any AgentClock
  let log: Logger
  let hooks: Hooks

  /// Until cancelled.
  package func run() async throws {
    var loop = makeLoop()
    while true {
      _ = try await round(&loop)
    }
  }

  /// Rounds until the server lets us wait with nothing to give (`--once`).
  package func runUntilQuiet(quiet: Duration = .seconds(2), mostRounds: Int = 40) async throws {
    var loop = makeLoop()
    for _ in 0..<mostRounds where try await round(&loop, quiet: quiet) == nil { return }
    throw AgentError(.connection, "the server never accepted a check-in; see the lines above")
  }

  private func makeLoop() -> ReaderLoop {
    ReaderLoop(minPoll: settings.minPoll, maxPoll: settings.maxPoll, clientInfoInterval: settings.clientInfoInterval)
  }

  /// - Returns: nil when the answer stayed open for `quiet` after its headers.
  private func round(_ loop: inout ReaderLoop, quiet: Duration? = nil) async throws -> ExchangeResult? {
    while true {
      switch loop.next(at: clock.now) {
      case .wait(let until): try await clock.sleep(until: until)
      case .post(let clientInfo):
        let list = try checkIn(clientInfo: clientInfo)
        guard let result = try await post(list, quiet: quiet) else { return nil }
        loop.answered(result, at: clock.now)
        if result == .conflict, case .wait(let until) = loop.peek(at: clock.now) {
          log.info("The reader tries again in \((until - clock.now).inSeconds)")
        }
        handle(result)
        return result
      }
    }
  }

  private func checkIn(clientInfo: Bool) throws -> [UInt8] {
    var checkIn = Proto_VeloMessage()
    checkIn.sessionID = "E.Foreman"
    checkIn.foremanCheckin.lastEventTableVersion = hooks.eventTableVersion()
    var jobs = [checkIn]
    if clientInfo, let info = hooks.clientInfo() { jobs.append(info) }
    let plain = try MessageListCodec.serialize(jobs)
    return settings.compress ? try Zlib.deflate(plain) : plain
  }

  private func post(_ list: [UInt8], quiet: Duration?) async throws -> ExchangeResult? {
    guard let quiet else {
      return try await link.exchange(handler: "reader", lists: [list], compressed: settings.compress, urgent: false)
    }
    let headers = Doorbell()
    let link = link
    let settings = settings
    let clock = clock
    return try await withThrowingTaskGroup(of: ExchangeResult?.self) { group in
      group.addTask {
        try await link.exchange(
          handler: "reader", lists: [list], compressed: settings.compress, urgent: false,
          onHeaders: { if $0 == 200 { headers.ring() } })
      }
      group.addTask {
        await headers.wait(until: nil, clock: clock)
        try await clock.sleep(until: clock.now + quiet)
        return nil
      }
      defer { group.cancelAll() }
      return try await group.next() ?? nil
    }
  }

  private func handle(_ result: ExchangeResult) {
    switch result {
    case .sealed(let lists):
      hooks.acknowledged()
      JobDispatch.deliver(lists, to: hooks.dispatch, log: log)
    case .enrol: hooks.enrol()
    default: break
    }
  }
}

/// Takes jobs out of an authentic answer. What the peer wrote about its own authenticity is overwritten (wire.md §7).
enum JobDispatch {
  static func deliver(_ lists: [[UInt8]], to dispatch: (Proto_VeloMessage) -> Void, log: Logger) {
    for list in lists {
      do {
        for var job in try MessageListCodec.jobs(list) {
          job.authState = .authenticated
          job.source = ""
          job.orgID = ""
          dispatch(job)
        }
      } catch {
        log.error("A message list of the server cannot be parsed: \(error)")
      }
    }
  }
}
