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
    /// Whether pages that only the start needed are given back after the first answer; for a process that is an agent.
    package var releasesStartupMemory = false

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
  private let isSettled = Atomic(false)
  private let stopBell: Doorbell
  private let restartBell: Doorbell

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
      "Agent \(clientID) starts", metadata: ["servers": "\(settings.serverURLs.joined(separator: " "))"])
    let nanny = makeNanny()
    nanny.start()
    defer { nanny.stop() }
    await lookUpFacts()
    executor.start(savedTable: writeback.current.eventTable)
    let link = makeLink(once: once)
    let sender = SenderDriver(
      link: link, queue: queue, settings: settings, clock: parts.clock, log: log,
      dispatch: { [executor] in executor.handle($0) }, enrol: { [weak self] in self?.enrol() })
    let reader = ReaderDriver(
      link: link, settings: settings, clock: parts.clock, log: log, hooks: readerHooks(sender))
    let senderFailed = Doorbell()
    let sending = Task {
      defer { senderFailed.ring() }
      try await sender.run()
    }
    let result = await race(reader, sender, sending, senderFailed, once: once)
    await leave(sender, sending)
    return try result.get()
  }

  /// The first thing that ends the agent.
  private func race(
    _ reader: ReaderDriver, _ sender: SenderDriver, _ sending: Task<Void, any Error>, _ senderFailed: Doorbell,
    once: Bool
  ) async -> Result<End, any Error> {
    await withThrowingTaskGroup(of: End.self) { group in
      group.addTask { [executor, parts] in
        guard once else {
          try await reader.run()
          return .stopped
        }
        try await reader.runUntilQuiet()
        await executor.waitUntilIdle()
        while await !sender.isDrained { try await parts.clock.sleep(until: parts.clock.now + .milliseconds(50)) }
        return .done
      }
      group.addTask { [parts] in
        await senderFailed.wait(until: nil, clock: parts.clock)
        try Task.checkCancellation()
        try await sending.value
        return .stopped
      }
      group.addTask { [stopBell, parts] in
        await stopBell.wait(until: nil, clock: parts.clock)
        return .stopped
      }
      group.addTask { [restartBell, parts] in
        await restartBell.wait(until: nil, clock: parts.clock)
        // The delay lets acknowledgements out.
        try await parts.clock.sleep(until: parts.clock.now + parts.restartDelay)
        return .restart
      }
      let first = await group.nextResult()
      group.cancelAll()
      return first ?? .success(.stopped)
    }
  }

  private func leave(_ sender: SenderDriver, _ sending: Task<Void, any Error>) async {
    await executor.stop()
    let deadline = parts.clock.now + Self.farewell
    while await !sender.isDrained, parts.clock.now < deadline {
      guard (try? await parts.clock.sleep(until: parts.clock.now + .milliseconds(20))) != nil else { break }
    }
    sending.cancel()
    _ = await sending.result
    queue.close()
    await parts.transport.close()
    log.info("Agent \(clientID) has stopped", metadata: ["unsent_bytes": "\(queue.bulkBytes)"])
  }

  // MARK: parts

  /// Watches the memory; the reason of the last end by it is reported first.
  private func makeNanny() -> NannyThread {
    let path = settings.writebackPath + ".nanny"
    if let reason = NannyThread.takeReason(path) { log.warning("The nanny ended the last agent: \(reason)") }
    return NannyThread(
      nanny: Nanny(longestSilence: nil, memoryLimit: settings.memoryLimit), reasonPath: path, log: log,
      end: { [restartBell] in restartBell.ring() })
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
      patience: once ? 3 : nil)
  }

  private func readerHooks(_ sender: SenderDriver) -> ReaderDriver.Hooks {
    ReaderDriver.Hooks(
      eventTableVersion: { [executor] in executor.eventTableVersion },
      clientInfo: { [weak self] in self?.clientInfo() },
      dispatch: { [executor] in executor.handle($0) },
      enrol: { [weak self] in self?.enrol() },
      acknowledged: { [weak self] in
        self?.firstAcknowledgement()
        Task { await sender.serverAcknowledged() }
      })
  }

  /// Start-up is over once a server has answered: most of its memory is never needed again.
  private func firstAcknowledgement() {
    guard parts.releasesStartupMemory, !isSettled.exchange(true, ordering: .relaxed) else { return }
    StartupMemory.release()
  }

  private func clientInfo() -> Proto_VeloMessage {
    var random = SystemRandomNumberGenerator()
    return ClientInfo.message(
      settings: settings, facts: facts.withLock { $0 }, installTime: writeback.current.installTime,
      queryID: UInt64.random(in: 1...UInt64(Int64.max), using: &random))
  }

  /// The resolver may be slow where it is broken: the first check-in waits a second for it, no longer.
  private func lookUpFacts() async {
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
