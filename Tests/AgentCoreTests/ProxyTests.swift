import Configuration
import Foundation
import XCTest

@testable import AgentCore

/// which proxy, and what is asked of it.
final class ProxyPolicyTests: XCTestCase {
  private func policy(
    proxy: String? = nil, environment: [String: String] = [:], change: ((inout ProxyConfig) -> Void)? = nil
  ) throws -> ProxyPolicy {
    var config: ProxyConfig?
    if let change {
      var made = ProxyConfig()
      change(&made)
      config = made
    }
    return try ProxyPolicy(proxy: proxy, config: config, environment: environment)
  }

  private func port(_ policy: ProxyPolicy, _ url: String) throws -> Int? {
    try policy.proxy(for: BaseURL(url), handler: "reader")?.port
  }

  func testExpressionsFirstThenEnvironmentThenScheme() throws {
    let environment = ["HTTPS_PROXY": "http://p:4"]
    let policy = try policy(environment: environment) {
      $0.http = "http://p:1"
      $0.https = "http://p:2"
      $0.urlRegexp = ["^https://SPECIAL\\..*/reader$": "http://p:3", "direct": ""]
    }
    XCTAssertEqual(try port(policy, "https://special.x/"), 3)
    XCTAssertNil(try port(policy, "https://direct.x/"))
    XCTAssertEqual(try port(policy, "https://other.x/"), 4)
    XCTAssertEqual(try port(policy, "http://other.x/"), 1)
    let own = try self.policy(environment: environment) {
      $0.https = "http://p:2"
      $0.ignoreEnvironment = true
    }
    XCTAssertEqual(try port(own, "https://other.x/"), 2)
    XCTAssertEqual(try port(own, "http://other.x/"), 2, "a missing one copies the other")
  }

  func testTheSimpleKeyAndTheEnvironment() throws {
    let simple = try policy(proxy: "proxy.x:3128", environment: ["HTTPS_PROXY": "http://p:4"])
    XCTAssertEqual(try port(simple, "https://h/"), 3128)
    XCTAssertEqual(try port(simple, "http://h/"), 3128)
    let variables = try policy(environment: ["https_proxy": "http://p:4", "HTTP_PROXY": "http://p:5"])
    XCTAssertEqual(try port(variables, "https://h/"), 4)
    XCTAssertEqual(try port(variables, "http://h/"), 5)
    XCTAssertNil(try port(variables, "https://localhost:8000/"), "loopback is never proxied by the environment")
    XCTAssertNil(try port(variables, "https://127.0.0.7/"))
    XCTAssertNil(try port(try policy(environment: ["HTTP_PROXY": "http://p:5"]), "https://h/"))
  }

  func testExceptions() throws {
    let list = NoProxyList("one.x, .two.x,10.0.0.0/8,192.168.1.1, [::1], three.x:8000, *.four.x, bad/x")
    let cases: [(String, Int, Bool)] = [
      ("one.x", 443, true), ("a.ONE.x", 443, true), ("notone.x", 443, false), ("two.x", 443, false),
      ("a.two.x", 443, true), ("10.200.1.1", 80, true), ("11.0.0.1", 80, false), ("192.168.1.1", 80, true),
      ("192.168.1.2", 80, false), ("::1", 80, true), ("three.x", 8000, true), ("three.x", 443, false),
      ("x.four.x", 1, true), ("four.x", 1, false),
    ]
    for (host, port, isExcepted) in cases {
      XCTAssertEqual(list.contains(host: host, port: port), isExcepted, "\(host):\(port)")
    }
    XCTAssertTrue(NoProxyList("*").contains(host: "anything", port: 1))
    XCTAssertFalse(NoProxyList("").contains(host: "anything", port: 1))
    let policy = try policy(environment: ["HTTPS_PROXY": "http://p:4", "NO_PROXY": "h"])
    XCTAssertNil(try port(policy, "https://h/"))
  }

  func testWhatCannotBeUsedIsSaidAndPasswordsAreNot() throws {
    let cases: [((inout ProxyConfig) -> Void, String)] = [
      ({ $0.pac = "http://x/p.pac" }, "does not run PAC files"),
      ({ $0.http = "socks5://u:geheim@x:1" }, "by http:// only"),
      ({ $0.https = "http://" }, "is not a proxy URL"),
      ({ $0.urlRegexp = ["(": "http://p:1"] }, "is not a regular expression"),
    ]
    for (change, text) in cases {
      XCTAssertThrowsError(try policy(change: change)) { error in
        XCTAssertTrue("\(error)".contains(text), "\(error)")
        XCTAssertFalse("\(error)".contains("geheim"))
        XCTAssertEqual(error as? AgentError, AgentError(.configuration, ""))
      }
    }
    let proxy = try ProxyURL("http://u%40d:ge%3Aheim@x:1", from: "k")
    XCTAssertEqual("\(proxy)", "http://x:1")
    XCTAssertEqual(proxy.authorization, "Basic " + Data("u@d:ge:heim".utf8).base64EncodedString())
    XCTAssertEqual(try ProxyURL("http://[::1]:3128/", from: "k").host, "::1")
  }
}

