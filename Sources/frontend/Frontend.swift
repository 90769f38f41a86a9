import ArgumentParser
import Configuration
import Foundation
import Logging
import NIOCore
import NIOPosix
import Observability
import PublicIdentity
import Store
import WorkerLink

/// The process that faces agents: TLS, HTTP and the store. It has no private key but that of its TLS certificate, and
/// cannot open a message by itself.
@main
struct Frontend: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "frontend",
    abstract: "Serves agents over HTTPS; crypto-workers open their messages, the store keeps them.",
    discussion: """
      Start as many as are needed, with the same file; agents know all their URLs.

      Exit codes: 0 after SIGTERM or SIGINT, 64 wrong arguments, 78 wrong configuration, 71 an address or the store \
      cannot be used.
      """)

  @Option(help: "The frontends' configuration file (mode 0600).")
  var config: String

  @Option(help: "Address to listen on. Default: Frontend.bind_address.")
  var bindAddress: String?

  @Option(help: "Port to listen on, 0 lets the system choose. Default: Frontend.bind_port.")
  var bindPort: Int?

  @Option(help: "A crypto-worker's endpoint; repeat for several. Default: CryptoWorkers.endpoints.")
  var worker: [String] = []

  @Option(help: "This frontend's name in logs.")
  var name = "frontend"

  @Option(help: "Port of /metrics and /healthz on Monitoring.bind_address; 0 lets the system choose.")
  var monitoringPort: Int?

  @Option(help: "How log lines are written: text or json.")
  var logFormat: LogFormat?

  @Option(help: "Seconds over which waiting readers are ended after SIGTERM.")
  var drainSeconds = 10

  @Flag(
    help: ArgumentHelp(
      "Demand a PROXY protocol header (version 1 or 2) on connections from Frontend.trusted_proxies.",
      discussion: "As Frontend.proxy_protocol in the file."))
  var proxyProtocol = false

  @Flag(name: .shortAndLong, help: "More log lines; twice for all.")
  var verbose: Int

  func validate() throws {
    guard (0...3600).contains(drainSeconds) else {
      throw ValidationError("--drain-seconds must be between 0 and 3600")
    }
    for port in [bindPort, monitoringPort] {
      if let port, !(0...65_535).contains(port) { throw ValidationError("a port must be between 0 and 65535") }
    }
  }

  func run() async throws {
    let shutdown = ShutdownSignal()
    let file: FrontendConfig
    do {
      file = try FrontendConfig.load(path: config)
    } catch {
      try fail(78, "\(error)")
    }
    Logs.bootstrap(
      format: logFormat ?? LogFormat(rawValue: file.logging.format ?? "") ?? .text,
      level: Logs.level(verbosity: verbose))
    let logger = Logger(label: name)
    if !CoreDumps.disable() { logger.warning("core dumps could not be switched off") }
    let files = OpenFiles.raiseLimit()
    logger.debug("open files", metadata: ["limit": "\(files)"])
    try await serve(file, logger, shutdown)
  }

  private func serve(_ file: FrontendConfig, _ logger: Logger, _ shutdown: ShutdownSignal) async throws {
    let parts = try await Parts(file, endpoints: worker, logger: logger, fail: fail)
    let group = MultiThreadedEventLoopGroup.singleton
    let demandsHeader = proxyProtocol || file.frontend.proxyProtocol
    if demandsHeader, file.frontend.trustedProxies.isEmpty {
      try fail(78, "--proxy-protocol needs the proxies' addresses, for example: trusted_proxies: [127.0.0.1/32]")
    }
    let server = FrontendServer(
      group: group,
      setup: ConnectionSetup(router: parts.router, tls: parts.tls, proxies: demandsHeader ? parts.proxies : nil),
      connections: parts.connections, connectionsPerSecond: file.frontend.resources.connectionsPerSecond)
    let address = bindAddress ?? file.frontend.bindAddress
    let port = bindPort ?? file.frontend.bindPort
    let channel: any Channel
    do {
      channel = try await server.start(address: address, port: port)
    } catch {
      try fail(71, "cannot listen on \(address):\(port): \(error)")
    }
    let monitoring = try await startMonitoring(file, parts, group, logger)
    let hangup = HangupSignal()
    let follower = ConfigFollower(
      path: config, inUse: file, followsWorkers: parts.followsWorkers, router: parts.router, tls: parts.tls,
      workers: parts.workers, logger: logger, isAsked: { hangup.take() })
    logger.info(
      "ready",
      metadata: [
        "address": "\(address):\(channel.localAddress?.port ?? port)", "tls": "\(parts.tls != nil)",
        "workers": "\(parts.link.snapshot.inFlight.keys.sorted().joined(separator: " "))",
        "base_path": "\(file.frontend.basePath)/",
      ])
    await withTaskGroup(of: Void.self) { tasks in
      tasks.addTask { await parts.gate.watch(parts.store) }
      tasks.addTask { await parts.followEvents() }
      tasks.addTask { await parts.maintain() }
      tasks.addTask { await parts.foreman.run() }
      tasks.addTask { await parts.reader.followBoard() }
      tasks.addTask { await parts.certificates.run() }
      tasks.addTask { await parts.workers.run() }
      tasks.addTask { await follower.run() }
      let signal = await shutdown.wait()
      logger.info("stopping", metadata: ["signal": "\(signal.map(String.init) ?? "none")"])
      parts.gate.stop()
      try? await channel.close()
      await parts.drain(over: .seconds(Int64(drainSeconds)))
      tasks.cancelAll()
    }
    await monitoring?.stop()
    parts.link.stop()
    await parts.store.close()
    logger.info("stopped")
  }

  private func startMonitoring(
    _ file: FrontendConfig, _ parts: Parts, _ group: any EventLoopGroup, _ logger: Logger
  ) async throws -> MetricsServer? {
    guard monitoringPort != nil || file.monitoring.bindPort > 0 else { return nil }
    let port = monitoringPort ?? file.monitoring.bindPort
    let gate = parts.gate
    let server = MetricsServer(registry: parts.metrics.registry) {
      Health(isHealthy: gate.state.isHealthy, detail: gate.state.isHealthy ? "ok" : gate.state.reason)
    }
    do {
      let bound = try await server.start(address: file.monitoring.bindAddress, port: port, group: group)
      logger.info("monitoring", metadata: ["address": "\(file.monitoring.bindAddress):\(bound)"])
      return server
    } catch {
      try fail(71, "cannot open the monitoring port \(file.monitoring.bindAddress):\(port): \(error)")
    }
  }

  /// Says what is wrong and ends the process with this exit code.
  private func fail(_ code: Int32, _ text: String) throws -> Never {
    StandardStream.error.write("\(name): \(text)\n")
    throw ExitCode(code)
  }
}

extension LogFormat: ExpressibleByArgument {}
