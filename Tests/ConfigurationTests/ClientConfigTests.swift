import XCTest

@testable import Configuration

final class ClientConfigTests: XCTestCase {
  private let pem = "|\n    -----BEGIN CERTIFICATE-----\n    AAAA\n    -----END CERTIFICATE-----"

  /// A small valid file; lines of `extra` are keys of the Client section.
  private func file(_ extra: String = "", top: String = "") -> String {
    let lines = extra.isEmpty ? "" : extra.split(separator: "\n").map { "  \($0)\n" }.joined()
    return "Client:\n  server_urls: [\"https://a:8000/\"]\n  nonce: abc=\n\(lines)  ca_certificate: \(pem)\n\(top)"
  }

  private func parse(_ extra: String = "", top: String = "") throws -> ClientSection {
    try ClientConfig.parse(text: file(extra, top: top), file: "client.yaml").client
  }

  private func assertRefused(
    _ text: String, _ description: String, file: StaticString = #filePath, line: UInt = #line
  ) {
    XCTAssertThrowsError(try ClientConfig.parse(text: text, file: "client.yaml"), file: file, line: line) { error in
      XCTAssertEqual("\(error)", description, file: file, line: line)
    }
  }

  func testStockClientFileLoads() throws {
    let config = try ClientConfig.parse(text: StockFiles.client, file: "client.yaml")
    XCTAssertEqual(config.version.name, "velociraptor")
    XCTAssertEqual(config.version.version, "0.77.2")
    let client = config.client
    XCTAssertEqual(client.serverURLs, ["https://127.0.0.1:18100/"])
    XCTAssertEqual(client.nonce, "m1AUbpfvkdY=")
    XCTAssertTrue(client.useSelfSignedSSL)
    XCTAssertTrue(client.caCertificate.hasPrefix("-----BEGIN CERTIFICATE-----\n"))
    XCTAssertEqual(client.writebackLinux, "/var/lib/velociraptor/client.writeback.yaml")
    XCTAssertEqual(client.level2WritebackSuffix, ".bak")
    XCTAssertEqual(client.maxPoll, 5)
    XCTAssertEqual(client.nannyMaxConnectionDelay, 600)
    XCTAssertEqual(client.localBuffer.diskSize, 1_073_741_824)
    XCTAssertEqual(client.bufferPath(environment: [:]), "/var/lib/velociraptor/client_buffer.bin")
    XCTAssertTrue(client.others.map(\.key).contains("windows_installer"))
  }

  func testStockServerFileIsAcceptedAsAClientFile() throws {
    let client = try ClientConfig.parse(text: StockFiles.server, file: "server.yaml").client
    XCTAssertEqual(client.nonce, "m1AUbpfvkdY=")
  }

  func testDefaults() throws {
    let client = try parse()
    XCTAssertEqual(client.pinnedServerName, "VelociraptorServer")
    XCTAssertEqual(client.minPoll, 1)
    XCTAssertFalse(client.isMinPollSet)
    XCTAssertEqual(client.maxPoll, 60)
    XCTAssertEqual(client.maxPollStd, 30)
    XCTAssertEqual(client.webSocketPingWait, 60)
    XCTAssertEqual(client.connectionTimeout, 300)
    XCTAssertEqual(client.maxUploadSize, 5_242_880)
    XCTAssertEqual(client.localBuffer.memorySize, 52_428_800)
    XCTAssertEqual(client.localBuffer.diskSize, 0)
    XCTAssertNil(client.bufferPath(environment: [:]))
    XCTAssertEqual(client.concurrency, 2)
    XCTAssertFalse(client.isConcurrencySet)
    XCTAssertEqual(client.defaultMaxWait, 100)
    XCTAssertEqual(client.defaultServerFlowStatsUpdate, 5)
    XCTAssertEqual(client.clientInfoUpdateTime, 86_400)
    XCTAssertEqual(client.nannyMaxConnectionDelay, 0)
    XCTAssertFalse(client.disableCompression)
    XCTAssertEqual(client.crypto.certificateVerificationMode, .pki)
  }

