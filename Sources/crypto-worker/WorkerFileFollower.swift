import Configuration
import Foundation
import Logging
import Observability

/// Reads the worker's file again when it changes or SIGHUP comes, and takes up new keys, certificates and orgs; watches
/// the certificates' ends.
struct WorkerFileFollower: Sendable {
  static let interval = Duration.seconds(3)
  /// Between two looks at the certificates' ends.
  private static let day = Duration.seconds(86_400)

  let path: String
  /// The file's content that is in use.
  var inUse: WorkerConfig
  let service: CryptoService
  let registry: MetricsRegistry
  let logger: Logger
  /// Whether the file is to be read again although it looks the same.
  let isAsked: @Sendable () -> Bool

  /// Looks at the file and the clock until cancelled.
  func run(every interval: Duration = Self.interval) async {
    var copy = self
    var changes = FileChanges([path])
    copy.watch()
    var reported = ContinuousClock.now
    while !Task.isCancelled {
      let (hasChanged, isAsked) = (changes.look(), isAsked())
      if hasChanged || isAsked { copy.reload() }
      if ContinuousClock.now - reported > Self.day {
        reported = .now
        copy.certificates.report()
      }
      try? await Task.sleep(for: interval)
    }
  }

  /// Takes up what the file says now; a wrong file changes nothing.
  mutating func reload() {
    do {
      let new = try WorkerConfig.load(path: path)
      guard new != inUse else { return }
      service.replace(try Keyring(new, path: path))
      let hasNewKey = new.privateKey != inUse.privateKey
      logger.notice(
        hasNewKey ? "the new message key is in use" : "the changed keys, certificates and orgs are in use",
        metadata: ["previous_keys": "\(new.previousKeys.count)", "orgs": "\(new.orgs.count + 1)"])
      if rest(of: new) != rest(of: inUse) {
        logger.notice("other settings have changed: they are used after a restart", metadata: ["file": "\(path)"])
      }
      inUse = new
      watch()
    } catch {
      logger.error("the changed configuration is not used: \(error)")
    }
  }

  private var certificates: CertificateWatch {
    CertificateWatch(items: CertificateWatch.items(of: inUse, file: path), logger: logger)
  }

  private func watch() {
    let certificates = certificates
    certificates.register(registry)
    certificates.report()
    logPreviousKeys()
  }

  private func logPreviousKeys() {
    for key in inUse.previousKeys {
      let until = key.acceptUntil.formatted(.iso8601)
      if key.acceptUntil > Date() {
        logger.info("a previous message key is accepted too", metadata: ["until": "\(until)"])
      } else {
        logger.notice(
          "a previous message key is no longer accepted; remove it from the file with: microraptor config reissue",
          metadata: ["since": "\(until)", "file": "\(path)"])
      }
    }
  }

  /// What needs a restart.
  private func rest(of config: WorkerConfig) -> WorkerConfig {
    var rest = config
    rest.privateKey = ""
    rest.certificate = ""
    rest.previousKeys = []
    rest.nonce = ""
    rest.orgs = [:]
    return rest
  }
}
