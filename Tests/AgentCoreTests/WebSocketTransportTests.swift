import NIOCore
import NIOWebSocket
import Synchronization
import XCTest

@testable import AgentCore

/// `ws://` and `wss://` against a scripted server (http.md §7).
final class WebSocketTransportTests: XCTestCase {
  private var servers: [ScriptedWebSockets] = []
  private var transports: [NIOTransport] = []

  override func tearDown() async throws {
    for transport in transports { await transport.close() }
    for server in servers { await server.stop() }
  }

  private func server(
    tls: Bool = false,
    special: @escaping @Sendable (ScriptedServer.Request, Int) -> ScriptedWebSockets.Frames? = { _, _ in nil },
    handler: @escaping ScriptedServer.Handler = { _ in .answer(200) }
  ) async throws -> ScriptedWebSockets {
    let context = tls ? try TestDeployment.shared.get().tls(protocols: ["http/1.1"]) : nil
    let server = try await ScriptedWebSockets(tls: context, special: special, handler: handler)
    servers.append(server)
    return server
  }

  private func transport(_ change: (inout AgentSettings) -> Void = { _ in }) throws -> NIOTransport {
    var settings = AgentSettings()
    settings.caCertificate = try TestDeployment.shared.get().authority.certificate.pem
    settings.tls.useSelfSigned = true
    change(&settings)
    let transport = try NIOTransport(
      settings: settings, rules: DeploymentLeafRules(caCertificate: settings.caCertificate))
    transports.append(transport)
    return transport
  }

  private func post(
    _ transport: NIOTransport, _ server: ScriptedWebSockets, _ handler: String = "control", body: [UInt8] = [1, 2, 3]
  ) async throws -> TransportAnswer {
    try await transport.perform(TransportRequest(url: try BaseURL(server.url), handler: handler, body: body))
  }

  private func failure(_ transport: NIOTransport, _ server: ScriptedWebSockets) async -> String {
    do {
      return "\(try await post(transport, server))"
    } catch {
      return "\(error)"
    }
  }

  func testBodiesAreFramesOnOneConnectionForEachHandler() async throws {
    let server = try await server(tls: true)
    let transport = try transport()
    for number in UInt8(0)..<3 {
      let answer = try await post(transport, server, body: [number])
      XCTAssertEqual(answer, TransportAnswer(status: 200, body: [], isMessage: true))
    }
    _ = try await post(transport, server, "reader")
    XCTAssertEqual(server.requests.map(\.body), [[0], [1], [2], [1, 2, 3]])
    XCTAssertEqual(server.upgrades.map(\.uri), ["/control", "/reader"])
    let headers = try XCTUnwrap(server.upgrades.first).headers
    XCTAssertEqual(headers["Host"], ["127.0.0.1:\(server.port)"])
    for name in ["User-Agent", "Content-Type", "X-Priority", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
      XCTAssertEqual(headers[name], [], name)
    }
  }

  /// server.pem is fetched by HTTP.
  func testServerPEMIsAPage() async throws {
    let server = try await server(tls: true, handler: { .answer(200, body: Array($0.uri.utf8)) })
    let request = TransportRequest(url: try BaseURL(server.url), handler: "server.pem", body: nil)
    let answer = try await transport().perform(request)
    XCTAssertEqual(answer.body, Array("/server.pem".utf8))
    XCTAssertFalse(answer.isMessage)
  }

  func testALargeBodyIsOneFrame() async throws {
    let server = try await server(tls: true)
    let body = (0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let answer = try await post(transport(), server, body: body)
    XCTAssertEqual(answer.status, 200)
    XCTAssertEqual(server.requests.first?.body, body)
  }

  func testALargeAnswerMayComeInPieces() async throws {
    let body = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let server = try await server(
      special: { _, _ in
        var bytes = ByteBuffer(string: ScriptedWebSockets.json(200, "", body))
        var frames: [WebSocketFrame] = []
        while let piece = bytes.readSlice(length: min(10_000, bytes.readableBytes)), piece.readableBytes > 0 {
          frames.append(
            WebSocketFrame(
              fin: bytes.readableBytes == 0, opcode: frames.isEmpty ? .text : .continuation, data: piece))
        }
        return .frames(frames)
      })
    let answer = try await post(transport(), server, "reader")
    XCTAssertEqual(answer.body, body)
  }

  /// A code other than 200 closes; the next body goes to a new connection.
  func testCodesPlayTheHTTPStatus() async throws {
    let server = try await server(handler: { _ in .answer(406, body: Array("Please Enrol".utf8)) })
    let transport = try transport()
    for _ in 0..<2 {
      let answer = try await post(transport, server)
      XCTAssertEqual(answer.status, 406)
    }
    XCTAssertEqual(server.upgrades.count, 2)
  }

  func testPingsAreAnswered() async throws {
    let server = try await server(
      special: { _, number in
        .frames([
          WebSocketFrame(fin: true, opcode: .ping, data: ByteBuffer(string: "\(number)")),
          WebSocketFrame(fin: true, opcode: .binary, data: ByteBuffer(string: "{\"code\":200}")),
        ])
      })
    let transport = try transport()
    _ = try await post(transport, server)
    _ = try await post(transport, server)
    XCTAssertGreaterThanOrEqual(server.pongs, 1)
  }

  /// 66 s without a ping by default; here a second is enough to see it.
  func testASilentServerIsLeft() async throws {
    let server = try await server(special: { _, _ in .frames([]) })
    let text = await failure(try transport { $0.webSocketPingWait = .seconds(1) }, server)
    XCTAssertTrue(text.contains("was not heard"), text)
  }

  func testAConnectionThatTheServerClosedIsReplaced() async throws {
    let server = try await server(special: { _, number in number == 2 ? .cut : nil })
    let transport = try transport()
    for _ in 0..<3 {
      let answer = try await post(transport, server)
      XCTAssertEqual(answer.status, 200)
    }
    XCTAssertEqual(server.upgrades.count, 2)
  }

  func testAServerThatDoesNotUpgradeIsNamed() async throws {
    let cases: [(ScriptedServer.Reply, String)] = [
      (.answer(200), "it answered 200"),
      (.answer(302, headers: [("Location", "https://portal/")]), "302 to https://portal/"),
      (.answer(400), "it answered 400"), (.answer(502), "it answered 502"),
      (.close, "closed the connection instead of opening a websocket"),
    ]
    for (reply, text) in cases {
      let server = try await ScriptedServer { _ in reply }
      let request = TransportRequest(url: try BaseURL("ws://127.0.0.1:\(server.port)/"), handler: "control", body: [1])
      do {
        _ = try await transport().perform(request)
        XCTFail(text)
      } catch {
        XCTAssertTrue("\(error)".contains(text), "\(error)")
      }
      await server.stop()
    }
  }

  func testAProxyIsAskedForATunnel() async throws {
    let server = try await server()
    let proxy = try await ScriptedProxy(to: server.port)
    let policy = try ProxyPolicy(proxy: proxy.url, config: nil, environment: [:])
    let answer = try await post(transport { $0.proxies = policy }, server)
    XCTAssertEqual(answer.status, 200)
    XCTAssertTrue(proxy.heads.first?.hasPrefix("CONNECT 127.0.0.1:\(server.port) ") == true)
    await proxy.stop()
  }
}
