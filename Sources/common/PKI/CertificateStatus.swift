import FoundationEssentials
import Glibc
import PublicIdentity

/// What a certificate of a deployment is for.
package enum CertificateUse: String, Sendable, CaseIterable {
  /// The deployment's CA.
  case ca
  /// The message certificate that `/server.pem` serves.
  case message
  /// A message certificate that was rotated out and is still accepted.
  case previousMessage = "previous_message"
  /// A frontend's TLS certificate.
  case tls
  /// A further certificate of a TLS chain.
  case chain
  /// What an agent presents when a frontend asks for a certificate.
  case clientTLS = "client_tls"
  /// The gateway of a stock server.
  case gateway
  /// Found in a file without a hint of its use.
  case other

  /// What breaks when it expires, and what to do in time.
  package var consequence: String {
    switch self {
    case .ca:
      "every agent refuses server.pem and TLS; a new CA means new client files on every endpoint"
    case .message:
      "agents refuse server.pem: each is lost at its next start or key change; renew with: microraptor config reissue"
    case .previousMessage:
      "nothing: frontends no longer serve it; its key is accepted until its accept_until"
    case .tls:
      "agents refuse the TLS connection; renew with: microraptor config reissue, or your ACME client for PEM files"
    case .chain: "agents that need this chain refuse the TLS connection; renew it where it came from"
    case .clientTLS: "frontends with require_client_certificates refuse the agents; issue new client files"
    case .gateway: "nothing here: only a stock server's GUI uses it"
    case .other: "what uses this file"
    }
  }
}

/// A certificate in a file, to be looked at.
package struct CertificateItem: Sendable {
  package var file: String
  /// The dotted key in the file; empty for a PEM file.
  package var key: String
  package var use: CertificateUse
  package var pem: String

  package init(file: String, key: String, use: CertificateUse, pem: String) {
    self.file = file
    self.key = key
    self.use = use
    self.pem = pem
  }
}

/// The state of a certificate at a time.
package struct CertificateStatus: Sendable, Equatable {
  /// How near the end is.
  package enum Severity: Int, Sendable, Comparable {
    case ok, within90Days, within30Days, within7Days, expired

    package static func < (left: Severity, right: Severity) -> Bool { left.rawValue < right.rawValue }
  }

  package var file: String
  package var key: String
  package var use: CertificateUse
  /// The protocol's name of it (crypto.md §4); empty when it could not be read.
  package var name: String
  package var issuer: String
  /// Lower-case hexadecimal.
  package var serial: String
  /// Whether the deployment's CA signed it; nil when that is not known or not asked for.
  package var isIssuedByCA: Bool?
  package var notBefore: Date
  package var notAfter: Date
  /// Whole days until it expires, rounded down; negative afterwards.
  package var daysLeft: Int
  package var severity: Severity
  /// Why it is not usable whatever the date: unreadable, or not of this CA.
  package var problem: String?

  /// Looks at the certificates of some files.
  ///
  /// - Parameters:
  ///   - caPEM: the deployment's CA, for the question who issued them; nil when it is not at hand.
  ///   - now: the time for days and severity.
  package static func check(_ items: [CertificateItem], caPEM: String?, now: Date) -> [CertificateStatus] {
    let anchors = caPEM.flatMap { try? TrustAnchors(pem: $0) }
    return items.flatMap { item -> [CertificateStatus] in
      let blocks = PEM.blocks("CERTIFICATE", in: item.pem)
      guard !blocks.isEmpty else { return [unreadable(item, "no PEM block CERTIFICATE", now)] }
      return blocks.enumerated().map { index, der in
        var item = item
        if index > 0, item.use == .tls { item.use = .chain }
        do {
          return status(item, try Certificate(der: der), anchors, now)
        } catch {
          return unreadable(item, "\(error)", now)
        }
      }
    }
  }

  private static func status(
    _ item: CertificateItem, _ certificate: Certificate, _ anchors: TrustAnchors?, _ now: Date
  ) -> CertificateStatus {
    let left = certificate.notAfter.timeIntervalSince(now)
    var status = CertificateStatus(
      file: item.file, key: item.key, use: item.use,
      name: certificate.name.isEmpty ? certificate.subject : certificate.name, issuer: certificate.issuer,
      serial: certificate.serial, isIssuedByCA: nil, notBefore: certificate.notBefore, notAfter: certificate.notAfter,
      daysLeft: Int((left / 86_400).rounded(.down)), severity: severity(left), problem: nil)
    if status.use == .other, certificate.isCA { status.use = .ca }
    switch status.use {
    case .ca: status.isIssuedByCA = certificate.isCA && certificate.issuer == certificate.subject
    case .message, .previousMessage, .tls, .gateway:
      status.isIssuedByCA = anchors.map { $0.issued(certificate) }
    case .chain, .clientTLS, .other: break
    }
    if certificate.notBefore > now {
      status.problem = "it is not valid before \(certificate.notBefore.formatted(.iso8601))"
    } else if status.use == .message, status.isIssuedByCA == false {
      status.problem = "the deployment's CA did not issue it: agents refuse it"
    } else if status.use == .ca, !certificate.isCA {
      status.problem = "it is no CA certificate"
    }
    return status
  }

  private static func unreadable(_ item: CertificateItem, _ reason: String, _ now: Date) -> CertificateStatus {
    CertificateStatus(
      file: item.file, key: item.key, use: item.use, name: "", issuer: "", serial: "", isIssuedByCA: nil,
      notBefore: now, notAfter: now, daysLeft: 0, severity: .expired, problem: "it cannot be read: \(reason)")
  }

  private static func severity(_ left: TimeInterval) -> Severity {
    switch left {
    case ...0: .expired
    case ...(7 * 86_400): .within7Days
    case ...(30 * 86_400): .within30Days
    case ...(90 * 86_400): .within90Days
    default: .ok
    }
  }

  /// A sentence for logs and people when there is something to say; nil for a good certificate.
  package var warning: String? {
    let what = "the \(use.rawValue) certificate \(name)"
    if let problem { return "\(what): \(problem)" }
    // The certificate of a former key is only kept beside that key.
    guard severity > .ok, use != .previousMessage else { return nil }
    let time = severity == .expired ? "expired on" : "expires in \(daysLeft) days, on"
    return "\(what) \(time) \(notAfter.formatted(.iso8601)); then: \(use.consequence)"
  }
}

extension TrustAnchors {
  /// Whether one of the CAs signed this certificate directly, whatever the time is.
  package func issued(_ certificate: Certificate) -> Bool {
    // A moment inside the certificate's own validity: the CA is older than what it signs.
    (try? verifyLeaf(certificate.der, at: certificate.notBefore.addingTimeInterval(1))) != nil
  }
}
