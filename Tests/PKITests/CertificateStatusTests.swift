import Foundation
import PublicIdentity
import XCTest

@testable import PKI

final class CertificateStatusTests: XCTestCase {
  private func status(
    _ certificate: Certificate, _ use: CertificateUse, ca: String? = nil, days: Double = 0
  ) throws -> CertificateStatus {
    let item = CertificateItem(file: "f", key: "k", use: use, pem: certificate.pem)
    let ca = try ca ?? Sample.authority.get().certificate.pem
    return try XCTUnwrap(
      CertificateStatus.check([item], caPEM: ca, now: Sample.now.addingTimeInterval(days * Sample.day)).first)
  }

  func testSeverityFollowsTheDaysLeft() throws {
    let certificate = try Sample.messageCertificate()
    for (days, left, severity) in [
      (0.0, 365, CertificateStatus.Severity.ok), (274.9, 90, .ok), (275.1, 89, .within90Days),
      (335.1, 29, .within30Days), (358.1, 6, .within7Days), (364.9, 0, .within7Days), (365.1, -1, .expired),
    ] {
      let status = try status(certificate, .message, days: days)
      XCTAssertEqual(status.daysLeft, left, "\(days)")
      XCTAssertEqual(status.severity, severity, "\(days)")
      XCTAssertEqual(status.isIssuedByCA, true, "whatever the date")
      XCTAssertEqual(status.name, "VelociraptorServer")
      XCTAssertEqual(status.warning == nil, severity == .ok)
    }
  }

  func testTheIssuer() throws {
    let other = try Sample.otherAuthority.get().certificate.pem
    let certificate = try Sample.messageCertificate()
    XCTAssertTrue(try XCTUnwrap(try status(certificate, .message, ca: other).problem).contains("agents refuse it"))
    // A TLS certificate may be of a public CA.
    let leaf = try status(Sample.leaf(), .tls, ca: other)
    XCTAssertEqual(leaf.isIssuedByCA, false)
    XCTAssertNil(leaf.problem)
    let authority = try Sample.authority.get().certificate
    XCTAssertEqual(try status(authority, .other).use, .ca)
    XCTAssertEqual(try status(authority, .ca).isIssuedByCA, true)
    XCTAssertEqual(try status(authority, .ca).name, "Velociraptor_ca.velocidex.com")
    XCTAssertEqual(try status(certificate, .ca).problem, "it is no CA certificate")
  }

  func testWhatIsNotUsable() throws {
    let certificate = try Sample.messageCertificate()
    XCTAssertTrue(
      try XCTUnwrap(try status(certificate, .message, days: -1).problem).hasPrefix("it is not valid before"))
    let garbage = PEM.encode("CERTIFICATE", [1, 2, 3])
    for pem in ["", "text", garbage] {
      let item = CertificateItem(file: "f", key: "k", use: .tls, pem: pem)
      let found = CertificateStatus.check([item], caPEM: nil, now: Sample.now)
      XCTAssertEqual(found.map(\.severity), [.expired])
      XCTAssertTrue(found.allSatisfy { $0.problem?.hasPrefix("it cannot be read") == true }, "\(found)")
    }
  }

  func testAChainIsListedWhole() throws {
    let authority = try Sample.authority.get().certificate
    let item = CertificateItem(file: "f", key: "k", use: .tls, pem: try Sample.leaf().pem + authority.pem)
    let found = CertificateStatus.check([item], caPEM: nil, now: Sample.now)
    XCTAssertEqual(found.map(\.use), [.tls, .chain])
    XCTAssertEqual(found.map(\.isIssuedByCA), [nil, nil])
  }

  /// The certificate beside a former key needs no care: the key's own time ends it.
  func testPreviousCertificatesDoNotWarn() throws {
    XCTAssertNil(try status(Sample.messageCertificate(), .previousMessage, days: 400).warning)
  }

  func testECKeysAreReadAgain() throws {
    let key = try Sample.leafKey.get()
    let again = try ECPrivateKey(pem: key.pkcs8PEM())
    XCTAssertTrue(again.matches(try Sample.leaf()))
    XCTAssertFalse(try ECPrivateKey.generate().matches(Sample.leaf()))
    XCTAssertFalse(again.matches(try Sample.messageCertificate()))
    for pem in [try Sample.messageKey.get().pkcs1PEM, "text", PEM.encode("PRIVATE KEY", [1, 2, 3])] {
      XCTAssertThrowsError(try ECPrivateKey(pem: pem)) { XCTAssertEqual(($0 as? PKIError)?.code, .wrongKey) }
    }
  }
}
