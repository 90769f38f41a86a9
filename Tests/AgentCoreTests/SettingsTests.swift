import Configuration
import Foundation
import XCTest

@testable import AgentCore

final class SettingsTests: XCTestCase {
  private func config(_ lines: String = "", url: String = "https://one:8000/") throws -> ClientConfig {
    let pem = try TestDeployment.shared.get().authority.certificate.pem
    let indented = pem.split(separator: "\n").map { "    \($0)\n" }.joined()
    let text = """
      Client:
        server_urls:
        - \(url)
        nonce: abc
        ca_certificate: |
      \(indented)\(lines.split(separator: "\n").map { "  \($0)\n" }.joined())
      """
    return try ClientConfig.parse(text: text, file: "client.yaml")
  }

  func testDefaults() throws {
    let settings = try AgentSettings(config: config(), writeback: "/w")
    XCTAssertEqual(settings.serverURLs, ["https://one:8000/"])
    XCTAssertEqual(settings.minPoll, .seconds(1))
    XCTAssertEqual(settings.maxPoll, .seconds(60))
    XCTAssertEqual(settings.maxPollDeviation, .seconds(30))
    XCTAssertEqual(settings.connectionTimeout, .seconds(300))
    XCTAssertEqual(settings.clientInfoInterval, .seconds(86_400))
    XCTAssertEqual(settings.writebackPath, "/w")
    XCTAssertEqual(settings.sender.limiterPeriod, .milliseconds(100))
    XCTAssertNil(settings.queuePath)
    XCTAssertTrue(settings.compress)
  }

  func testKeysAreTakenOver() throws {
    let settings = try AgentSettings(
      config: config(
        """
        min_poll: 2
        max_poll: 5
        client_info_update_time: -1
        disable_compression: true
        level2_writeback_suffix: .bak
        writeback_linux: /var/state.yaml
        labels: [a]
        local_buffer:
          disk_size: 1000000
          filename_linux: /var/buffer.bin
        """))
    XCTAssertEqual(settings.sender.limiterPeriod, .seconds(2))
    XCTAssertNil(settings.clientInfoInterval)
    XCTAssertFalse(settings.compress)
    XCTAssertEqual(settings.writebackPath, "/var/state.yaml")
    XCTAssertEqual(settings.writebackSuffix, ".bak")
    XCTAssertEqual(settings.queuePath, "/var/buffer.bin")
    XCTAssertEqual(settings.queueDiskSize, 1_000_000)
    XCTAssertEqual(settings.labels, ["a"])
  }

  func testTheCommandLineWins() throws {
    let settings = try AgentSettings(
      config: config("writeback_linux: /a\nlocal_buffer:\n  disk_size: 9\n  filename_linux: /b"), writeback: "/c",
      buffer: "/d")
    XCTAssertEqual(settings.writebackPath, "/c")
    XCTAssertEqual(settings.queuePath, "/d")
  }

  func testWhatThisVersionCannotDoIsSaid() throws {
    XCTAssertThrowsError(try AgentSettings(config: config("proxy_config:\n  pac: http://p/x.pac"))) {
      XCTAssertTrue("\($0)".contains("does not run PAC files"))
    }
  }

  func testTheEnvironmentNamesTheSystemsRoots() throws {
    let config = try config()
    XCTAssertNil(try AgentSettings(config: config, environment: [:]).tls.systemRoots)
    XCTAssertEqual(try AgentSettings(config: config, environment: ["SSL_CERT_FILE": "/x"]).tls.systemRoots, "/x")
    XCTAssertEqual(
      try AgentSettings(config: config, environment: ["SSL_CERT_FILE": "", "SSL_CERT_DIR": "/d"]).tls.systemRoots, "/d")
  }

  func testTheNannyIsNotQuickerThanOneExchange() throws {
    XCTAssertNil(try AgentSettings(config: config()).longestSilence)
    let settings = try AgentSettings(config: config("nanny_max_connection_delay: 600"))
    XCTAssertEqual(settings.longestSilence, .seconds(600))
    let quick = try AgentSettings(config: config("nanny_max_connection_delay: 20"))
    XCTAssertEqual(quick.longestSilence, .seconds(360))
  }

  func testProgramsCanBeForbidden() throws {
    XCTAssertTrue(try AgentSettings(config: config()).allowsExecution)
    XCTAssertFalse(try AgentSettings(config: config("prevent_execve: true")).allowsExecution)
  }

  func testWebsocketURLsAndFallbackAddressesAreTaken() throws {
    let settings = try AgentSettings(
      config: config("ws_ping_wait_sec: 7\nfallback_addresses:\n  one:8000: 10.0.0.1:8001", url: "wss://one:8000/"))
    XCTAssertEqual(settings.serverURLs, ["wss://one:8000/"])
    XCTAssertEqual(settings.webSocketPingWait, .seconds(7))
    XCTAssertEqual(settings.fallbackAddresses, ["one:8000": "10.0.0.1:8001"])
  }
}