  func testGivenValues() throws {
    let client = try parse(
      """
      min_poll: 3
      concurrency: 4
      client_info_update_time: -1
      labels: [a, b]
      fallback_addresses: {"a:8000": "10.0.0.1:8000"}
      Crypto:
        certificate_verification_mode: pki_or_thumbprint
        certificate_thumbprints: ["\(String(repeating: "AB:", count: 31))CD"]
        allow_weak_tls_server: true
      proxy_config: {http: "http://p:3128", proxy_url_regexp: {"^https://a": ""}, ignore_environment: true}
      """)
    XCTAssertEqual(client.minPoll, 3)
    XCTAssertTrue(client.isMinPollSet)
    XCTAssertTrue(client.isConcurrencySet)
    XCTAssertEqual(client.clientInfoUpdateTime, -1)
    XCTAssertEqual(client.labels, ["a", "b"])
    XCTAssertEqual(client.fallbackAddresses, ["a:8000": "10.0.0.1:8000"])
    XCTAssertEqual(client.crypto.certificateVerificationMode, .pkiOrThumbprint)
    XCTAssertEqual(client.crypto.certificateThumbprints, [String(repeating: "ab", count: 31) + "cd"])
    XCTAssertEqual(client.proxyConfig?.urlRegexp, ["^https://a": ""])
    XCTAssertEqual(client.proxyConfig?.ignoreEnvironment, true)
  }

  func testMissingKeysAreRefused() {
    let generate = "make the file with: microraptor config generate"
    assertRefused(
      "Client:\n  nonce: a\n  server_urls: [\"https://a/\"]\n",
      "client.yaml:1: Client.ca_certificate: expected the CA certificate as PEM, found no such key (\(generate))")
    assertRefused(
      file().replacingOccurrences(of: "abc=", with: "\"\""),
      "client.yaml:3: Client.nonce: expected the deployment's nonce, found an empty text (\(generate))")
    assertRefused(
      file().replacingOccurrences(of: "[\"https://a:8000/\"]", with: "[]"),
      "client.yaml:2: Client.server_urls: expected a list of at least one URL, found an empty list")
    assertRefused(
      "version: {name: x}\n",
      "client.yaml:1: Client: expected a section with the client's settings, found no such section")
  }

  func testWrongURLsAreRefused() {
    for url in [
      "https://a:8000", "ftp://a/", "a:8000/", "https:///", "https://a:99999/", "https://a b/", "https://u@a/",
    ] {
      XCTAssertThrowsError(
        try ClientConfig.parse(text: file().replacingOccurrences(of: "https://a:8000/", with: url), file: "c"), url)
    }
    assertRefused(
      file().replacingOccurrences(of: "8000/", with: "8000"),
      "client.yaml:2: Client.server_urls: expected https://, http://, wss:// or ws:// URLs that end in /, "
        + "found “https://a:8000” (add the final /)")
  }

  func testUnknownKeysAreRefusedWithTheNearestKnownOne() {
    assertRefused(
      file("max_pol: 5"),
      "client.yaml:4: Client.max_pol: expected a known key, found an unknown key (did you mean max_poll?)")
    assertRefused(
      file("Crypto:\n  what_is_this: 1"),
      "client.yaml:5: Client.Crypto.what_is_this: expected a known key, found an unknown key "
        + "(remove it, or check its section)"
    )
    XCTAssertThrowsError(try parse(top: "Clients: {}\n"))
  }

  func testWrongKindsAreRefused() {
    assertRefused(
      file("max_poll: soon"),
      "client.yaml:4: Client.max_poll: expected an integer from 0 to 31536000, found a text or number")
    assertRefused(
      file("max_poll: -1"), "client.yaml:4: Client.max_poll: expected an integer from 0 to 31536000, found -1")
    assertRefused(
      file("use_self_signed_ssl: maybe"),
      "client.yaml:4: Client.use_self_signed_ssl: expected true or false, found a text or number")
    assertRefused(
      file("local_buffer: 5"),
      "client.yaml:4: Client.local_buffer: expected a section with keys, found a text or number")
    assertRefused(file("labels: a"), "client.yaml:4: Client.labels: expected a list of texts, found a text or number")
    assertRefused(
      file("Crypto: {certificate_verification_mode: NONE}"),
      "client.yaml:4: Client.Crypto.certificate_verification_mode: expected PKI, PKI_OR_THUMBPRINT or THUMBPRINT_ONLY, "
        + "found “NONE”")
  }

