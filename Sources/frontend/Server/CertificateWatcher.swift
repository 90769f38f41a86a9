import Foundation
import Logging
import NIOSSL

/// Takes up new TLS certificates when their files change, as certbot and other ACME clients leave them, and says when
/// one is about to expire (http.md §8).
struct CertificateWatcher: Sendable {
  /// What tells one state of a file from another. Certbot replaces a link, others the file itself.
  struct Stamp: Equatable {
    var inode: UInt64
    var size: Int64
    var modified: Int64

    init?(path: String) {
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      inode = UInt64(status.st_ino)
      size = Int64(status.st_size)
      modified = Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
    }
  }

  static let interval = Duration.seconds(3)

  let tls: ServerTLS
  let logger: Logger

  /// Looks at the files and the clock until cancelled.
  func run(every interval: Duration = Self.interval) async {
    var seen = stamps
    var watch = ExpiryWatch()
    while !Task.isCancelled {
      let now = stamps
      if now != seen {
        seen = now
        reload()
        watch = ExpiryWatch()
      }
      remind(&watch)
      try? await Task.sleep(for: interval)
    }
  }

  private var stamps: [Stamp?] {
    tls.files.map { [Stamp(path: $0.certificate), Stamp(path: $0.key)] } ?? []
  }

  /// A pair that does not work yet is tried again when one of its files changes.
  private func reload() {
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

  private func remind(_ watch: inout ExpiryWatch) {
    let validity = tls.validity
    guard let notice = watch.check(validity, now: Int64(Date().timeIntervalSince1970)) else { return }
    let when = Self.day(validity.upperBound)
    switch notice {
    case .soon(let days):
      logger.notice("the TLS certificate expires in \(days) days, on \(when)")
    case .near(let days):
      logger.warning("the TLS certificate expires in \(days) days, on \(when): renew it")
    case .urgent(let days):
      logger.error("the TLS certificate expires in \(days) days, on \(when): agents will not connect after that")
    case .expired:
      logger.critical("the TLS certificate expired on \(when): agents do not connect")
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

  /// - Parameters:
  ///   - validity: of the certificate, Unix seconds.
  ///   - now: Unix seconds.
  mutating func check(_ validity: ClosedRange<Int64>, now: Int64) -> Notice? {
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
