import Configuration
import Foundation
import PKI
import XCTest

@testable import microraptor

final class ServerImportTests: XCTestCase {
  private let now = KeyWorkspace.now

  private struct Stock {
    let authority: CertificateAuthority
    let key: RSAPrivateKey
    let certificate: Certificate
  }

  private func stock() throws -> Stock {
    let authority = try CertificateAuthority.create(now: now)
    let key = try RSAPrivateKey.generate()
    return Stock(
      authority: authority, key: key, certificate: try authority.issueMessageCertificate(for: key.publicKey, now: now))
  }

  /// A stock server's file in its usual form.
  private func text(_ stock: Stock, withCAKey: Bool = true, frontend: [ConfigEntry] = []) throws -> String {
    let gui: ConfigValue = .section(["gw_certificate": .text(stock.certificate.pem), "novelty": .integer(1)])
    let entries = [
      ConfigEntry("hostname", .text("velo.example.org")), ConfigEntry("bind_address", .text("127.0.0.1")),
      ConfigEntry("bind_port", .integer(8000)), ConfigEntry("certificate", .text(stock.certificate.pem)),
      ConfigEntry("private_key", .text(stock.key.pkcs1PEM)), ConfigEntry("dyn_dns", .section([ConfigEntry]())),
      ConfigEntry("resources", .section(["expected_clients": .integer(30_000), "future_limit": .integer(1)])),
    ]
    return try ConfigValue.section([
      "version": .section(["name": .text("velociraptor"), "version": .text("0.77.2"), "commit": .text("x")]),
      "Client": .section([
        "server_urls": .texts(["https://velo.example.org:8000/"]),
        "ca_certificate": .text(stock.authority.certificate.pem), "nonce": .text("m1AUbpfvkdY="),
        "use_self_signed_ssl": .boolean(true), "max_poll": .integer(5),
        "writeback_linux": .text("/etc/velociraptor.writeback.yaml"),
      ]),
      "GUI": gui,
      "CA": withCAKey ? .section(["private_key": .text(stock.authority.key.pkcs1PEM)]) : nil,
      "Frontend": .section(entries + frontend),
      "Datastore": .section(["implementation": .text("FileBaseDataStore"), "location": .text("/old")]),
      "obfuscation_nonce": .text("o16/H5U1Ee0="),
    ]).yaml()
  }

  private func run(_ text: String, _ space: KeyWorkspace, caKey: String? = nil, port: Int? = nil) throws -> [String] {
    let stock = try StockServerFile.parse(text: text, file: "server.config.yaml")
    let plan = try DeploymentPlan(
      DeploymentPlan.Choices(directory: space.directory, urls: stock.section.serverURLs))
    let result = try ServerImport(
      stock, plan: plan, choices: ServerImport.Choices(frontendPort: port, caKeyPEM: caKey), now: now)
    try DeploymentWriter.write(result.files, plan: plan, force: false)
    return result.notes
  }

  func testAgentsKeepTheirTrust() throws {
    let space = try KeyWorkspace()
    let stock = try stock()
    let text = try text(stock)
    let notes = try run(text, space, port: 8443)
    XCTAssertTrue(notes.contains { $0.contains("Frontend.resources.future_limit") }, "\(notes)")
    let old = try StockServerFile.parse(text: text, file: "old")
    let client = try ClientConfig.load(path: space.path("client.config.yaml"))
    XCTAssertEqual(client.client, old.section)
    XCTAssertEqual(client.version.version, "0.77.2")
    let worker = try space.worker()
    XCTAssertEqual(worker.privateKey, stock.key.pkcs1PEM)
    XCTAssertEqual(worker.certificate, stock.certificate.pem)
    XCTAssertEqual(worker.nonce, "m1AUbpfvkdY=")
    XCTAssertEqual(worker.resources.expectedClients, 30_000)
    let frontend = try space.frontend()
    XCTAssertEqual(frontend.frontend.bindPort, 8443)
    XCTAssertEqual(frontend.frontend.bindAddress, "127.0.0.1")
    XCTAssertEqual(frontend.frontend.certificate, stock.certificate.pem)
    XCTAssertEqual(frontend.client.maxPoll, 5)
    XCTAssertFalse(try space.text("frontend.config.yaml").contains("RSA PRIVATE KEY"))
    XCTAssertFalse(try space.text("frontend.config.yaml").contains("m1AUbpfvkdY="))
    guard case .inline(let pem, let key) = frontend.frontend.tls else { return XCTFail("no leaf") }
    let leaf = try Certificate(pem: pem)
    XCTAssertTrue(try ECPrivateKey(pem: key).matches(leaf))
    XCTAssertTrue(try TrustAnchors(pem: old.section.caCertificate).issued(leaf))
    XCTAssertEqual(leaf.dnsNames, ["VelociraptorServer", "velo.example.org"])
    XCTAssertTrue(try space.text("admin.config.yaml").contains("o16/H5U1Ee0="))
    XCTAssertEqual(try AdminConfig.load(path: space.path("admin.config.yaml")).client, old.section)
    // The new deployment can be rotated like any other.
    var rotation = try KeyRotation(directory: space.directory, caKey: nil, now: now)
    _ = try rotation.rotate(acceptDays: 30, validityDays: 365)
    XCTAssertEqual(try space.worker().previousKeys.map(\.privateKey), [stock.key.pkcs1PEM])
  }

