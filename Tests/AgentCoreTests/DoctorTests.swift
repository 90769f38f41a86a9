import Foundation
import NIOSSL
import PKI
import PublicIdentity
import XCTest

@testable import AgentCore

/// `agent doctor` against staged faults: each names its cause and a remedy.
final class DoctorTests: XCTestCase {
  private var servers: [ScriptedServer] = []
  private var proxies: [ScriptedProxy] = []

  override func tearDown() async throws {
    for proxy in proxies { await proxy.stop() }
    for server in servers { await server.stop() }
  }

  private func deployment() throws -> TestDeployment { try TestDeployment.shared.get() }

  private func server(
    _ frontend: FakeFrontend? = nil, tls: NIOSSLContext? = nil,
    _ script: (@Sendable (ScriptedServer.Request) -> ScriptedServer.Reply?)? = nil
  ) async throws -> ScriptedServer {
    let frontend = try frontend ?? FakeFrontend(deployment())
    let server = try await ScriptedServer(tls: tls) { script?($0) ?? frontend.handle($0) }
    servers.append(server)
    return server
  }

  private func examine(
    _ url: String, in directory: TemporaryDirectory? = nil, now: Date = Date(),
    change: (inout AgentSettings) -> Void = { _ in }
  ) async throws -> DoctorReport {
    let directory = try directory ?? TemporaryDirectory()
    var settings = try deployment().settings([url], in: directory)
    settings.connectionTimeout = .seconds(60)
    change(&settings)
    return await Doctor(settings: settings, now: { now }).examine()
  }

  private func assertFailure(
    _ report: DoctorReport, _ check: String, _ detail: String, _ remedy: String, file: StaticString = #filePath,
    line: UInt = #line
  ) {
    XCTAssertFalse(report.passed, file: file, line: line)
    let failed = report.lines.filter { !$0.passed }
    XCTAssertEqual(failed.map(\.check), [check], report.text, file: file, line: line)
    XCTAssertTrue(failed.first?.detail.contains(detail) == true, report.text, file: file, line: line)
    XCTAssertTrue(failed.first?.remedy.contains(remedy) == true, report.text, file: file, line: line)
  }

  func testAHealthyServerPassesAndNothingIsChanged() async throws {
    let frontend = FakeFrontend(try deployment())
    let server = try await server(frontend, tls: try deployment().tls())
    let report = try await examine(server.url)
    XCTAssertTrue(report.passed, report.text)
    XCTAssertEqual(report.lines.map(\.check), ["identity", "dns", "connection", "tls", "server.pem", "round-trip"])
    XCTAssertTrue(report.text.contains("not enrolled yet"))
    XCTAssertFalse(frontend.isEnrolled)
    XCTAssertEqual(server.count("reader"), 0, "no task is taken")
    XCTAssertTrue(report.json.contains("\"passed\" : true"))
  }

  func testAnEnrolledAgentMakesARoundTrip() async throws {
    let directory = try TemporaryDirectory()
    let settings = try deployment().settings(["https://x/"], in: directory)
    let state = try Writeback.open(
      path: settings.writebackPath, suffix: settings.writebackSuffix, log: LogRecorder().logger)
    let frontend = FakeFrontend(try deployment(), enrolled: state.privateKey.publicKey)
    let server = try await server(frontend, tls: try deployment().tls())
    let report = try await examine(server.url, in: directory)
    XCTAssertTrue(report.passed, report.text)
    XCTAssertTrue(report.text.contains("this agent is \(state.clientID)"))
    XCTAssertTrue(report.text.contains("the nonce is right"))
  }

  func testNames() async throws {
    let report = try await examine("https://does-not-exist.invalid:8000/")
    assertFailure(report, "dns", "cannot be resolved", "server_urls")
  }

  func testNobodyListens() async throws {
    let server = try await server()
    await server.stop()
    assertFailure(try await examine(server.url), "connection", "Connection refused", "firewalls")
  }

