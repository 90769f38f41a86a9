import Foundation
import PublicIdentity
import XCTest

@testable import PKI

/// The client's check of /server.pem, step by step (crypto.md §4), and the rule for TLS leaves (http.md §8).
final class ServerCertificateCheckTests: XCTestCase {
  private func check(_ body: String, name: String = "VelociraptorServer", days: Double = 1) throws -> String {
    let check = try ServerCertificateCheck(caPEM: Sample.authority.get().certificate.pem, pinnedName: name)
    return refusal { try check.verify(body, now: Sample.now.addingTimeInterval(days * Sample.day)) }
  }

  func testAccepted() throws {
    let check = try ServerCertificateCheck(caPEM: Sample.authority.get().certificate.pem)
    let accepted = try check.verify(Sample.messageCertificate().pem, now: Sample.now)
    XCTAssertEqual(accepted.name, "VelociraptorServer")
    XCTAssertEqual(accepted.publicKey, try Sample.messageKey.get().publicKey)
  }

  func testOnlyTheFirstBlockCounts() throws {
    let good = try Sample.messageCertificate().pem
    let foreign = try Sample.otherAuthority.get().issueMessageCertificate(
      for: Sample.messageKey.get().publicKey, now: Sample.now
    ).pem
    XCTAssertEqual(try check(good + foreign), "accepted")
    XCTAssertNotEqual(try check(foreign + good), "accepted")
  }

  func testStep1() throws {
    XCTAssertEqual(try check("<html>Please log in</html>"), "Unable to parse PEM")
    XCTAssertEqual(try check(""), "Unable to parse PEM")
    XCTAssertEqual(try check(Sample.messageKey.get().publicKey.pkcs1PEM), "Unable to parse PEM")
    XCTAssertTrue(
      try check(PEM.encode("CERTIFICATE", [1, 2, 3])).hasPrefix("Unable to parse the server certificate"))
  }

  func testStep2ATLSLeafIsNeverAMessageKey() throws {
    XCTAssertEqual(try check(Sample.leaf().pem), "Not RSA algorithm")
  }

  func testStep3Chain() throws {
    let foreign = try Sample.otherAuthority.get().issueMessageCertificate(
      for: Sample.messageKey.get().publicKey, now: Sample.now)
    XCTAssertTrue(try check(foreign.pem).hasPrefix("server certificate not trusted: "))
    var template = CertificateTemplate(organization: "Velociraptor", commonName: "VelociraptorServer")
    template.keyUsage = ["digitalSignature", "keyEncipherment"]
    let key = try Sample.messageKey.get().handle
    let selfSigned = try template.sign(publicKey: key, issuer: nil, signingKey: key, now: Sample.now, validityDays: 365)
    XCTAssertTrue(try check(selfSigned.pem).hasPrefix("server certificate not trusted: "))
  }

  func testStep3ASignerThatIsNoCAIsRefused() throws {
    let middle = try Sample.messageCertificate()
    var template = CertificateTemplate(organization: "Velociraptor", commonName: "VelociraptorServer")
    template.keyUsage = ["digitalSignature"]
    let key = try Sample.messageKey.get().handle
    let below = try template.sign(
      publicKey: key, issuer: try X509Handle(der: middle.der), signingKey: key, now: Sample.now, validityDays: 10)
    XCTAssertTrue(try check(below.pem).hasPrefix("server certificate not trusted: "))
    XCTAssertTrue(try check(below.pem + middle.pem).hasPrefix("server certificate not trusted: "))
    XCTAssertThrowsError(try TrustAnchors.verifyLeaf(below.der, caPEM: middle.pem, at: Sample.now))
  }

  func testStep3Validity() throws {
    let pem = try Sample.messageCertificate().pem
    XCTAssertEqual(try check(pem, days: 364), "accepted")
    XCTAssertEqual(try check(pem, days: 366), "server certificate not trusted: certificate has expired")
    XCTAssertEqual(try check(pem, days: -1), "server certificate not trusted: certificate is not yet valid")
  }

  func testStep3Usage() throws {
    let client = try Sample.certificate { $0.extendedKeyUsage = ["clientAuth"] }
    XCTAssertTrue(try check(client.pem).hasPrefix("server certificate not trusted: "))
    let code = try Sample.certificate { $0.extendedKeyUsage = ["codeSigning"] }
    XCTAssertTrue(try check(code.pem).hasPrefix("server certificate not trusted: "))
    let any = try Sample.certificate { $0.extendedKeyUsage = [] }
    XCTAssertEqual(try check(any.pem), "accepted")
  }

  func testStep5Name() throws {
    XCTAssertTrue(
      try check(Sample.certificate(name: "GRPC_GW").pem).hasPrefix("Invalid server certificate common name!"))
    XCTAssertTrue(
      try check(Sample.messageCertificate().pem, name: "Other").hasPrefix("Invalid server certificate common name!"))
    let ca = try Sample.authority.get().certificate.pem
    XCTAssertTrue(try check(ca).hasPrefix("Invalid server certificate common name!"))
  }

  func testTLSLeafRule() throws {
    let ca = try Sample.authority.get().certificate.pem
    let other = try Sample.otherAuthority.get().certificate.pem
    let leaf = try Sample.leaf().der
    func leafRefusal(_ der: [UInt8], _ ca: String, _ days: Double = 1) -> String {
      refusal { try TrustAnchors.verifyLeaf(der, caPEM: ca, at: Sample.now.addingTimeInterval(days * Sample.day)) }
    }
    XCTAssertEqual(leafRefusal(leaf, ca), "accepted")
    XCTAssertEqual(leafRefusal(leaf, other + ca), "accepted")
    XCTAssertNotEqual(leafRefusal(leaf, other), "accepted")
    XCTAssertNotEqual(leafRefusal(leaf, ca, 400), "accepted")
    XCTAssertEqual(leafRefusal([], ca), "not an X.509 certificate")
    XCTAssertEqual(leafRefusal(leaf, "no PEM"), "the CA certificate: Unable to parse PEM")
  }
}
