import Foundation
import XCTest

@testable import Configuration

final class RoleConfigTests: XCTestCase {
  private static let certificate = "|\n    -----BEGIN CERTIFICATE-----\n    AAAA\n    -----END CERTIFICATE-----"
  private static let key = "|\n    -----BEGIN PRIVATE KEY-----\n    c2VjcmV0\n    -----END PRIVATE KEY-----"
  private static let secret = Data(repeating: 7, count: 32).base64EncodedString()

  private let frontend = """
    Client:
      ca_certificate: \(certificate)
      max_poll: 10
    Frontend:
      bind_port: 0
      certificate: \(certificate)
      tls_certificate: \(certificate)
      tls_private_key: \(key)
      resources: {expected_clients: 5, connections_per_second: 5000}
    CryptoWorkers:
      endpoints: ["ipc:///run/w1.sock", "tcp://127.0.0.1:9000"]
      routing_secret: \(secret)
    Datastore: {implementation: SQLite, location: /var/lib/m}

    """

  private let worker = """
    Client: {nonce: abc=}
    Frontend:
      certificate: \(certificate)
      private_key: \(key)
    CryptoWorkers: {bind_endpoint: "ipc:///run/w1.sock"}
    Orgs: {OABCD: other=}

    """

  private func refusal(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "accepted"
    } catch {
      return "\(error)"
    }
  }

  private func frontend(_ replace: String, _ with: String) -> String {
    let text = frontend.replacingOccurrences(of: replace, with: with)
    return refusal { _ = try FrontendConfig.parse(text: text, file: "f.yaml") }
  }

  func testFrontend() throws {
    let config = try FrontendConfig.parse(text: frontend, file: "f.yaml")
    XCTAssertEqual(config.client.maxPoll, 10)
    XCTAssertEqual(config.client.nonce, "")
    XCTAssertEqual(config.frontend.bindPort, 0)
    XCTAssertEqual(config.frontend.bindAddress, "0.0.0.0")
    XCTAssertEqual(config.frontend.resources.expectedClients, 5)
    XCTAssertEqual(config.frontend.resources.connectionsPerSecond, 1000)
    XCTAssertEqual(
      config.cryptoWorkers.endpoints, [.ipc(path: "/run/w1.sock"), .tcp(host: "127.0.0.1", port: 9000)])
    XCTAssertEqual(config.cryptoWorkers.routingSecret.count, 32)
    XCTAssertEqual(config.datastore.implementation, .sqlite)
    XCTAssertEqual(config.monitoring.bindPort, 0)
    guard case .inline(_, let key) = config.frontend.tls else { return XCTFail("\(config.frontend.tls)") }
    XCTAssertTrue(key.contains("PRIVATE KEY"))
  }

  func testFrontendRefusesKeysThatAreNotItsBusiness() {
    let message = frontend("  bind_port: 0", "  private_key: \(Self.key)\n  bind_port: 0")
    XCTAssertTrue(message.contains("Frontend.private_key"), message)
    XCTAssertTrue(message.contains("crypto-worker's file"), message)
    XCTAssertFalse(message.contains("c2VjcmV0"), message)
    XCTAssertTrue(frontend("Datastore", "CA: {private_key: x}\nDatastore").contains("CA key stays with the operator"))
  }

  func testFrontendTLSChoices() throws {
    func tls(_ text: String) throws -> FrontendSection.TLS {
      try FrontendConfig.parse(text: text, file: "f.yaml").frontend.tls
    }
    let files = frontend.replacingOccurrences(
      of: "  bind_port: 0", with: "  tls_certificate_filename: /c.pem\n  tls_private_key_filename: /k.pem")
    XCTAssertEqual(try tls(files), .files(certificate: "/c.pem", privateKey: "/k.pem"))
    let plain = frontend.replacingOccurrences(of: "  bind_port: 0", with: "  use_plain_http: true")
    XCTAssertEqual(try tls(plain), .plainHTTP)
    XCTAssertTrue(frontend("  bind_port: 0", "  tls_certificate_filename: /c.pem").contains("found one of them"))
    let none = frontend("  tls_certificate: \(Self.certificate)\n  tls_private_key: \(Self.key)\n", "")
    XCTAssertTrue(none.contains("found none of them (make a leaf with: microraptor config generate)"), none)
  }

  func testOtherFrontendMistakes() {
    XCTAssertTrue(frontend("  bind_port: 0", "  bind_port: 65536").hasPrefix("f.yaml:8: Frontend.bind_port: expected"))
    XCTAssertTrue(frontend("  bind_port: 0", "  base_path: velo").contains("a path such as /velo"))
    XCTAssertTrue(frontend("  bind_port: 0", "  proxy_header: X-Forwarded-For").contains("trusted_proxies"))
    XCTAssertTrue(frontend(Self.secret, "c2hvcnQ=").contains("base64 of 32 random bytes"))
    XCTAssertFalse(frontend(Self.secret, "c2hvcnQ=").contains("c2hvcnQ="))
    XCTAssertTrue(frontend("SQLite", "FileBaseDataStore").contains("SQLite or PostgreSQL"))
    XCTAssertTrue(frontend("/var/lib/m", "relative").contains("an absolute directory"))
    XCTAssertTrue(frontend("CryptoWorkers:", "CryptoWorker:").contains("CryptoWorkers: expected a section, found none"))
  }

  func testPlainTCPBetweenMachinesIsRefused() {
    for endpoint in ["tcp://10.0.0.1:9000", "tcp://0.0.0.0:9000", "tcp://worker.example:9000", "tcp://[::]:9"] {
      let message = frontend("tcp://127.0.0.1:9000", endpoint)
      XCTAssertTrue(message.contains("needs CURVE keys under CryptoWorkers.curve; to make them, run: "), message)
      XCTAssertTrue(message.contains("microraptor config workers --directory DIRECTORY \(endpoint)"), message)
      XCTAssertEqual(try WorkerEndpoint(endpoint, isEncrypted: true).description, endpoint)
      XCTAssertEqual(try WorkerEndpoint(endpoint, isEncrypted: true).needsCurve, true)
    }
    XCTAssertTrue(frontend("tcp://127.0.0.1:9000", "tcp://*:9000").contains("use tcp://0.0.0.0:port"))
    XCTAssertEqual(
      try WorkerEndpoint("dns+tcp://workers.example:9000", isEncrypted: true),
      .dns(host: "workers.example", port: 9000))
    XCTAssertThrowsError(try WorkerEndpoint("dns+tcp://workers.example:9000"), "needs CURVE")
    XCTAssertEqual(try WorkerEndpoint("dns+tcp://localhost:9").description, "dns+tcp://localhost:9")
    for endpoint in ["tcp://a b:1", "tcp://a", "dns+tcp://a", "dns+tcp://:1", "tcp://:1", "tcp://a;b:1"] {
      XCTAssertThrowsError(try WorkerEndpoint(endpoint, isEncrypted: true), endpoint)
    }
    for endpoint in ["ipc://relative", "ipc://@abstract", "inproc://x", "ipc:///" + String(repeating: "a", count: 120)]
    {
      XCTAssertThrowsError(try WorkerEndpoint(endpoint), endpoint)
    }
    for endpoint in ["tcp://127.9.9.9:1", "tcp://[::1]:1", "tcp://localhost:1", "ipc:///a"] {
      XCTAssertEqual(try WorkerEndpoint(endpoint).description, endpoint)
    }
  }

  func testWorker() throws {
    let config = try WorkerConfig.parse(text: worker, file: "w.yaml")
    XCTAssertEqual(config.nonce, "abc=")
    XCTAssertEqual(config.orgs, ["OABCD": "other="])
    XCTAssertEqual(config.pinnedServerName, "VelociraptorServer")
    XCTAssertEqual(config.bindEndpoint, .ipc(path: "/run/w1.sock"))
    XCTAssertEqual(config.resources.expectedClients, 10_000)
    XCTAssertTrue(config.privateKey.contains("PRIVATE KEY"))
    for (text, with) in [("other=", "abc="), ("OABCD", "C.1"), ("nonce: abc=", "x: y"), ("private_key", "key")] {
      let message = refusal {
        _ = try WorkerConfig.parse(text: worker.replacingOccurrences(of: text, with: with), file: "w.yaml")
      }
      XCTAssertTrue(message.hasPrefix("w.yaml:"), message)
      XCTAssertFalse(message.contains("abc="), message)
    }
  }

  func testWorkerRefusesAFileThatOthersMayRead() throws {
    let path = NSTemporaryDirectory() + "microraptor-\(UUID().uuidString).yaml"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try ConfigFile.write(worker, to: path, mode: 0o640)
    let message = refusal { _ = try WorkerConfig.load(path: path) }
    XCTAssertEqual(
      message, "\(path): expected mode 0600, because the file holds secrets, found mode 0640 (run: chmod 600 \(path))")
    try ConfigFile.write(worker, to: path)
    XCTAssertEqual(try WorkerConfig.load(path: path).nonce, "abc=")
    try ConfigFile.write(frontend, to: path, mode: 0o604)
    XCTAssertTrue(refusal { _ = try FrontendConfig.load(path: path) }.contains("chmod 600"))
  }

  func testAdmin() throws {
    let text = """
      version: {name: velociraptor, version: 0.77.2}
      Client:
        server_urls: ["https://a/"]
        nonce: abc=
        ca_certificate: \(Self.certificate)
      CA: {private_key_filename: /d/ca.key.pem}
      Datastore: {implementation: postgresql, location: "postgresql://u:p@h/db"}

      """
    let config = try AdminConfig.parse(text: text, file: "a.yaml")
    XCTAssertEqual(config.datastore.implementation, .postgresql)
    XCTAssertEqual(config.caPrivateKeyFilename, "/d/ca.key.pem")
    let again = try ClientConfig.parse(text: try config.clientFile.yaml(), file: "again.yaml")
    XCTAssertEqual(again.client, config.client)
    XCTAssertEqual(again.version.version, "0.77.2")
  }
}
