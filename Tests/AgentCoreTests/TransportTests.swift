import Foundation
import NIOSSL
import PKI
import PublicIdentity
import XCTest

@testable import AgentCore

final class BaseURLTests: XCTestCase {
  func testParts() throws {
    let url = try BaseURL("https://[::1]:8000/base/")
    XCTAssertEqual(url.hostHeader, "[::1]:8000")
    XCTAssertEqual(url.target("reader", redirected: true), "/base/reader?r=1")
    XCTAssertEqual(try BaseURL("https://[::1]/").hostHeader, "[::1]")
    XCTAssertEqual(try BaseURL("http://h/").origin, "http://h:80")
    XCTAssertEqual(try BaseURL("http://h/").hostHeader, "h")
  }

  func testWebsocketsHaveAnHTTPForm() throws {
    let secure = try BaseURL("wss://h:8000/base/")
    XCTAssertTrue(secure.usesTLS && secure.isWebSocket)
    XCTAssertEqual(try secure.httpForm().text, "https://h:8000/base/")
    XCTAssertEqual(try BaseURL("ws://h/").httpForm().text, "http://h/")
    XCTAssertEqual(try BaseURL("https://h/").httpForm().text, "https://h/")
  }

  func testWhatIsRefused() {
    for text in ["", "https://h", "h/", "https:///", "ftp://h/"] {
      XCTAssertThrowsError(try BaseURL(text), text)
    }
  }
}

final class TransportTests: XCTestCase {
  private var servers: [ScriptedServer] = []
  private var transports: [NIOTransport] = []

  override func tearDown() async throws {
    for transport in transports { await transport.close() }
    for server in servers { await server.stop() }
  }

  private func deployment() throws -> TestDeployment { try TestDeployment.shared.get() }

  private func server(
    tls: NIOSSLContext? = nil, _ handler: @escaping ScriptedServer.Handler = { _ in .answer(200) }
  ) async throws -> ScriptedServer {
    let server = try await ScriptedServer(tls: tls, handler: handler)
    servers.append(server)
    return server
  }

  private func transport(_ change: (inout AgentSettings) -> Void = { _ in }) throws -> NIOTransport {
    var settings = AgentSettings()
    let deployment = try deployment()
    settings.caCertificate = deployment.authority.certificate.pem
    settings.tls.useSelfSigned = true
    change(&settings)
    let transport = try NIOTransport(
      settings: settings, rules: DeploymentLeafRules(caCertificate: settings.caCertificate))
    transports.append(transport)
    return transport
  }

  private func post(
    _ transport: NIOTransport, _ server: ScriptedServer, host: String = "127.0.0.1", body: [UInt8]? = [1, 2, 3],
    change: (inout TransportRequest) -> Void = { _ in }
  ) async throws -> TransportAnswer {
    let url = try BaseURL("\(server.usesTLS ? "https" : "http")://\(host):\(server.port)/base/")
    var request = TransportRequest(url: url, handler: "control", body: body)
    change(&request)
    return try await transport.perform(request)
  }

  private func refusal(_ transport: NIOTransport, _ server: ScriptedServer) async -> String {
    do {
      _ = try await post(transport, server)
      return "accepted"
    } catch {
      return "\(error)"
    }
  }

  func testHeadersAreThoseOfAnAgent() async throws {
    let server = try await server()
    let transport = try transport()
    _ = try await post(transport, server) {
      $0.isUrgent = true
      $0.isRedirected = true
    }
    _ = try await post(transport, server, body: nil)
    let requests = server.requests
    XCTAssertEqual(requests[0].method, "POST")
    XCTAssertEqual(requests[0].uri, "/base/control?r=1")
    XCTAssertEqual(requests[0].headers["User-Agent"], ["Velociraptor"])
    XCTAssertEqual(requests[0].headers["Content-Type"], ["application/binary"])
    XCTAssertEqual(requests[0].headers["X-Priority"], ["urgent"])
    XCTAssertEqual(requests[0].headers["Content-Length"], ["3"])
    XCTAssertEqual(requests[0].headers["Host"], ["127.0.0.1:\(server.port)"])
    XCTAssertEqual(requests[0].body, [1, 2, 3])
    XCTAssertEqual(requests[1].method, "GET")
    XCTAssertEqual(requests[1].headers["X-Priority"], [])
    XCTAssertEqual(requests[0].connection, requests[1].connection, "keep-alive")
  }

