import Foundation
import PKI
import XCTest

@testable import AgentCore

/// A proxy that opens TLS with an authority of its own: refused in self-signed mode, let through by public roots, and
/// the envelope protects all the same (http.md §8).
final class InspectionTests: AgentCase {
  private func inspector(_ authority: CertificateAuthority, to port: Int) async throws -> ScriptedProxy {
    let key = try ECPrivateKey.generate()
    let leaf = try authority.issueTLSLeaf(for: key, hostNames: ["127.0.0.1"], now: Date())
    return try await ScriptedProxy(
      to: port, inspecting: deployment().tls(leaf: leaf.pem, key: key.pkcs8PEM(), protocols: ["http/1.1"]))
  }

  private func settings(_ url: String, _ proxy: ScriptedProxy, _ directory: TemporaryDirectory) throws -> AgentSettings
  {
    var settings = try deployment().settings([url], in: directory)
    settings.proxies = try ProxyPolicy(proxy: proxy.url, config: nil, environment: [:])
    return settings
  }

  func testMessagesStaySealedAndTheLogSaysWhatItSees() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await server(frontend)
    let authority = try CertificateAuthority.create(now: Date())
    let proxy = try await inspector(authority, to: server.port)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"], name: "Secret.Artifact")]))
    // As where the inspecting device's authority is installed on the host.
    let roots = directory.file("roots.pem")
    try authority.certificate.pem.write(toFile: roots, atomically: true, encoding: .utf8)
    var settings = try settings(server.url, proxy, directory)
    settings.tls.useSelfSigned = false
    settings.tls.systemRoots = roots
    settings.compress = false
    try start(settings)
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    let seen = String(decoding: proxy.seen, as: UTF8.self)
    XCTAssertTrue(seen.contains("POST /control"), "it reads HTTP")
    for secret in ["Secret.Artifact", TestDeployment.nonce, "{\"n\":1}", "E.Foreman"] {
      XCTAssertFalse(seen.contains(secret), secret)
    }
    XCTAssertTrue(log.contains("TLS ends at a proxy or is inspected on the way, messages stay sealed"))
    XCTAssertEqual(log.all.filter { $0.contains("is inspected") }.count, 1, "once for each certificate")
    XCTAssertTrue(log.contains("proxy") || log.contains("through the proxy"))
    await stopAll()
    await proxy.stop()
  }

  func testSelfSignedModeRefusesTheInspectorAndNamesIt() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await server(frontend)
    let proxy = try await inspector(CertificateAuthority.create(now: Date()), to: server.port)
    do {
      _ = try await agent(settings(server.url, proxy, directory)).run(once: true)
      XCTFail("it must be refused")
    } catch {
      XCTAssertTrue("\(error)".contains("refused") && "\(error)".contains("It shows: "), "\(error)")
    }
    XCTAssertFalse(String(decoding: proxy.seen, as: UTF8.self).contains("POST"))
    await proxy.stop()
  }
}