  /// Without the CA key TLS goes on as on the old server, said aloud; a reissue with the key repairs it.
  /// Agents go on to echo the tokens of the old server: the frontends can read them, whether it named its nonce or not.
  func testFrontendsReadTheNamesOfTheOldServer() throws {
    let stock = try stock()
    let text = try text(stock)
    let named = try KeyWorkspace()
    _ = try run(text, named)
    let first = try FrontendConfig.load(path: named.directory + "/frontend.config.yaml")
    XCTAssertEqual(first.obfuscationNonce, "o16/H5U1Ee0=")
    let unnamed = try KeyWorkspace()
    _ = try run(text.split(separator: "\n").filter { !$0.hasPrefix("obfuscation") }.joined(separator: "\n"), unnamed)
    let second = try FrontendConfig.load(path: unnamed.directory + "/frontend.config.yaml")
    XCTAssertEqual(second.obfuscationNonce?.count, 64)
  }

  func testWithoutTheCAKey() throws {
    let space = try KeyWorkspace()
    let stock = try stock()
    let notes = try run(text(stock, withCAKey: false), space)
    XCTAssertTrue(notes.contains { $0.hasPrefix("WARNING") && $0.contains("config reissue") }, "\(notes)")
    XCTAssertFalse(FileManager.default.fileExists(atPath: space.path("ca.key.pem")))
    XCTAssertEqual(
      try space.frontend().frontend.tls,
      .inline(certificate: stock.certificate.pem, privateKey: stock.key.pkcs1PEM))
    XCTAssertTrue(try space.text("frontend.config.yaml").hasPrefix("# For frontends. WARNING"))
    let key = space.root + "/ca.key.pem"
    try ConfigFile.write(stock.authority.key.pkcs1PEM, to: key)
    var rotation = try KeyRotation(directory: space.directory, caKey: key, now: now)
    _ = try rotation.reissue(validityDays: 365, hostNames: [])
    XCTAssertFalse(try space.text("frontend.config.yaml").contains("RSA PRIVATE KEY"))
    // Given at once, the key makes the detour needless.
    let other = try KeyWorkspace()
    _ = try run(text(stock, withCAKey: false), other, caKey: stock.authority.key.pkcs1PEM)
    XCTAssertFalse(try other.text("frontend.config.yaml").contains("RSA PRIVATE KEY"))
  }

  func testOtherKindsOfTLS() throws {
    let stock = try stock()
    let plain = try KeyWorkspace()
    let notes = try run(
      text(
        stock,
        frontend: [
          ConfigEntry("use_plain_http", .boolean(true)), ConfigEntry("proxy_header", .text("X-Forwarded-For")),
        ]),
      plain)
    XCTAssertEqual(try plain.frontend().frontend.tls, .plainHTTP)
    XCTAssertTrue(notes.contains { $0.contains("trusted_proxies") }, "\(notes)")
    let files = try KeyWorkspace()
    _ = try run(
      text(
        stock,
        frontend: [
          ConfigEntry("tls_certificate_filename", .text("/c.pem")),
          ConfigEntry("tls_private_key_filename", .text("/k.pem")),
        ]), files)
    XCTAssertEqual(try files.frontend().frontend.tls, .files(certificate: "/c.pem", privateKey: "/k.pem"))
    let autocert = try KeyWorkspace()
    let more = try run(text(stock, frontend: [ConfigEntry("autocert_cert_cache", .text("/cache"))]), autocert)
    XCTAssertTrue(more.contains { $0.contains("ACME") }, "\(more)")
  }

  func testFilesThatDoNotFitTogetherAreRefused() throws {
    let (one, other) = try (stock(), stock())
    let space = try KeyWorkspace()
    let mixed = Stock(authority: one.authority, key: other.key, certificate: one.certificate)
    XCTAssertTrue(KeyWorkspace.refusal { _ = try run(text(mixed), space) }.contains("not the certificate of"))
    let foreign = Stock(authority: one.authority, key: other.key, certificate: other.certificate)
    XCTAssertTrue(KeyWorkspace.refusal { _ = try run(text(foreign), space) }.contains("agents would refuse it"))
    let wrongCA = KeyWorkspace.refusal { _ = try run(text(one), space, caKey: other.key.pkcs1PEM) }
    XCTAssertTrue(wrongCA.contains("does not belong"), wrongCA)
    XCTAssertFalse(FileManager.default.fileExists(atPath: space.directory))
  }
}
