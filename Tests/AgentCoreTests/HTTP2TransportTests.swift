import Logging
import NIOHTTP2
import Synchronization
import XCTest

@testable import AgentCore

/// HTTP/2 where the server offers it (http.md §2), and what may happen to its streams.
final class HTTP2TransportTests: XCTestCase {
  private var servers: [ScriptedServer] = []
  private var transports: [NIOTransport] = []
  private let log = LogRecorder()

  override func tearDown() async throws {
    for transport in transports { await transport.close() }
    for server in servers { await server.stop() }
  }

  private func server(
    protocols: [String] = ["h2", "http/1.1"], _ handler: @escaping ScriptedServer.Handler
  ) async throws -> ScriptedServer {
    let tls = try TestDeployment.shared.get().tls(protocols: protocols)
    let server = try await ScriptedServer(tls: tls, handler: handler)
    servers.append(server)
    return server
  }

  private func transport() throws -> NIOTransport {
    var settings = AgentSettings()
    settings.caCertificate = try TestDeployment.shared.get().authority.certificate.pem
    settings.tls.useSelfSigned = true
    let transport = try NIOTransport(
      settings: settings, rules: DeploymentLeafRules(caCertificate: settings.caCertificate), log: log.logger)
    transports.append(transport)
    return transport
  }

  func testReaderAndSenderShareAConnection() async throws {
    let finish = Mutex<ScriptedServer.Finish?>(nil)
    let isWaiting = expectation(description: "the reader waits")
    let server = try await server { request in
      guard request.uri.hasSuffix("reader") else { return .answer(200, body: request.body) }
      return .later { callback in
        finish.withLock { $0 = callback }
        isWaiting.fulfill()
      }
    }
    let transport = try transport()
    let reader = Task { try await post(transport, server, "reader") }
    await fulfillment(of: [isWaiting], timeout: patience)
    for number in UInt8(0)..<5 {
      let answer = try await post(transport, server, body: [number])
      XCTAssertEqual(answer.body, [number])
    }
    XCTAssertEqual(finish.withLock { $0 }?([7]), true)
    let answer = try await reader.value
    XCTAssertEqual(answer.body, [7])
    XCTAssertEqual(Set(server.requests.map(\.connection)), [1])
    XCTAssertTrue(log.contains("Connected to https://127.0.0.1:\(server.port) by HTTP/2"))
  }

  func testTheHeadersAreThoseOfHTTP1() async throws {
    let server = try await server { _ in .answer(503, headers: [("Retry-After", "17")]) }
    let transport = try transport()
    var request = TransportRequest(url: try BaseURL(server.url), handler: "control", body: [1])
    request.isUrgent = true
    let answer = try await transport.perform(request)
    XCTAssertEqual(answer.status, 503)
    XCTAssertEqual(answer.retryAfter, .seconds(17))
    let headers = try XCTUnwrap(server.requests.first).headers
    XCTAssertEqual(headers["User-Agent"], ["Velociraptor"])
    XCTAssertEqual(headers["Content-Type"], ["application/binary"])
    XCTAssertEqual(headers["X-Priority"], ["urgent"])
    XCTAssertEqual(headers["Content-Length"], ["1"])
  }

  func testAServerWithoutHTTP2IsSpokenToByHTTP1() async throws {
    for protocols in [[], ["http/1.1"]] {
      let server = try await server(protocols: protocols) { _ in .answer(200) }
      let transport = try transport()
      let answer = try await post(transport, server)
      XCTAssertEqual(answer.status, 200)
      XCTAssertTrue(log.contains("https://127.0.0.1:\(server.port) by HTTP/1.1"))
    }
  }

  /// Larger than every window: both sides' flow control is at work.
  func testLargeBodiesPassBothWays() async throws {
    let server = try await server { .answer(200, body: $0.body) }
    let body = (0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 13) }
    let answer = try await post(transport(), server, body: body)
    XCTAssertEqual(answer.body, body)
  }

  func testAStreamThatIsCutIsAnError() async throws {
    let replies: [(ScriptedServer.Reply, String)] = [
      (.reset(.internalError), "reset"), (.cut([1, 2, 3]), "cut"), (.hangUp, "closed"), (.close, "reset"),
    ]
    for (reply, text) in replies {
      let server = try await server { _ in reply }
      do {
        _ = try await post(transport(), server)
        XCTFail(text)
      } catch {
        XCTAssertTrue("\(error)".contains(text) || "\(error)".contains("closed"), "\(error)")
      }
    }
  }

  /// One stream's end is not the others': a reader that waits is not disturbed by a body that is refused.
  func testTheOtherStreamsGoOn() async throws {
    let finish = Mutex<ScriptedServer.Finish?>(nil)
    let isWaiting = expectation(description: "the reader waits")
    let server = try await server { request in
      guard request.uri.hasSuffix("reader") else { return .reset(.internalError) }
      return .later { callback in
        finish.withLock { $0 = callback }
        isWaiting.fulfill()
      }
    }
    let transport = try transport()
    let reader = Task { try await post(transport, server, "reader") }
    await fulfillment(of: [isWaiting], timeout: patience)
    _ = try? await post(transport, server)
    XCTAssertEqual(finish.withLock { $0 }?([7]), true)
    let answer = try await reader.value
    XCTAssertEqual(answer.body, [7])
  }

  /// A stream that the server refused as it goes away is sent again on another connection, unseen from outside.
  func testGoAwayLosesNothing() async throws {
    let isFirst = Mutex(true)
    let server = try await server { request in
      guard request.body == [2] else { return .answer(200, body: request.body) }
      return isFirst.withLock { first in
        defer { first = false }
        return first ? .goAway(isTaken: false) : .answer(200, body: request.body)
      }
    }
    let transport = try transport()
    _ = try await post(transport, server, body: [1])
    let answer = try await post(transport, server, body: [2])
    XCTAssertEqual(answer.body, [2])
    XCTAssertEqual(server.requests.map(\.connection), [1, 1, 2])
  }

  func testAStreamThatWasTakenIsAnsweredBeforeTheConnectionIsLeft() async throws {
    let server = try await server { $0.body == [1] ? .goAway(isTaken: true) : .answer(200) }
    let transport = try transport()
    let first = try await post(transport, server, body: [1])
    let second = try await post(transport, server, body: [2])
    XCTAssertEqual([first.status, second.status], [200, 200])
    XCTAssertEqual(server.requests.map(\.connection), [1, 2])
  }

  func testCancellationEndsOneStream() async throws {
    let asked = expectation(description: "asked")
    let server = try await server { request in
      guard request.uri.hasSuffix("reader") else { return .answer(200) }
      asked.fulfill()
      return .silence
    }
    let transport = try transport()
    let reader = Task { try await post(transport, server, "reader") }
    await fulfillment(of: [asked], timeout: patience)
    reader.cancel()
    let result = await reader.result
    XCTAssertThrowsError(try result.get())
    _ = try await post(transport, server)
    XCTAssertEqual(Set(server.requests.map(\.connection)), [1])
  }
}

private func post(
  _ transport: NIOTransport, _ server: ScriptedServer, _ handler: String = "control", body: [UInt8]? = [1, 2, 3]
) async throws -> TransportAnswer {
  try await transport.perform(TransportRequest(url: try BaseURL(server.url), handler: handler, body: body))
}
