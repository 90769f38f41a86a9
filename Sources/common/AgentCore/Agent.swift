import Dispatch
import FoundationEssentials
import Glibc
import Logging
import PKI
import Synchronization
import Wire

/// The whole agent: state, queue, executor and the two loops (client.md §2).
package final class Agent: Sendable {
  /// Why `run` returned.
  package enum End: Equatable, Sendable {
    /// `stop` was called.
    case stopped
    /// `--once`: everything that waited was run and delivered.
    case done
    /// The server asked for a restart: the process ends with status 255 (client.md §6.6).
    case restart
  }

  /// What tests put in the place of the real parts.
  package struct Parts: Sendable {
    package var transport: any Transport
    package var clock: any AgentClock = SystemAgentClock()
    package var random = RandomSource()
    package var restartDelay: Duration = .seconds(10)
    /// Known already, so that the resolver need not be asked.
    package var facts: HostFacts?
    /// Whether pages that only the start or a query needed are given back; for a process that is an agent.
    package var releasesIdleMemory = false
    /// Ends the process when it cannot end by itself.
    package var exitProcess: @Sendable (Int32) -> Void = { _exit($0) }

    package init(transport: any Transport) {
      self.transport = transport
    }
  }

  /// How long the last words may take to leave when the agent stops. What does not leave stays in the queue.
  static let farewell: Duration = .seconds(2)

  private let settings: AgentSettings
  private let parts: Parts
  private let log: Logger
  private let writeback: Writeback
  private let queue: OutboundQueue
  private let executor: Executor
  private let session: ServerTrust
  private let facts = Mutex(HostFacts())
  private let enroller = Mutex(Enroller())
  private let stopBell: Doorbell
  private let restartBell: Doorbell
  /// Rung by the nanny: a loop is stuck.
  private let loopsBell: Doorbell
  let nanny: NannyThread

  package var clientID: String { writeback.clientID }

  /// Opens the agent's files. Nothing runs before `run`.
  ///
  /// - Parameter engine: makes the query engine, given the time of the first start in Unix seconds.
  /// - Throws: what keeps the agent from starting, in words for an operator.
  package init(
    settings: AgentSettings, engine: (UInt64) -> any CollectorEngine, parts: Parts, log: Logger
  ) throws(AgentError) {
    guard !settings.serverURLs.isEmpty else {
      throw AgentError(.configuration, "Client.server_urls is empty; name at least one https:// URL ending in /")
    }
    for url in settings.serverURLs { _ = try BaseURL(url) }
    self.settings = settings
    self.parts = parts
    self.log = log
    let writeback = try Writeback.open(path: settings.writebackPath, suffix: settings.writebackSuffix, log: log)
    self.writeback = writeback
    session = try ServerTrust(settings: settings, privateKey: writeback.privateKey)
    queue = try OutboundQueue.open(settings, log: log)
    let restartBell = Doorbell()
    self.restartBell = restartBell
    stopBell = Doorbell()
    let loopsBell = Doorbell()
    self.loopsBell = loopsBell
    nanny = Self.makeNanny(
      settings, parts, log, restartLoops: { loopsBell.ring() }, restart: { restartBell.ring() })
    var hooks = Executor.Hooks()
    hooks.restart = { restartBell.ring() }
    hooks.eventTable = { table in
      do throws(AgentError) {
        try writeback.remember(eventTable: table)
      } catch {
        log.error("The event table cannot be saved: \(error)")
      }
    }
    executor = Executor(
      engine: engine(writeback.current.installTime), outbox: queue, settings: settings,
      journalPath: settings.writebackPath + ".flows", log: log,
      hooks: hooks)
  }

  /// Makes `run` return soon; nothing that was collected is lost.
  package func stop() { stopBell.ring() }

  /// Runs until stopped.
  ///
  /// - Parameter once: leave when everything that waited was run and delivered.
  /// - Throws: in `once`, when no server can be reached or the agent is not accepted.
  package func run(once: Bool = false) async throws -> End {
    log.info(
      "Agent \(clientID) starts",
      metadata: ["servers": "\(settings.serverURLs.joined(separator: " "))", "proxy": "\(proxiesInUse)"])
    if let reason = NannyThread.takeReason(Self.reasonPath(settings)) {
      log.warning("The nanny ended the last agent: \(reason)")
    }
    nanny.start()
    defer { nanny.stop() }
    await lookUpFacts()
    executor.start(savedTable: writeback.current.eventTable)
    while true {
      let loops = AgentLoops.start(
        settings: settings, clock: parts.clock, pulse: nanny.pulse, queue: queue, link: makeLink(once: once), log: log,
        hooks: { [self] in readerHooks($0) })
      let end = await loops.run { [self] first in
        watch(first)
      } untilDone: { [self] reader in
        guard once else { return try await reader.run() }
        try await reader.runUntilQuiet()
        await executor.waitUntilIdle()
        while await !loops.sender.isDrained {
          try await parts.clock.sleep(until: parts.clock.now + .milliseconds(50))
        }
      }
      guard let end else {
        log.warning("Starting the reader and the sender anew")
        continue
      }
      await leave(loops)
      return try end.get()
    }
  }

  /// What else may end the loops.
  private func watch(_ first: FirstOutcome) -> [Task<Void, Never>] {
    let parts = parts
    let (stopBell, restartBell, loopsBell) = (stopBell, restartBell, loopsBell)
    return [
      Task {
        await stopBell.wait(until: nil, clock: parts.clock)
        if !Task.isCancelled { first.set(.success(.stopped)) }
      },
      Task {
        await restartBell.wait(until: nil, clock: parts.clock)
        // The delay lets acknowledgements out.
        guard !Task.isCancelled,
          (try? await parts.clock.sleep(until: parts.clock.now + parts.restartDelay)) != nil
        else { return }
        first.set(.success(.restart))
      },
      Task {
        await loopsBell.wait(until: nil, clock: parts.clock)
        if !Task.isCancelled { first.set(nil) }
      },
      Task { [weak self] in await self?.releaseMemory() },
    ]
  }

  private func leave(_ loops: AgentLoops) async {
    await executor.stop()
    let deadline = parts.clock.now + Self.farewell
    while await !loops.sender.isDrained, parts.clock.now < deadline {
      guard (try? await parts.clock.sleep(until: parts.clock.now + .milliseconds(20))) != nil else { break }
    }
    await loops.end()
    queue.close()
    await parts.transport.close()
    log.info("Agent \(clientID) has stopped", metadata: ["unsent_bytes": "\(queue.bulkBytes)"])
  }

  /// For the log: which proxy leads to which server.
  private var proxiesInUse: String {
    let used = settings.serverURLs.compactMap { text -> String? in
      guard let url = try? BaseURL(text), let proxy = settings.proxies.proxy(for: url) else { return nil }
      return "\(proxy) for \(text)"
    }
    return used.isEmpty ? "none" : used.joined(separator: ", ")
  }

  // MARK: parts

  private static func reasonPath(_ settings: AgentSettings) -> String { settings.writebackPath + ".nanny" }

  /// Watches the loops and the memory. The agent is asked to end; one that cannot is ended.
  private static func makeNanny(
    _ settings: AgentSettings, _ parts: Parts, _ log: Logger, restartLoops: @escaping @Sendable () -> Void,
    restart: @escaping @Sendable () -> Void
  ) -> NannyThread {
    NannyThread(
      nanny: Nanny(longestSilence: settings.longestSilence, memoryLimit: settings.memoryLimit),
      reasonPath: reasonPath(settings), log: log, clock: parts.clock, restart: restartLoops,
      end: {
        restart()
        QueryThread.start("nanny exit", stackSize: 256 << 10) {
          ThreadSignal().wait(atMost: Double((parts.restartDelay + .seconds(20)).milliseconds) / 1000)
          parts.exitProcess(255)
        }
      })
  }

  private func makeLink(once: Bool) -> Link {
    var events = Link.Events()
    events.serverPEM = { [writeback, log] pem in
      do throws(AgentError) {
        try writeback.remember(serverPEM: pem)
      } catch {
        log.error("server.pem cannot be saved: \(error)")
      }
    }
    return Link(
      connector: Connector(urls: settings.serverURLs, policy: settings.backOff, random: parts.random),
      session: session, transport: parts.transport, clock: parts.clock, log: log, events: events,
      pulse: nanny.pulse, patience: once ? 3 : nil)
  }

  private func readerHooks(_ sender: SenderDriver) -> ReaderDriver.Hooks {
    ReaderDriver.Hooks(
      eventTableVersion: { [executor] in executor.eventTableVersion },
      clientInfo: { [weak self] in self?.clientInfo() },
      dispatch: { [executor] in executor.handle($0) },
      enrol: { [weak self] in self?.enrol() },
      acknowledged: {
        Task { await sender.serverAcknowledged() }
      })
  }

  private func releaseMemory() async {
    let memory = IdleMemory()
    while parts.releasesIdleMemory,
      (try? await parts.clock.sleep(until: parts.clock.now + IdleMemory.interval)) != nil
    {
      memory.release()
    }
  }

  private func clientInfo() -> Proto_VeloMessage {
    var random = SystemRandomNumberGenerator()
    return ClientInfo.message(
      settings: settings, facts: facts.withLock { $0 }, installTime: writeback.current.installTime,
      queryID: UInt64.random(in: 1...UInt64(Int64.max), using: &random))
  }

  /// The resolver may be slow where it is broken: the first check-in waits a second for it, no longer.
  private func lookUpFacts() async {
    if let known = parts.facts { return facts.withLock { $0 = known } }
    let bell = Doorbell()
    DispatchQueue.global().async { [weak self] in
      let found = HostFacts.current()
      self?.facts.withLock { $0 = found }
      bell.ring()
    }
    await bell.wait(until: parts.clock.now + .seconds(1), clock: parts.clock)
  }

  /// The server does not know our key (client.md §2.3).
  private func enrol() {
    let now = parts.clock.now
    guard enroller.withLock({ $0.pleaseEnrol(at: now) }) else { return }
    log.info("Enrolling: the server does not know this agent's key")
    do {
      var message = Proto_VeloMessage()
      message.sessionID = "E:Enrol"
      message.urgent = true
      message.csr.type = .csr
      message.csr.pem = Data(try CertificateRequestBuilder.pem(for: writeback.privateKey).utf8)
      try queue.appendUrgent(message, kind: .enrolment)
      log.info("Sending CSR for \(clientID)")
    } catch {
      log.error("The certificate request cannot be made: \(error)")
    }
  }
}