/// Requests through a scripted proxy.
final class ProxyTransportTests: XCTestCase {
  private var servers: [ScriptedServer] = []
  private var proxies: [ScriptedProxy] = []
  private var transports: [NIOTransport] = []

  override func tearDown() async throws {
    for transport in transports { await transport.close() }
    for proxy in proxies { await proxy.stop() }
    for server in servers { await server.stop() }
  }

  private func proxy(tls: Bool, credentials: String? = nil, refusal: Int? = nil) async throws -> ScriptedProxy {
    let server = try await ScriptedServer(tls: tls ? TestDeployment.shared.get().tls() : nil) { _ in .answer(200) }
    servers.append(server)
    let proxy = try await ScriptedProxy(to: server.port, credentials: credentials, refusal: refusal)
    proxies.append(proxy)
    return proxy
  }

  private func post(_ url: String, through proxy: String, times: Int = 1) async throws -> TransportAnswer {
    var settings = AgentSettings()
    settings.caCertificate = try TestDeployment.shared.get().authority.certificate.pem
    settings.tls.useSelfSigned = true
    settings.connectionTimeout = .seconds(20)
    settings.proxies = try ProxyPolicy(proxy: proxy, config: nil, environment: [:])
    let transport = try NIOTransport(
      settings: settings, rules: DeploymentLeafRules(caCertificate: settings.caCertificate))
    transports.append(transport)
    let request = TransportRequest(url: try BaseURL(url), handler: "control", body: [1, 2, 3])
    for _ in 1..<times { _ = try await transport.perform(request) }
    return try await transport.perform(request)
  }

  private func refusal(_ url: String, through proxy: String) async -> String {
    do {
      return "accepted: \(try await post(url, through: proxy).status)"
    } catch {
      return "\(error)"
    }
  }

  func testSecureRequestsTravelInATunnel() async throws {
    let credentials = "Basic " + Data("me:secret".utf8).base64EncodedString()
    let proxy = try await proxy(tls: true, credentials: credentials)
    let answer = try await post(
      "https://frontend.test:8443/base/", through: "http://me:secret@127.0.0.1:\(proxy.port)", times: 3)
    XCTAssertEqual(answer.status, 200)
    XCTAssertEqual(proxy.heads.count, 1, "the tunnel is used again")
    XCTAssertTrue(proxy.heads.first?.hasPrefix("CONNECT frontend.test:8443 HTTP/1.1\r\n") == true)
    XCTAssertEqual(servers.first?.requests.count, 3)
    XCTAssertEqual(servers.first?.requests.first?.uri, "/base/control")
    XCTAssertEqual(servers.first?.requests.first?.headers["Proxy-Authorization"], [])
  }

  func testPlainRequestsAreInAbsoluteForm() async throws {
    let proxy = try await proxy(tls: false)
    let answer = try await post(
      "http://frontend.test:8000/base/", through: "http://me:secret@127.0.0.1:\(proxy.port)", times: 2)
    XCTAssertEqual(answer.status, 200)
    XCTAssertEqual(servers.first?.requests.first?.uri, "http://frontend.test:8000/base/control")
    XCTAssertEqual(servers.first?.requests.first?.headers["Host"], ["frontend.test:8000"])
    XCTAssertEqual(servers.first?.requests.first?.headers["Proxy-Authorization"], ["Basic bWU6c2VjcmV0"])
  }

  func testRefusalsNameTheProxyAndTheRemedy() async throws {
    let cases: [(Int, String)] = [
      (407, "asks for a user and a password"), (403, "allow CONNECT"), (502, "cannot reach the server"),
      (504, "cannot reach the server"), (404, "is it a proxy?"),
    ]
    for (status, text) in cases {
      let proxy = try await proxy(tls: true, refusal: status)
      let result = await refusal("https://frontend.test/", through: proxy.url)
      XCTAssertTrue(result.contains("the proxy \(proxy.url) answered \(status)"), result)
      XCTAssertTrue(result.contains(text), result)
    }
    for status in [407, 403, 502] {
      let proxy = try await proxy(tls: false, refusal: status)
      let result = await refusal("http://frontend.test/", through: proxy.url)
      XCTAssertTrue(result.contains("answered \(status)"), result)
    }
    let closed = try await proxy(tls: true)
    await closed.stop()
    let gone = await refusal("https://frontend.test/", through: closed.url)
    XCTAssertEqual(gone, "cannot connect to the proxy \(closed.url): Connection refused")
    let rude = try await proxy(tls: true, refusal: 0)
    let silent = await refusal("https://frontend.test/", through: rude.url)
    XCTAssertTrue(silent.contains("without an answer to CONNECT"), silent)
  }
}
