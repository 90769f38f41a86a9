import Configuration
import Foundation
import Logging
import NIOCore
import Observability
import PublicIdentity
import Store
import WorkerLink

/// All that a frontend is made of, put together once.
struct Parts: Sendable {
  let store: any Store
  let link: WorkerLink
  /// Keeps the link's workers up to date.
  let workers: WorkerFollower
  /// The configuration names the workers, not the command line.
  let followsWorkers: Bool
  let certificates: CertificateWatcher
  let gate: HealthGate
  let metrics: FrontendMetrics
  let router: Router
  let tls: ServerTLS?
  /// Whose PROXY headers are demanded, if they are asked for.
  let proxies: TrustedProxies
  let connections = ConnectionRegistry()
  let reader: ReaderService
  let foreman: ForemanService
  private let logger: Logger

  /// - Parameters:
  ///   - endpoints: those of the command line; empty for those of the file.
  ///   - fail: ends the start with an exit code and a text.
  init(
    _ file: FrontendConfig, endpoints arguments: [String], logger: Logger,
    fail: (Int32, String) throws -> Never
  ) async throws {
    self.logger = logger
    let metrics = FrontendMetrics(MetricsRegistry())
    let limited = RateLimitedLog(logger: logger)
    self.metrics = metrics
    let directory: WorkerDirectory
    do {
      tls = try ServerTLS.make(file.frontend, file.client)
      directory = WorkerDirectory(
        try arguments.isEmpty ? file.cryptoWorkers.endpoints : arguments.map { try file.cryptoWorkers.endpoint($0) },
        isEncrypted: file.cryptoWorkers.curve != nil)
    } catch {
      try fail(78, "\(error)")
    }
    do {
      var options = StoreOptions()
      if file.client.isConcurrencySet { options.flowsInFlight = 2 + file.client.concurrency }
      options.leaseDuration = .seconds(file.defaults.inflightCheckTime)
      options.retention = Retention(file.datastore.retention)
      options.names = file.obfuscationNonce.map(ObfuscatedNames.init)
      switch file.datastore.implementation {
      case .sqlite: store = try await SQLiteStore.open(location: file.datastore.location, options: options)
      case .postgresql: store = try await PostgreSQLStore.open(url: file.datastore.location, options: options)
      }
    } catch {
      // A PostgreSQL URL may hold a password.
      let place = file.datastore.implementation == .sqlite ? " at \(file.datastore.location)" : ""
      try fail(71, "the \(file.datastore.implementation.rawValue) store\(place) cannot be opened: \(error)")
    }
    do {
      let curve = try file.cryptoWorkers.curve.map {
        try CurveKeys(publicKey: $0.publicKey, secretKey: $0.secretKey, peerPublicKeys: $0.peerPublicKeys)
      }
      link = try WorkerLink(endpoints: directory.workers, routingSecret: file.cryptoWorkers.routingSecret, curve: curve)
      {
        Self.note($0, logger, limited)
      }
    } catch {
      try fail(71, "the link to the crypto-workers cannot be set up: \(error)")
    }
    followsWorkers = arguments.isEmpty
    workers = WorkerFollower(directory, limited: limited) { [link] in link.setWorkers($0) }
    gate = HealthGate(logger: logger, metrics: metrics)
    let opener = BodyOpener(link: link, store: store, limited: limited)
    let enrollment = Enrollment(store: store, metrics: metrics, logger: logger)
    let decisions = Self.foreman(file)
    reader = ReaderService(
      opener: opener, store: store, metrics: metrics, limited: limited, maxPoll: file.client.maxPoll,
      pingWait: file.client.webSocketPingWait, board: StoreSeatBoard(store: store), foreman: decisions)
    foreman = ForemanService(
      foreman: decisions, store: store, registry: reader.registry, limited: limited,
      wakeRate: file.defaults.eventChangeNotifyAllClients ? file.frontend.resources.notificationsPerSecond : 0)
    let control = ControlService(
      opener: opener, store: store, enrollment: enrollment, metrics: metrics, limited: limited)
    proxies = TrustedProxies(
      header: file.frontend.proxyHeader,
      ranges: file.frontend.trustedProxies.compactMap(TrustedProxies.Range.init))
    router = Self.router(file, proxies, control, reader, gate, metrics, limited)
    certificates = CertificateWatcher(
      tls: tls, others: [.message(router), .authority(file.client.caCertificate)], logger: logger)
    for certificate in certificates.watched { certificate.register(metrics.registry) }
    if let tls {
      metrics.registry.gauge(
        "frontend_tls_certificate_expiry_seconds", "Seconds until the TLS certificate in use expires."
      ) { Double(tls.validity.upperBound) - Date().timeIntervalSince1970 }
    }
    let connections = connections
    metrics.registry.gauge("frontend_connections", "Open connections of agents and proxies.") {
      Double(connections.count)
    }
    let slots = router.slots
    metrics.registry.gauge("frontend_slots_free", "Bodies that could be worked on beside those that are.") {
      Double(slots.free)
    }
    metrics.registry.gauge("frontend_slots_waiting", "Bodies that wait for a slot: Frontend.resources.concurrency.") {
      Double(slots.waiting)
    }
    let link = link
    metrics.registry.gauge("worker_usable", "Crypto-workers that take requests.") {
      Double(link.snapshot.usableWorkers.count)
    }
    metrics.registry.gauge("worker_requests_in_flight", "Requests at crypto-workers.") {
      Double(link.snapshot.requestsInFlight)
    }
  }

