import Foundation
import PublicIdentity
import XCTest

@testable import PKI

final class CertificateTests: XCTestCase {
  func testAuthorityIsAsTheProtocolSays() throws {
    let certificate = try Sample.authority.get().certificate
    XCTAssertEqual(certificate.subject, "O=Velociraptor CA")
    XCTAssertEqual(certificate.issuer, certificate.subject)
    XCTAssertNil(certificate.commonName)
    XCTAssertEqual(certificate.name, "Velociraptor_ca.velocidex.com")
    XCTAssertEqual(certificate.dnsNames, ["Velociraptor_ca.velocidex.com"])
    XCTAssertTrue(certificate.isCA)
    XCTAssertEqual(certificate.extendedUsage, [.serverAuth, .clientAuth])
    XCTAssertEqual(certificate.notBefore, Sample.now)
    XCTAssertEqual(certificate.notAfter, Sample.now.addingTimeInterval(3650 * Sample.day))
    XCTAssertEqual(try certificate.rsaPublicKey().bits, 2048)
  }

  func testMessageCertificate() throws {
    let certificate = try Sample.messageCertificate()
    XCTAssertEqual(certificate.subject, "CN=VelociraptorServer,O=Velociraptor")
    XCTAssertEqual(certificate.issuer, "O=Velociraptor CA")
    XCTAssertEqual(certificate.name, "VelociraptorServer")
    XCTAssertEqual(certificate.dnsNames, ["VelociraptorServer"])
    XCTAssertEqual(certificate.ipAddresses, [])
    XCTAssertFalse(certificate.isCA)
    XCTAssertEqual(certificate.extendedUsage, [.serverAuth, .clientAuth])
    XCTAssertEqual(certificate.notAfter, Sample.now.addingTimeInterval(365 * Sample.day))
    XCTAssertEqual(try certificate.rsaPublicKey(), try Sample.messageKey.get().publicKey)
  }

  func testANameThatIsAnAddressIsAnAddressInTheCertificate() throws {
    let certificate = try Sample.authority.get().issueMessageCertificate(
      for: Sample.messageKey.get().publicKey, name: "10.1.2.3", now: Sample.now)
    XCTAssertEqual(certificate.name, "10.1.2.3")
    XCTAssertEqual(certificate.ipAddresses, ["10.1.2.3"])
    XCTAssertEqual(certificate.dnsNames, [])
  }

  func testLeaf() throws {
    let certificate = try Sample.leaf(["velo.example.org", "192.0.2.1", "2001:db8::1", "velo.example.org"])
    XCTAssertEqual(certificate.dnsNames, ["VelociraptorServer", "velo.example.org"])
    XCTAssertEqual(certificate.ipAddresses, ["192.0.2.1", "2001:db8::1"])
    XCTAssertEqual(certificate.extendedUsage, [.serverAuth])
    XCTAssertEqual(refusal { try certificate.rsaPublicKey() }, "Not RSA algorithm")
  }

  func testNamesCannotSmuggleOthersIn() {
    for host in ["a,DNS:b", "a b", "", "é", "a\nb", "email:x", String(repeating: "a", count: 300)] {
      XCTAssertTrue(refusal { try Sample.leaf([host]) }.contains("neither a host name nor an IP address"), host)
    }
  }

  func testSerialsAreRandom() throws {
    let serials = try (0..<20).map { _ in try Sample.messageCertificate().serial }
    XCTAssertEqual(Set(serials).count, 20)
    XCTAssertTrue(serials.allSatisfy { $0.count <= 32 && $0.count > 16 }, "\(serials)")
  }

  func testNameRuleFallsBackToAlternativeNames() throws {
    func named(_ change: (inout CertificateTemplate) -> Void) throws -> String {
      try Sample.certificate { template in
        template.commonName = nil
        change(&template)
      }.name
    }
    let both = try named {
      $0.dnsNames = ["first.example", "second.example"]
      $0.ipAddresses = ["10.0.0.1"]
    }
    XCTAssertEqual(both, "first.example")
    XCTAssertEqual(try named { $0.ipAddresses = ["10.0.0.1"] }, "10.0.0.1")
    XCTAssertEqual(try named { _ in }, "")
  }

  func testPEMRoundTripAndGarbage() throws {
    let certificate = try Sample.messageCertificate()
    XCTAssertEqual(try Certificate(pem: "text before\n" + certificate.pem + certificate.pem), certificate)
    XCTAssertEqual(certificate.thumbprint.count, 64)
    XCTAssertEqual(refusal { try Certificate(pem: "<html>login</html>") }, "Unable to parse PEM")
    XCTAssertEqual(refusal { try Certificate(der: [0x30, 0x03, 1, 2, 3]) }, "not an X.509 certificate")
    XCTAssertEqual(
      refusal { try Certificate(der: certificate.der + [0]) }, "bytes after the end of an X.509 certificate")
    XCTAssertEqual(refusal { try Certificate(der: []) }, "not an X.509 certificate")
    for length in stride(from: 1, to: certificate.der.count, by: 17) {
      XCTAssertNotEqual(refusal { try Certificate(der: Array(certificate.der.prefix(length))) }, "accepted")
    }
  }

  func testMutatedCertificatesNeverCrashAndAreNeverTrusted() throws {
    let certificate = try Sample.messageCertificate()
    let anchors = try TrustAnchors(pem: Sample.authority.get().certificate.pem)
    for index in certificate.der.indices {
      var der = certificate.der
      der[index] ^= 0x41
      _ = try? Certificate(der: der)
      XCTAssertNotEqual(refusal { try anchors.verifyLeaf(der, at: Sample.now) }, "accepted", "byte \(index)")
    }
  }

  func testAuthorityFromItsFiles() throws {
    let authority = try Sample.authority.get()
    let again = try CertificateAuthority(certificatePEM: authority.certificate.pem, keyPEM: authority.key.pkcs1PEM)
    XCTAssertEqual(again.certificate, authority.certificate)
    let otherKey = try Sample.otherAuthority.get().key.pkcs1PEM
    XCTAssertTrue(
      refusal { try CertificateAuthority(certificatePEM: authority.certificate.pem, keyPEM: otherKey) }
        .contains("does not belong"))
    let message = try Sample.messageCertificate()
    let key = try Sample.messageKey.get().pkcs1PEM
    XCTAssertTrue(
      refusal { try CertificateAuthority(certificatePEM: message.pem, keyPEM: key) }.contains("does not belong"))
  }
}