  func testSyntaxErrorsNameTheLineAndShowNoText() {
    XCTAssertThrowsError(try ClientConfig.parse(text: "Client:\n  nonce: \"secret\n  x: [\n", file: "c.yaml")) {
      error in
      XCTAssertTrue("\(error)".hasPrefix("c.yaml:"), "\(error)")
      XCTAssertFalse("\(error)".contains("secret"), "\(error)")
    }
    XCTAssertThrowsError(try parse("nonce: other")) { error in
      XCTAssertTrue("\(error)".contains("each key once"), "\(error)")
    }
    XCTAssertThrowsError(try ClientConfig.parse(text: "", file: "c.yaml"))
    XCTAssertThrowsError(try ClientConfig.parse(text: "- 1\n", file: "c.yaml"))
    XCTAssertThrowsError(try ClientConfig.parse(text: "\u{0}\u{1}", file: "c.yaml"))
  }

  /// A generator that gives the same numbers in each run.
  private struct Repeatable: RandomNumberGenerator {
    var state: UInt64 = 0x9e37_79b9_7f4a_7c15

    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ (state >> 29)
    }
  }

  func testDamagedFilesNeverCrash() {
    var generator = Repeatable()
    let bytes = Array(StockFiles.client.utf8)
    let pieces = [
      "", ":", "- ", "\n", "  ", "&a ", "*a", "[", "{", "|", "\"", "<<: ", "!!int ", "%", "\u{0}", "\u{fffd}", "---\n",
    ]
    for _ in 0..<1500 {
      var text = bytes
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let start = Int.random(in: 0..<text.count, using: &generator)
        let end = min(text.count, start + Int.random(in: 0...12, using: &generator))
        text.replaceSubrange(start..<end, with: Array((pieces.randomElement(using: &generator) ?? "").utf8))
      }
      let damaged = String(decoding: text, as: UTF8.self)
      _ = try? ClientConfig.parse(text: damaged, file: "c.yaml")
      _ = try? SecretMask.apply(ConfigValue.parse(text: damaged, file: "c.yaml")).yaml()
    }
  }

  func testDeepNestingIsAnError() {
    XCTAssertThrowsError(
      try ClientConfig.parse(text: "Client: " + String(repeating: "[", count: 100_000), file: "c.yaml"))
    XCTAssertThrowsError(
      try ClientConfig.parse(
        text: "Client: " + String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000), file: "c.yaml"))
  }

  func testAMissingFileNamesTheRemedy() {
    XCTAssertThrowsError(try ClientConfig.load(path: "/nonexistent/client.yaml")) { error in
      XCTAssertTrue("\(error)".contains("microraptor config generate"), "\(error)")
    }
  }

  func testExpansion() {
    let environment = ["HOME": "/root", "A_1": "x"]
    func expand(_ text: String) -> String {
      PathExpansion.expand(text, nonce: "a/b+c=", environment: environment)
    }
    XCTAssertEqual(expand("$HOME/${A_1}/%HOME%/$$HOME"), "/root/x//root/$HOME")
    XCTAssertEqual(expand("/v-$NONCE.yaml %NONCE%"), "/v-a_b_c_.yaml a_b_c_")
    XCTAssertEqual(expand("$UNSET|${UNSET}|%UNSET%|100%|$|${|%"), "|||100%|$|${|%")
    XCTAssertEqual(PathExpansion.expand("$NONCE", environment: [:]), "")
  }

  func testServerURLParts() throws {
    let url = try XCTUnwrap(ServerURL("wss://[::1]:8443/velo/"))
    XCTAssertEqual(url.scheme, .wss)
    XCTAssertEqual(url.host, "::1")
    XCTAssertEqual(url.port, 8443)
    XCTAssertEqual(url.path, "/velo/")
    XCTAssertEqual(url.authority, "[::1]:8443")
    XCTAssertEqual(ServerURL("https://a/")?.port, 443)
    XCTAssertEqual(ServerURL("http://a/")?.port, 80)
  }
}
