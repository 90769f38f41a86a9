import Foundation
import Logging
import NIOSSL
import Observability

/// A certificate of this process whose end has to be told of in time.
struct WatchedCertificate: Sendable {
  /// As the other processes name the use: `tls`, `message`, `ca`.
  let use: String
  /// For log lines, such as `the TLS certificate`.
  let name: String
  /// What happens at its end.
  let consequence: String
  /// Unix seconds; nil when it cannot be read.
  let validity: @Sendable () -> ClosedRange<Int64>?

  static func tls(_ tls: ServerTLS) -> WatchedCertificate {
    WatchedCertificate(
      use: "tls", name: "the TLS certificate", consequence: "agents do not connect", validity: { tls.validity })
  }

  /// The message certificate that `/server.pem` serves.
  static func message(_ router: Router) -> WatchedCertificate {
    WatchedCertificate(
      use: "message", name: "the message certificate at server.pem", consequence: "agents refuse this server",
      validity: { validity(of: router.certificate) })
  }

  /// The deployment's CA.
  static func authority(_ pem: String) -> WatchedCertificate {
    let range = validity(of: Array(pem.utf8))
    return WatchedCertificate(
      use: "ca", name: "the deployment's CA certificate", consequence: "agents refuse every certificate of it",
      validity: { range })
  }

  private static func validity(of pem: [UInt8]) -> ClosedRange<Int64>? {
    guard let certificate = try? NIOSSLCertificate.fromPEMBytes(pem).first else { return nil }
    let from = Int64(certificate.notValidBefore)
    return from...max(from, Int64(certificate.notValidAfter))
  }

  /// `certificate_expiry_seconds{use=…}`, negative after the end.
  func register(_ registry: MetricsRegistry) {
    let validity = validity
    registry.gauge("certificate_expiry_seconds", "Seconds until a certificate expires.", labels: ["use": use]) {
      validity().map { Double($0.upperBound) - Date().timeIntervalSince1970.rounded(.up) } ?? .nan
    }
  }
}

/// Takes up new TLS certificates when their files change, as certbot and other ACME clients leave them, and says when a
/// certificate is about to expire (http.md §8).
struct CertificateWatcher: Sendable {
  static let interval = Duration.seconds(3)

  let tls: ServerTLS?
  let watched: [WatchedCertificate]
  let logger: Logger

  /// - Parameter others: certificates besides that of TLS.
  init(tls: ServerTLS?, others: [WatchedCertificate] = [], logger: Logger) {
    self.tls = tls
    watched = (tls.map { [.tls($0)] } ?? []) + others
    self.logger = logger
  }

  /// Looks at the files and the clock until cancelled.
  func run(every interval: Duration = Self.interval) async {
    var changes = FileChanges(paths)
    var watches = watched.map { _ in ExpiryWatch() }
    while !Task.isCancelled {
      if changes.look(at: paths), tls?.files != nil { reload() }
      for (index, certificate) in watched.enumerated() { remind(certificate, &watches[index]) }
      try? await Task.sleep(for: interval)
    }
  }

  private var paths: [String] { tls?.files.map { [$0.certificate, $0.key] } ?? [] }

  /// A pair that does not work yet is tried again when one of its files changes.
  private func reload() {
    guard let tls else { return }
    do {
      try tls.reload()
      logger.notice(
        "the new TLS certificate is in use for new connections",
        metadata: ["file": "\(tls.files?.certificate ?? "")", "expires": "\(Self.day(tls.validity.upperBound))"])
    } catch {
      logger.error(
        "the new TLS certificate was not taken up, the one before stays in use: \(error)",
        metadata: [
          "tls_certificate_filename": "\(tls.files?.certificate ?? "")",
          "tls_private_key_filename": "\(tls.files?.key ?? "")",
        ])
    }
  }

  private func remind(_ certificate: WatchedCertificate, _ watch: inout ExpiryWatch) {
    guard let validity = certificate.validity(),
      let notice = watch.check(validity, now: Int64(Date().timeIntervalSince1970))
    else { return }
    let (name, when) = (certificate.name, Self.day(validity.upperBound))
    switch notice {
    case .soon(let days): logger.notice("\(name) expires in \(days) days, on \(when)")
    case .near(let days): logger.warning("\(name) expires in \(days) days, on \(when): renew it")
    case .urgent(let days):
      logger.error("\(name) expires in \(days) days, on \(when): after that \(certificate.consequence)")
    case .expired: logger.critical("\(name) expired on \(when): \(certificate.consequence)")
    }
  }

  private static func day(_ seconds: Int64) -> String {
    String(Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601).prefix(10))
  }
}

/// When to speak of a certificate's end: below 90, 30 and 7 days, at once and then once a day. For a certificate that
/// lives shortly, a mark counts only when it is less than half of its life: else one of 90 days would be nagged about
/// from its first day.
struct ExpiryWatch {
  enum Notice: Equatable {
    case soon(days: Int)
    case near(days: Int)
    case urgent(days: Int)
    case expired
  }

  private enum Level: Int {
    case none, soon, near, urgent, expired
  }

  private static let day: Int64 = 86_400
  private var level = Level.none
  private var last: Int64?
  private var end: Int64?

  /// - Parameters:
  ///   - validity: of the certificate, Unix seconds.
  ///   - now: Unix seconds.
  mutating func check(_ validity: ClosedRange<Int64>, now: Int64) -> Notice? {
    // A new certificate is spoken of anew.
    if end != validity.upperBound { (level, last, end) = (.none, nil, validity.upperBound) }
    let left = validity.upperBound - now
    let life = validity.upperBound - validity.lowerBound
    func isBelow(_ days: Int64) -> Bool { left < days * Self.day && 2 * days * Self.day < life }
    let level: Level =
      left <= 0 ? .expired : isBelow(7) ? .urgent : isBelow(30) ? .near : isBelow(90) ? .soon : .none
    defer { self.level = level }
    guard level != .none else { return nil }
    if level == self.level, let last, now - last < Self.day { return nil }
    last = now
    let days = Int(left / Self.day)
    switch level {
    case .none: return nil
    case .soon: return .soon(days: days)
    case .near: return .near(days: days)
    case .urgent: return .urgent(days: days)
    case .expired: return .expired
    }
  }
}
