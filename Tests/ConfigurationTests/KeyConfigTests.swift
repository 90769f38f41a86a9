import Foundation
import XCTest

@testable import Configuration

/// Former message keys, CURVE keys, and stock server files.
final class KeyConfigTests: XCTestCase {
  private static let key = "\"-----BEGIN RSA PRIVATE KEY-----\\nc2VjcmV0\\n-----END RSA PRIVATE KEY-----\\n\""
  private static let certificate = "\"-----BEGIN CERTIFICATE-----\\ncHVibGlj\\n-----END CERTIFICATE-----\\n\""
  private static let z85 = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

  private func worker(_ frontend: String = "", _ workers: String = "{bind_endpoint: \"ipc:///w\"}") -> String {
    """
    Client: {nonce: abc=}
    Frontend:
      private_key: \(Self.key)
      certificate: \(Self.certificate)
    \(frontend)
    CryptoWorkers: \(workers)

    """
  }

  private func previous(_ until: String) -> String {
    "  previous_private_keys: [{private_key: \(Self.key), certificate: \(Self.certificate), accept_until: \(until)}]"
  }

  private func refusal(_ text: String) -> String {
    do {
      _ = try WorkerConfig.parse(text: text, file: "w.yaml")
      return "accepted"
    } catch {
      XCTAssertFalse(error.description.contains("c2VjcmV0"))
      XCTAssertFalse(error.description.contains(Self.z85))
      return error.description
    }
  }

  func testPreviousKeys() throws {
    for until in ["2026-12-31T00:00:00Z", "\"2026-12-31T00:00:00Z\""] {
      let keys = try WorkerConfig.parse(text: worker(previous(until)), file: "w.yaml").previousKeys
      XCTAssertEqual(keys.map(\.acceptUntil), [Date(timeIntervalSince1970: 1_798_675_200)])
      let again = ConfigValue.list(keys.map(\.value))
      XCTAssertTrue(try again.yaml().contains("2026-12-31T00:00:00Z"))
    }
    for until in ["soon", "2026", "\"\""] {
      let message = refusal(worker(previous(until)))
      XCTAssertTrue(message.contains("previous_private_keys[0].accept_until: expected a time such as"), message)
    }
    XCTAssertTrue(refusal(worker("  previous_private_keys: 1")).contains("expected a list of sections"))
    XCTAssertTrue(refusal(worker("  previous_private_keys: [{accept_until: x}]")).contains("private_key: expected"))
  }

  private func curve(_ publicKey: String = z85, _ secretKey: String = z85, _ peers: String? = nil) -> String {
    "{public_key: \"\(publicKey)\", secret_key: \"\(secretKey)\", peer_public_keys: \(peers ?? "[\"\(Self.z85)\"]")}"
  }

  func testCurveOpensTheNetwork() throws {
    let remote = "{bind_endpoint: \"tcp://0.0.0.0:9000\", curve: \(curve())}"
    let config = try WorkerConfig.parse(text: worker("", remote), file: "w.yaml")
    XCTAssertEqual(config.bindEndpoint, .tcp(host: "0.0.0.0", port: 9000))
    XCTAssertFalse("\(try XCTUnwrap(config.curve))".contains("secret"))
    let plain = refusal(worker("", "{bind_endpoint: \"tcp://0.0.0.0:9000\"}"))
    XCTAssertTrue(plain.contains("run: microraptor config workers --directory DIRECTORY tcp://0.0.0.0:9000"), plain)
    for (text, key) in [
      (curve("short"), "public_key"), (curve(Self.z85, String(repeating: "ä", count: 20)), "secret_key"),
      (curve(Self.z85, Self.z85, "[]"), "peer_public_keys"), (curve(Self.z85, Self.z85, "[x]"), "peer_public_keys"),
    ] {
      let message = refusal(worker("", "{bind_endpoint: \"ipc:///w\", curve: \(text)}"))
      XCTAssertTrue(message.contains("CryptoWorkers.curve.\(key)"), message)
    }
    let masked = SecretMask.apply(try ConfigValue.parse(text: worker("", remote), file: "w"))
    XCTAssertEqual(masked[path: ["CryptoWorkers", "curve", "secret_key"]], .text("(hidden)"))
    XCTAssertEqual(masked[path: ["CryptoWorkers", "curve", "public_key"]], .text(Self.z85))
  }

  func testEditing() throws {
    var value = try ConfigValue.parse(text: "a: {b: 1, c: x}\nd: y\n", file: "f")
    value.set(["a", "b"], .integer(2))
    value.set(["a", "e", "f"], .text("new"))
    value.set(["a", "c"], nil)
    value.set(["d", "none", "at", "all"], nil)
    value.set(["g"], nil)
    XCTAssertEqual(value[path: ["a", "b"]], .integer(2))
    XCTAssertNil(value[path: ["a", "c"]])
    XCTAssertEqual(value[path: ["a", "e", "f"]], .text("new"))
    XCTAssertEqual(value["d"], .text("y"))
    XCTAssertNil(value["g"])
    XCTAssertEqual(value[path: []], value)
  }

  func testAStockServerFileOfANewerVersion() throws {
    let text = """
      version: {name: velociraptor, version: 0.99.0, brand_new: 1}
      Client:
        server_urls: ["https://a:8000/"]
        ca_certificate: \(Self.certificate)
        nonce: abc=
        future: {x: 1}
        local_buffer: {memory_size: 1000000, another: 2}
      GUI: {whatever: [1, 2]}
      Frontend:
        hostname: a
        bind_port: 8000
        certificate: \(Self.certificate)
        private_key: \(Self.key)
        dyn_dns: {}
        novelty: true
        resources: {expected_clients: 5, novel_limit: 7}
      unknown_section: {}

      """
    let stock = try StockServerFile.parse(text: text, file: "server.config.yaml")
    XCTAssertEqual(
      stock.foreign.sorted(),
      ["Client.future", "Client.local_buffer.another", "Frontend.resources.novel_limit"])
    XCTAssertNil(stock.client["future"])
    XCTAssertEqual(stock.client[path: ["local_buffer", "memory_size"]], .integer(1_000_000))
    XCTAssertEqual(stock.resources, .section([ConfigEntry("expected_clients", .integer(5))]))
    XCTAssertEqual(stock.bindPort, 8000)
    XCTAssertNil(stock.caPrivateKey)
    XCTAssertFalse(stock.usesAutocert)
    // The same keys in a file of ours are mistakes.
    XCTAssertThrowsError(try ClientConfig.parse(text: text, file: "c.yaml"))
  }
}
