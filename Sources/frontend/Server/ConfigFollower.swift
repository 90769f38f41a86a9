import Configuration
import Logging
import Observability

/// Reads the frontend's file again when it changes or SIGHUP comes, and takes up what can change while running: the
/// message certificate of `/server.pem`, a TLS certificate in the file, and the list of crypto-workers.
struct ConfigFollower: Sendable {
  static let interval = Duration.seconds(3)
  /// A new message certificate waits for this many looks: crypto-workers, which look as often, have its key by then.
  private static let patience = 2

  let path: String
  /// The file's content that is in use.
  var inUse: FrontendConfig
  /// Whether the list of workers is the file's, and not the command line's.
  let followsWorkers: Bool
  let router: Router
  let tls: ServerTLS?
  let workers: WorkerFollower
  let logger: Logger
  /// Whether the file is to be read again although it looks the same.
  let isAsked: @Sendable () -> Bool
  /// A message certificate that will be served, and after how many looks.
  private var pending: (certificate: String, looks: Int)?

  init(
    path: String, inUse: FrontendConfig, followsWorkers: Bool, router: Router, tls: ServerTLS?, workers: WorkerFollower,
    logger: Logger, isAsked: @escaping @Sendable () -> Bool
  ) {
    self.path = path
    self.inUse = inUse
    self.followsWorkers = followsWorkers
    self.router = router
    self.tls = tls
    self.workers = workers
    self.logger = logger
    self.isAsked = isAsked
  }

  /// Looks at the file until cancelled.
  func run(every interval: Duration = Self.interval) async {
    var copy = self
    var changes = FileChanges([path])
    while !Task.isCancelled {
      let (hasChanged, isAsked) = (changes.look(), isAsked())
      if hasChanged || isAsked { copy.reload() }
      copy.serveWhatIsDue()
      try? await Task.sleep(for: interval)
    }
  }

  /// Takes up what the file says now; a wrong file changes nothing.
  mutating func reload() {
    let new: FrontendConfig
    do throws(ConfigurationError) {
      new = try FrontendConfig.load(path: path)
    } catch {
      return logger.error("the changed configuration is not used: \(error)")
    }
    if new.frontend.certificate != inUse.frontend.certificate {
      pending = (new.frontend.certificate, Self.patience)
    }
    takeUpTLS(new)
    if followsWorkers, new.cryptoWorkers.endpoints != inUse.cryptoWorkers.endpoints {
      workers.configure(new.cryptoWorkers.endpoints)
      logger.notice("the list of crypto-workers has changed")
    }
    if rest(of: new) != rest(of: inUse) {
      logger.notice("other settings have changed: they are used after a restart", metadata: ["file": "\(path)"])
    }
    inUse = new
  }

  private mutating func serveWhatIsDue() {
    guard let (certificate, looks) = pending else { return }
    guard looks == 0 else {
      pending = (certificate, looks - 1)
      return
    }
    pending = nil
    router.serve(certificate: certificate)
    logger.notice("the new message certificate is served at server.pem")
  }

  private func takeUpTLS(_ new: FrontendConfig) {
    guard let tls, new.frontend.tls != inUse.frontend.tls else { return }
    do {
      guard let made = try ServerTLS.make(new.frontend, new.client) else { return }
      tls.become(made)
      logger.notice("the new TLS certificate is in use for new connections")
    } catch {
      logger.error("the new TLS certificate was not taken up, the one before stays in use: \(error)")
    }
  }

  /// What needs a restart.
  private func rest(of config: FrontendConfig) -> FrontendConfig {
    var rest = config
    rest.frontend.certificate = ""
    if tls != nil, rest.frontend.tls != .plainHTTP { rest.frontend.tls = .files(certificate: "", privateKey: "") }
    if followsWorkers { rest.cryptoWorkers.endpoints = [] }
    return rest
  }
}