  func testALargeBodyArrivesWhole() async throws {
    let server = try await server(tls: try deployment().tls())
    let body = (0..<3_000_001).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    _ = try await post(transport(), server, body: body)
    XCTAssertEqual(server.requests.first?.body, body)
  }

  func testStatusLocationAndRetryAfterAreReported() async throws {
    let server = try await server { _ in
      .answer(503, headers: [("Location", "https://x/"), ("Retry-After", "17")], body: Array("no".utf8))
    }
    let answer = try await post(transport(), server)
    XCTAssertEqual(
      answer,
      TransportAnswer(status: 503, body: Array("no".utf8), location: "https://x/", retryAfter: .seconds(17)))
    for text in ["", "soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT"] {
      XCTAssertNil(ResponseAssembler.retryAfter(text), text)
    }
  }

  func testManyPadsAreOneBody() async throws {
    let server = try await server { _ in .chunks((0..<20_000).map { _ in [0x5a, 0x01, 0x00] }) }
    let answer = try await post(transport(), server)
    XCTAssertEqual(answer.body.count, 60_000)
  }

  func testCutResponsesAreErrors() async throws {
    for reply: ScriptedServer.Reply in [.cut([1, 2, 3]), .cut([]), .close] {
      let server = try await server { _ in reply }
      let result = await refusal(try transport(), server)
      XCTAssertTrue(result.contains("closed") || result.contains("cut"), result)
    }
  }

  func testAResponseBeyondTheLimitIsAnError() async throws {
    let server = try await server { _ in .answer(200, body: [UInt8](repeating: 0, count: 5000)) }
    do {
      _ = try await post(transport(), server) { $0.responseLimit = 4999 }
      XCTFail("it was accepted")
    } catch {
      XCTAssertTrue("\(error)".contains("longer than 4999"))
    }
  }

  func testAnIdleConnectionThatTheServerClosedIsNotAFailure() async throws {
    let server = try await server { _ in .answer(200, headers: [("Connection", "close")]) }
    let transport = try transport()
    for _ in 0..<3 { _ = try await post(transport, server) }
    XCTAssertEqual(Set(server.requests.map(\.connection)).count, 3)
  }

  func testNoServerIsAClearError() async throws {
    let server = try await server()
    await server.stop()
    let result = await refusal(try transport(), server)
    XCTAssertEqual(result, "cannot connect to http://127.0.0.1:\(server.port): Connection refused")
  }

  /// client.md §1, `fallback_addresses`: the TLS names stay those of the URL.
  func testAFallbackAddressTakesOver() async throws {
    let server = try await server(tls: try deployment().tls())
    let gone = try await self.server()
    await gone.stop()
    let transport = try transport { settings in
      settings.fallbackAddresses = [
        "127.0.0.1:\(gone.port)": "127.0.0.1:\(server.port)", "nowhere.invalid:1": "127.0.0.1:\(server.port)",
        "127.0.0.1:\(server.port)": "127.0.0.1:1",
      ]
    }
    for place in ["127.0.0.1:\(gone.port)", "nowhere.invalid:1", "127.0.0.1:\(server.port)"] {
      let url = try BaseURL("https://\(place)/")
      let answer = try await transport.perform(TransportRequest(url: url, handler: "control", body: [1]))
      XCTAssertEqual(answer.status, 200, place)
    }
    XCTAssertEqual(server.requests.compactMap { $0.headers["Host"].first }.last, "127.0.0.1:\(server.port)")
    await server.stop()
    do {
      let url = try BaseURL("https://nowhere.invalid:1/")
      _ = try await transport.perform(TransportRequest(url: url, handler: "control", body: [1]))
      XCTFail("both are gone")
    } catch {
      XCTAssertTrue("\(error)".contains("cannot be resolved; fallback address 127.0.0.1:\(server.port): "), "\(error)")
    }
  }

  func testASilentServerTimesOut() async throws {
    let server = try await server { _ in .silence }
    let result = await refusal(try transport { $0.connectionTimeout = .seconds(1) }, server)
    XCTAssertTrue(result.contains("no answer in time"), result)
  }

  func testCancellationEndsAnExchange() async throws {
    let asked = expectation(description: "asked")
    let server = try await server { _ in
      asked.fulfill()
      return .silence
    }
    let transport = try transport()
    let url = try BaseURL(server.url)
    let task = Task { try await transport.perform(TransportRequest(url: url, handler: "control", body: [1])) }
    await fulfillment(of: [asked], timeout: patience)
    task.cancel()
    let result = await task.result
    XCTAssertThrowsError(try result.get())
  }

