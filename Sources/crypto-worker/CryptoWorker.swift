import ArgumentParser
import Configuration
import Dispatch
import Envelope
import Foundation
import Logging
import Observability
import PKI
import PublicIdentity
import WorkerLink

/// The process that holds the server's RSA key. It opens and seals envelopes for frontends, and nothing else: it has no
/// database, and no port that faces the internet.
@main
struct CryptoWorker: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "crypto-worker",
    abstract: "Holds the server's private key and opens and seals message envelopes for frontends over ZeroMQ.",
    discussion: """
      Start as many as there are cores to give; list each one's endpoint under CryptoWorkers.endpoints of the \
      frontends' file.

      Exit codes: 0 after SIGTERM or SIGINT, 64 wrong arguments, 78 wrong configuration, 71 the endpoint cannot be used.
      """)

  @Option(help: "The crypto-worker's configuration file (mode 0600).")
  var config: String

  @Option(
    help: ArgumentHelp(
      "Endpoint to listen on: ipc:///path or tcp://address:port. Default: CryptoWorkers.bind_endpoint.",
      discussion: "Other addresses than loopback need CryptoWorkers.curve in the file."))
  var bind: String?

  @Option(help: "This worker's name in logs and metrics.")
  var name = "crypto-worker"

  @Option(help: "Port of /metrics and /healthz on Monitoring.bind_address; 0 lets the system choose.")
  var monitoringPort: Int?

  @Option(help: "Threads for RSA work. Default: one for each core.")
  var coldThreads: Int?

  @Option(
    help: ArgumentHelp(
      "File for the sessions when this worker stops; the next start reads it, so that a restart costs no RSA.",
      discussion: "Default: beside an ipc:// socket, with .sessions at its end; none for tcp://. Empty: none."))
  var snapshot: String?

  @Option(help: "Seconds that a stopping worker gives its frontends to move away.")
  var drainSeconds = 2

  @Option(help: "How log lines are written: text or json.")
  var logFormat: LogFormat?

  @Flag(name: .shortAndLong, help: "More log lines; twice for all.")
  var verbose: Int

  func validate() throws {
    if let coldThreads, !(1...1024).contains(coldThreads) {
      throw ValidationError("--cold-threads must be between 1 and 1024")
    }
    if !(0...600).contains(drainSeconds) { throw ValidationError("--drain-seconds must be between 0 and 600") }
    if let monitoringPort, !(0...65_535).contains(monitoringPort) {
      throw ValidationError("--monitoring-port must be between 0 and 65535")
    }
  }

  func run() async throws {
    let shutdown = ShutdownSignal()
    let (settings, endpoint, curve, file) = try load()
    Logs.bootstrap(
      format: logFormat ?? LogFormat(rawValue: file.logging.format ?? "") ?? .text,
      level: Logs.level(verbosity: verbose))
    let logger = Logger(label: name)
    if !CoreDumps.disable() { logger.warning("core dumps could not be switched off") }
    let metrics = CryptoMetrics(MetricsRegistry())
    let threads = coldThreads ?? max(1, ProcessInfo.processInfo.activeProcessorCount)
    let lane = ColdLane(threads: threads, limit: settings.coldLimit)
    let service = CryptoService(settings: settings, cold: lane, metrics: metrics)
    metrics.registry.gauge("cipher_lru_total_size", "Clients in the session cache.") {
      Double(service.health().sessions)
    }
    metrics.registry.gauge("worker_cold_depth", "Requests that wait for RSA.") { Double(lane.depth) }
    metrics.registry.gauge("worker_cold_limit", "Requests that may wait for RSA; more are refused.") {
      Double(lane.limit)
    }

    let hangup = HangupSignal()
    let follower = WorkerFileFollower(
      path: config, inUse: file, service: service, registry: metrics.registry, logger: logger,
      isAsked: { hangup.take() })
    let following = Task { await follower.run() }
    defer { following.cancel() }
    let limited = RateLimitedLog(logger: logger)
    MemoryLock.lock(logger)
    let sessions = SnapshotFile(path: snapshotPath(endpoint), logger: logger)
    sessions.restore(into: service)
    let server: WorkerServer
    do {
      server = try WorkerServer(
        endpoint: endpoint, curve: curve, notes: { Self.note($0, logger, limited, metrics) }
      ) {
        request, header, respond in service.handle(request, patience: header.milliseconds) { respond($0) }
      }
    } catch {
      logger.error("cannot listen on \(endpoint): \(error)")
      throw ExitCode(71)
    }
    let monitoring = try await startMonitoring(file, metrics, service, logger)
    logger.info(
      "ready",
      metadata: [
        "endpoint": "\(server.endpoint)", "sessions": "\(settings.expectedClients)", "cold_threads": "\(threads)",
        "orgs": "\(settings.keyring.orgs.count)",
      ])
    let signal = await shutdown.wait()
    logger.info("stopping", metadata: ["signal": "\(signal.map(String.init) ?? "none")"])
    service.drain()
    server.announce(.health(service.health()))
    // Frontends move away at the announcement; what they had sent before is still answered.
    try? await Task.sleep(for: .seconds(drainSeconds))
    lane.stop()
    server.stop()
    sessions.save(service)
    await monitoring?.stop()
    logger.info("stopped")
  }

  private func snapshotPath(_ endpoint: String) -> String? {
    if let snapshot { return snapshot.isEmpty ? nil : snapshot }
    guard endpoint.hasPrefix("ipc://") else { return nil }
    return String(endpoint.dropFirst("ipc://".count)) + ".sessions"
  }

  private func load() throws -> (CryptoService.Settings, String, CurveKeys?, WorkerConfig) {
    do {
      let file = try WorkerConfig.load(path: config)
      let isEncrypted = file.curve != nil
      guard let endpoint = try bind.map({ try WorkerEndpoint($0, isEncrypted: isEncrypted) }) ?? file.bindEndpoint
      else {
        throw CleanExit.message("")
      }
      let curve = try file.curve.map {
        try CurveKeys(publicKey: $0.publicKey, secretKey: $0.secretKey, peerPublicKeys: $0.peerPublicKeys)
      }
      var settings = CryptoService.Settings(
        name: name, serverName: file.pinnedServerName, keyring: try Keyring(file, path: config),
        expectedClients: file.resources.expectedClients)
      settings.unwrapsPerSecond = file.resources.enrollmentsPerSecond
      return (settings, endpoint.description, curve, file)
    } catch is CleanExit {
      Self.fail("\(config): CryptoWorkers.bind_endpoint: expected an endpoint here or with --bind, found none")
    } catch let error as CurveKeys.Failure {
      Self.fail("\(config): CryptoWorkers.curve: \(error)")
    } catch let error as WorkerEndpoint.Failure {
      Self.fail("--bind: \(error)")
    } catch {
      Self.fail("\(error)")
    }
    throw ExitCode(78)
  }

  private static func fail(_ text: String) {
    StandardStream.error.write("crypto-worker: \(text)\n")
  }

  private func startMonitoring(
    _ file: WorkerConfig, _ metrics: CryptoMetrics, _ service: CryptoService, _ logger: Logger
  ) async throws -> MetricsServer? {
    let port = monitoringPort ?? file.monitoring.bindPort
    guard monitoringPort != nil || port > 0 else { return nil }
    let server = MetricsServer(registry: metrics.registry) {
      service.health().draining ? Health(isHealthy: false, detail: "draining") : .ok
    }
    do {
      let bound = try await server.start(address: file.monitoring.bindAddress, port: port)
      logger.info("monitoring", metadata: ["address": "\(file.monitoring.bindAddress):\(bound)"])
      return server
    } catch {
      logger.error("cannot open the monitoring port \(file.monitoring.bindAddress):\(port): \(error)")
      throw ExitCode(71)
    }
  }

  private static func note(
    _ note: WorkerServer.Note, _ logger: Logger, _ limited: RateLimitedLog, _ metrics: CryptoMetrics
  ) {
    switch note {
    case .frontendConnected: logger.info("frontend connected")
    case .frontendDisconnected: logger.info("frontend disconnected")
    case .handshakeFailed:
      metrics.linkErrors.increment()
      limited.warning(
        "handshake",
        "a peer on the ZeroMQ endpoint did not speak ZeroMQ, or not with the CURVE keys of this file; only frontends "
          + "may reach it")
    case .unknownKey:
      metrics.linkErrors.increment()
      limited.warning(
        "key", "a peer was refused: its CURVE key is not among CryptoWorkers.curve.peer_public_keys of this worker")
    case .badMessage(let error):
      metrics.linkErrors.increment()
      limited.warning("message", "a ZeroMQ message was refused: \(error)")
    case .answerDropped:
      metrics.linkErrors.increment()
      limited.warning("answer", "an answer was dropped: its frontend has gone")
    }
  }
}

extension LogFormat: ExpressibleByArgument {}