  func testPlainHTTPOnAnHTTPSPort() async throws {
    let server = try await server()
    let report = try await examine("https://127.0.0.1:\(server.port)/")
    assertFailure(report, "tls", "plain HTTP on an HTTPS port", "http://")
  }

  func testACaptivePortal() async throws {
    let page = Array("<html>Please log in</html>".utf8)
    let web = try await server { _ in .answer(200, body: page) }
    assertFailure(try await examine(web.url), "server.pem", "captive portal", "log in")
    let redirect = try await server { _ in .answer(302, headers: [("Location", "http://portal/")]) }
    assertFailure(try await examine(redirect.url), "server.pem", "to http://portal/: a captive portal", "log in")
  }

  func testTLSInspection() async throws {
    let other = try CertificateAuthority.create(now: Date())
    let key = try ECPrivateKey.generate()
    let leaf = try other.issueTLSLeaf(for: key, hostNames: ["127.0.0.1"], now: Date())
    // Of another name than ours, as an inspecting device's authority has.
    let context = try deployment().tls(leaf: leaf.pem, key: try key.pkcs8PEM())
    let report = try await examine(try await server(tls: context).url)
    XCTAssertFalse(report.passed)
    XCTAssertEqual(report.lines.last?.check, "tls", report.text)
  }

  func testAnExpiredCertificate() async throws {
    let key = try ECPrivateKey.generate()
    let past = Date(timeIntervalSinceNow: -400 * 86_400)
    let leaf = try deployment().authority.issueTLSLeaf(for: key, hostNames: [], now: past)
    let context = try deployment().tls(leaf: leaf.pem, key: try key.pkcs8PEM())
    assertFailure(try await examine(try await server(tls: context).url), "tls", "expired", "renew")
  }

  func testAWrongNonce() async throws {
    let report = try await examine(try await server().url) { $0.nonce = "another" }
    assertFailure(report, "round-trip", "403", "Client.nonce")
  }

  func testAnotherDeployment() async throws {
    let other = try CertificateAuthority.create(now: Date())
    let pem = try other.issueMessageCertificate(for: deployment().serverKey.publicKey, now: Date()).pem
    let server = try await server { $0.uri.hasSuffix("server.pem") ? .answer(200, body: Array(pem.utf8)) : nil }
    assertFailure(try await examine(server.url), "server.pem", "not trusted", "another deployment")
    let named = try await self.server()
    let report = try await examine(named.url) { $0.pinnedServerName = "Else" }
    assertFailure(report, "server.pem", "common name", "pinned_server_name")
  }

  func testAWrongClock() async throws {
    let pem = try deployment().serverPEM
    let server = try await server { request in
      guard request.uri.hasSuffix("server.pem") else { return nil }
      return .answer(200, headers: [("Date", "Wed, 21 Oct 2015 07:28:00 GMT")], body: Array(pem.utf8))
    }
    assertFailure(try await examine(server.url), "clock", "ahead of the server", "timedatectl")
    XCTAssertEqual(HTTPDate.parse("Thu, 01 Jan 1970 00:01:00 GMT"), Date(timeIntervalSince1970: 60))
  }

  func testAProxyThatAsksForAPassword() async throws {
    let server = try await server(tls: try deployment().tls())
    let proxy = try await ScriptedProxy(to: server.port, credentials: "Basic x")
    proxies.append(proxy)
    let policy = try ProxyPolicy(proxy: proxy.url, config: nil, environment: [:])
    let report = try await examine("https://frontend.test/") { $0.proxies = policy }
    assertFailure(report, "proxy", "407", "proxy_config")
  }

  func testStatuses() async throws {
    for (status, remedy) in [(404, "base_path"), (503, "server's log"), (400, "https://"), (418, "GUI's")] {
      let server = try await server { _ in .answer(status) }
      assertFailure(try await examine(server.url), "server.pem", "\(status)", remedy)
    }
  }
}