  // MARK: TLS

  /// A-6: by the CA and the pinned name, whatever the host is called.
  func testTheDeploymentsCertificateIsAcceptedForAnyHost() async throws {
    let server = try await server(tls: try deployment().tls())
    for selfSigned in [true, false] {
      let transport = try transport { $0.tls.useSelfSigned = selfSigned }
      for host in ["127.0.0.1", "localhost"] {
        let answer = try await post(transport, server, host: host)
        XCTAssertEqual(answer.status, 200)
      }
    }
  }

  /// A-7.
  func testAnUnknownAuthorityIsRefused() async throws {
    let other = try CertificateAuthority.create(now: Date())
    let key = try ECPrivateKey.generate()
    let leaf = try other.issueTLSLeaf(for: key, hostNames: ["127.0.0.1"], now: Date())
    let server = try await server(tls: try deployment().tls(leaf: leaf.pem, key: try key.pkcs8PEM()))
    for selfSigned in [true, false] {
      let result = await refusal(try transport { $0.tls.useSelfSigned = selfSigned }, server)
      XCTAssertTrue(result.contains("refused"), result)
    }
    XCTAssertTrue(server.requests.isEmpty)
    let extra = try transport {
      $0.tls.useSelfSigned = false
      $0.tls.rootCertificates = other.certificate.pem
    }
    let answer = try await post(extra, server)
    XCTAssertEqual(answer.status, 200, "root_certs, by the usual rules")
    let directory = try TemporaryDirectory()
    let roots = directory.file("roots.pem")
    try other.certificate.pem.write(toFile: roots, atomically: true, encoding: .utf8)
    let system = try transport {
      $0.tls.useSelfSigned = false
      $0.tls.systemRoots = roots
    }
    let second = try await post(system, server)
    XCTAssertEqual(second.status, 200, "the system's roots, as SSL_CERT_FILE names them")
    let strict = try transport {
      $0.tls.systemRoots = roots
      $0.tls.mode = .thumbprintOnly
    }
    let result = await refusal(strict, server)
    XCTAssertTrue(result.contains("Server certificate had no known thumbprint"), result)
  }

  func testACertificateOfOurAuthorityUnderAnotherNameIsRefused() async throws {
    let deployment = try deployment()
    let key = try ECPrivateKey.generate()
    let leaf = try deployment.authority.issueTLSLeaf(for: key, name: "GRPC_GW", hostNames: [], now: Date())
    let server = try await server(tls: try deployment.tls(leaf: leaf.pem, key: try key.pkcs8PEM()))
    let result = await refusal(try transport(), server)
    XCTAssertTrue(result.contains("for GRPC_GW"), result)
  }

  func testAnExpiredCertificateIsRefused() async throws {
    let deployment = try deployment()
    let key = try ECPrivateKey.generate()
    let past = Date(timeIntervalSinceNow: -400 * 86_400)
    let leaf = try deployment.authority.issueTLSLeaf(for: key, hostNames: [], now: past)
    let server = try await server(tls: try deployment.tls(leaf: leaf.pem, key: try key.pkcs8PEM()))
    let result = await refusal(try transport(), server)
    XCTAssertTrue(result.contains("refused"), result)
  }

  func testThumbprints() async throws {
    let deployment = try deployment()
    let server = try await server(tls: try deployment.tls())
    let print = try Certificate(pem: deployment.leafPEM).thumbprint.lowercased().filter(\.isHexDigit)
    let listed = try transport {
      $0.tls.mode = .thumbprintOnly
      $0.tls.thumbprints = [print]
    }
    let answer = try await post(listed, server)
    XCTAssertEqual(answer.status, 200)
    let result = await refusal(try transport { $0.tls.mode = .thumbprintOnly }, server)
    XCTAssertTrue(result.contains("Server certificate had no known thumbprint"), result)
    let either = try transport { $0.tls.mode = .pkiOrThumbprint }
    let second = try await post(either, server)
    XCTAssertEqual(second.status, 200)
  }

  func testPlainHTTPOnATLSPortIsAnErrorAndNoCrash() async throws {
    let server = try await server()
    let transport = try transport()
    let url = try BaseURL("https://127.0.0.1:\(server.port)/")
    do {
      _ = try await transport.perform(TransportRequest(url: url, handler: "reader", body: [1]))
      XCTFail("it was accepted")
    } catch {
      XCTAssertEqual(error as? AgentError, AgentError(.connection, ""))
    }
  }
}
