import Configuration
import Logging
import Observability

/// Reads the frontend's file again when it changes or SIGHUP comes, and takes up what can change while running: the
/// message certificate of `/server.pem`, a TLS certificate in the file, and the list of crypto-workers.
struct ConfigFollower: Sendable {
  static let interval = Duration.seconds(3)

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

  /// Looks at the file until cancelled.
  func run(every interval: Duration = Self.interval) async {
    var copy = self
    var changes = FileChanges([path])
    while !Task.isCancelled {
      let (hasChanged, isAsked) = (changes.look(), isAsked())
      if hasChanged || isAsked { copy.reload() }
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
      router.serve(certificate: new.frontend.certificate)
      logger.notice("the new message certificate is served at server.pem")
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
