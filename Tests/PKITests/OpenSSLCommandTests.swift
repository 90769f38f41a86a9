import Foundation
import PublicIdentity
import XCTest

@testable import PKI

/// What we write, judged by the `openssl` command.
final class OpenSSLCommandTests: XCTestCase {
  func testVerifyAcceptsBothCertificatesAndRefusesAnotherCA() throws {
    let files = try Workspace()
    let ca = try files.write(Sample.authority.get().certificate.pem, "ca.pem")
    let other = try files.write(Sample.otherAuthority.get().certificate.pem, "other.pem")
    let message = try files.write(Sample.messageCertificate().pem, "message.pem")
    let leaf = try files.write(Sample.leaf(["localhost"]).pem, "leaf.pem")
    let time = String(Int(Sample.now.timeIntervalSince1970) + 60)
    for file in [message, leaf] {
      let good = try openssl("verify", "-x509_strict", "-purpose", "sslserver", "-attime", time, "-CAfile", ca, file)
      XCTAssertEqual(good.output, "\(file): OK\n")
      let bad = try openssl("verify", "-attime", time, "-CAfile", other, file)
      XCTAssertNotEqual(bad.status, 0, bad.output)
    }
  }

  func testTextOfTheAuthority() throws {
    let files = try Workspace()
    let ca = try files.write(Sample.authority.get().certificate.pem, "ca.pem")
    let text = try openssl("x509", "-in", ca, "-noout", "-text").output
    for part in [
      "Version: 3", "sha256WithRSAEncryption", "Subject: O = Velociraptor CA\n", "Public-Key: (2048 bit)", "65537",
      "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment, Certificate Sign\n",
      "TLS Web Server Authentication, TLS Web Client Authentication",
      "X509v3 Basic Constraints: critical\n                CA:TRUE\n", "DNS:Velociraptor_ca.velocidex.com",
    ] {
      XCTAssertTrue(text.contains(part), "\(part) not in \(text)")
    }
  }

  func testTextOfTheLeaf() throws {
    let files = try Workspace()
    let leaf = try files.write(Sample.leaf(["velo.example.org", "192.0.2.1"]).pem, "leaf.pem")
    let text = try openssl("x509", "-in", leaf, "-noout", "-text").output
    for part in [
      "NIST CURVE: P-256", "CA:FALSE", "X509v3 Key Usage: critical\n                Digital Signature\n",
      "DNS:VelociraptorServer, DNS:velo.example.org, IP Address:192.0.2.1",
    ] {
      XCTAssertTrue(text.contains(part), "\(part) not in \(text)")
    }
  }

  func testKeysAndCertificatesBelongTogether() throws {
    let files = try Workspace()
    let key = try files.write(Sample.leafKey.get().pkcs8PEM(), "leaf.key")
    let leaf = try files.write(Sample.leaf().pem, "leaf.pem")
    let ofKey = try openssl("pkey", "-in", key, "-pubout").output
    XCTAssertEqual(ofKey, try openssl("x509", "-in", leaf, "-noout", "-pubkey").output)
    XCTAssertTrue(ofKey.hasPrefix("-----BEGIN PUBLIC KEY-----"), ofKey)
    let rsa = try files.write(Sample.messageKey.get().pkcs1PEM, "rsa.key")
    XCTAssertEqual(try openssl("rsa", "-in", rsa, "-check", "-noout").output, "RSA key ok\n")
  }

  func testCertificateRequest() throws {
    let key = try Sample.messageKey.get()
    let pem = try CertificateRequestBuilder.pem(for: key)
    let files = try Workspace()
    let file = try files.write(pem, "request.pem")
    let result = try openssl("req", "-in", file, "-verify", "-noout", "-text")
    XCTAssertEqual(result.status, 0)
    for part in [
      "verify OK", "Version: 1 (0x0)", "Subject: CN = \(key.publicKey.clientID.rawValue)\n", "sha256WithRSAEncryption",
      "Attributes:\n            (none)\n",
    ] {
      XCTAssertTrue(result.output.contains(part), "\(part) not in \(result.output)")
    }
    let read = try CertificateRequest(pem: Array(pem.utf8))
    XCTAssertEqual(read.clientID, key.publicKey.clientID)
    XCTAssertEqual(read.publicKey, key.publicKey)
  }

  func testARequestUnderAnotherNameIsRefusedByTheServer() throws {
    let pem = try CertificateRequestBuilder.pem(for: Sample.messageKey.get(), commonName: "C.0123456789abcdef")
    XCTAssertTrue(refusal { try CertificateRequest(pem: Array(pem.utf8)) }.hasPrefix("Invalid CSR"))
  }
}
