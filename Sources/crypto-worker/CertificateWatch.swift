import Configuration
import Foundation
import Logging
import Observability
import PKI

/// Warns in the log when a certificate comes near its end, and shows the time left as a metric.
struct CertificateWatch: Sendable {
  let items: [CertificateItem]
  let logger: Logger
  /// Injected by tests.
  var now: @Sendable () -> Date = { Date() }

  /// The certificates of a worker's file. It holds no CA, so nothing is said about issuers.
  static func items(of config: WorkerConfig, file: String) -> [CertificateItem] {
    [CertificateItem(file: file, key: "Frontend.certificate", use: .message, pem: config.certificate)]
      + config.previousKeys.enumerated().map { index, key in
        CertificateItem(
          file: file, key: "Frontend.previous_private_keys[\(index)]", use: .previousMessage, pem: key.certificate)
      }
  }

  /// `certificate_expiry_seconds{use=…}`, negative after the end; of several with one use the nearest.
  func register(_ registry: MetricsRegistry) {
    for (use, statuses) in Dictionary(grouping: statuses(), by: \.use) {
      guard let end = statuses.map(\.notAfter).min() else { continue }
      let now = now
      registry.gauge(
        "certificate_expiry_seconds", "Seconds until a certificate expires.", labels: ["use": use.rawValue]
      ) { end.timeIntervalSince(now()).rounded(.down) }
    }
  }

  /// One line for each certificate with less than 90 days left; an error below 7 days.
  func report() {
    for status in statuses() {
      guard let warning = status.warning else { continue }
      let level: Logger.Level =
        status.severity >= .within7Days || status.problem != nil
        ? .error : status.severity == .within30Days ? .warning : .notice
      logger.log(level: level, "\(warning)", metadata: ["file": "\(status.file)", "key": "\(status.key)"])
    }
  }

  /// Reports now and then once a day, until cancelled.
  func run() async {
    while !Task.isCancelled {
      report()
      try? await Task.sleep(for: .seconds(86_400))
    }
  }

  private func statuses() -> [CertificateStatus] {
    CertificateStatus.check(items, caPEM: nil, now: now())
  }
}