  private static func foreman(_ file: FrontendConfig) -> Foreman {
    var tables = EventTableOptions()
    tables.maxWait = UInt64(clamping: file.defaults.eventMaxWait)
    tables.maxWaitJitter = UInt64(clamping: file.defaults.eventMaxWaitJitter)
    return Foreman(interrogationsPerSecond: file.frontend.resources.enrollmentsPerSecond, tables: tables)
  }

  private static func router(
    _ file: FrontendConfig, _ proxies: TrustedProxies, _ control: ControlService, _ reader: ReaderService,
    _ gate: HealthGate, _ metrics: FrontendMetrics, _ limited: RateLimitedLog
  ) -> Router {
    let resources = file.frontend.resources
    // Bodies wait for the disk, not for a CPU, so by default there are many more places than cores.
    let places =
      resources.concurrency > 0 ? resources.concurrency : 32 * ProcessInfo.processInfo.activeProcessorCount
    return Router(
      basePath: file.frontend.basePath, serverPEM: file.frontend.certificate,
      limits: BodyLimits(control: 2 * resources.maxUploadSize),
      slots: Slots(count: places, timeout: resources.concurrencyTimeout),
      proxies: proxies, control: control, reader: reader, gate: gate, metrics: metrics, limited: limited,
      webSocket: WebSocketLimits(pingWait: file.client.webSocketPingWait),
      uploads: UploadRates(perClient: resources.perClientUploadRate, global: resources.globalUploadRate))
  }

  private static func note(_ note: LinkStateMachine.Note, _ logger: Logger, _ limited: RateLimitedLog) {
    switch note {
    case .workerUp(let worker): logger.info("crypto-worker is up", metadata: ["worker": "\(worker)"])
    case .workerDown(let worker): logger.warning("crypto-worker is gone", metadata: ["worker": "\(worker)"])
    case .workerStalled(let worker):
      logger.warning("crypto-worker does not answer", metadata: ["worker": "\(worker)"])
    case .workerRemoved(let worker):
      logger.info("crypto-worker was taken out of the configuration", metadata: ["worker": "\(worker)"])
    case .unusable(let worker, let reason):
      logger.error("crypto-worker cannot be connected to: \(reason)", metadata: ["worker": "\(worker)"])
    case .workerDraining(let worker): logger.info("crypto-worker is leaving", metadata: ["worker": "\(worker)"])
    case .resent(_, let worker):
      limited.log(.info, "resent", "a request was sent to another crypto-worker", metadata: ["from": "\(worker)"])
    case .lateReply(let worker):
      limited.log(.debug, "late", "a late answer was ignored", metadata: ["worker": "\(worker)"])
    }
  }

  /// Acts on what other processes changed in the store, until cancelled.
  func followEvents() async {
    while !Task.isCancelled {
      do {
        let events = try await store.events()
        foreman.mayHaveMissed()
        for await event in events {
          switch event {
          case .tasksQueued(let client): reader.registry.signal(client)
          case .clientDeleted(let client):
            link.broadcast(.forget(source: client.description))
            reader.registry.end(client)
          // A client's id is a hash of its key: a stored key can only be the one that workers may have.
          case .keyChanged: break
          // `ReaderService.followBoard` listens for these.
          case .seatTaken: break
          case .foremanChanged(let org): foreman.changed(org: org)
          }
        }
      } catch {
        logger.warning("changes in the store cannot be followed: \(error)")
      }
      try? await Task.sleep(for: .seconds(1))
    }
  }

  /// Housekeeping of the store, until cancelled.
  func maintain() async {
    while !Task.isCancelled {
      do {
        while !Task.isCancelled {
          let report = try await store.maintain(now: .now())
          metrics.count(report.retention)
          guard report.hasMore else { break }
          // Others have their turn between two steps.
          try? await Task.sleep(for: .milliseconds(20))
        }
      } catch {
        logger.warning("housekeeping of the store failed: \(error)")
      }
      try? await Task.sleep(for: .seconds(5))
    }
  }

  /// The lame duck's walk: readers end at moments spread over the span, so that their agents do not all arrive elsewhere
  /// at once; requests in flight are finished; connections end with their next answer.
  func drain(over span: TimeAmount) async {
    let deadline = ContinuousClock.now + .nanoseconds(span.nanoseconds) + Self.grace
    connections.drain()
    reader.registry.endAll(over: span)
    while router.requests.current > 0 || link.snapshot.requestsInFlight > 0, ContinuousClock.now < deadline {
      try? await Task.sleep(for: .milliseconds(50))
    }
    if router.requests.current > 0 {
      logger.warning("requests were cut while stopping", metadata: ["count": "\(router.requests.current)"])
    }
    await connections.closeAll()
  }

  /// How much longer than the readers other requests may take.
  private static let grace = Duration.seconds(20)
}

extension Retention {
  init(_ section: RetentionSection) {
    func age(_ days: Int) -> Duration? { days > 0 ? .seconds(days * 86_400) : nil }
    self.init()
    monitoring = age(section.monitoringDays)
    flows = age(section.flowsDays)
    uploads = age(section.uploadsDays)
    logs = age(section.logsDays)
    audit = age(section.auditDays)
    maximumBytes = section.maxSizeMB > 0 ? Int64(section.maxSizeMB) << 20 : nil
  }
}
