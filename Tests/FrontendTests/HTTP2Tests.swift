import Configuration
import Foundation
import NIOCore
import NIOHTTP1
import XCTest

@testable import frontend

/// HTTP/2 by ALPN: the same as over HTTP/1.1, on streams of one connection (http.md §2).
final class HTTP2Tests: XCTestCase {
  private var directory = URL(fileURLWithPath: "/")
  private var server: TestServer?

  override func setUpWithError() throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("mr-h2-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  }

  override func tearDown() async throws {
    await server?.stop()
    try? FileManager.default.removeItem(at: directory)
  }

  private func start(
    control: any BodyService = ScriptedService.echo, reader: any BodyService = ScriptedService.open, places: Int = 8,
    timeout: Int = 600, maxBody: Int = 1 << 20, timeouts: ExchangeHandler.Timeouts = .init()
  ) async throws -> TestServer {
    let certificate = try TestCertificate(in: directory, name: "h2")
    var frontend = FrontendSection()
    frontend.tls = .files(certificate: certificate.certificate, privateKey: certificate.key)
    let server = try await TestServer(
      control: control, reader: reader, tls: ServerTLS.make(frontend, ClientSection()), places: places,
      timeout: timeout, maxBody: maxBody, timeouts: timeouts)
    self.server = server
    return server
  }

  /// A reader and many bodies share one connection; neither waits for the other.
  func testAReaderAndASenderShareAConnection() async throws {
    let server = try await start()
    let client = try await HTTP2Client.connect(port: server.port)
    let reader = try await client.start(.POST, "/reader", [1])
    try await eventually("the reader's head and pad") { reader.status == 200 && reader.body.count == 3 }
    for round in 0..<20 {
      let body = (0..<round * 1000).map { UInt8(truncatingIfNeeded: $0) }
      let answer = try await client.send(.POST, "/control", body)
      XCTAssertEqual(answer.status, 200)
      XCTAssertEqual(answer.body, body)
      XCTAssertTrue(answer.isComplete)
    }
    XCTAssertFalse(reader.isOver)
    XCTAssertEqual(server.connections.count, 1)
    XCTAssertEqual(server.router.requests.current, 1)
    let pem = try await client.send(.GET, "/server.pem")
    XCTAssertEqual(String(decoding: pem.body, as: UTF8.self), "PEM\n")
    let missing = try await client.send(.GET, "/no")
    XCTAssertEqual(missing.status, 404)
    reader.cancel()
    try await eventually("the reader is gone") { server.router.requests.current == 0 }
    await client.close()
  }

  /// Larger than every window: flow control goes on in both directions.
  func testALargeBody() async throws {
    let server = try await start(maxBody: 8 << 20)
    let client = try await HTTP2Client.connect(port: server.port)
    let body = (0..<4 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let answer = try await client.send(.POST, "/control", body)
    XCTAssertEqual(answer.body, body)
    await client.close()
  }

  /// H-7 and an aborted answer: the stream is reset, the connection goes on.
  func testLimitsAndAbortsAreOfAStream() async throws {
    let aborting = ScriptedService { exchange, _ in
      exchange.startStream()
      exchange.abort()
    }
    let server = try await start(reader: aborting, maxBody: 1000)
    let client = try await HTTP2Client.connect(port: server.port)
    let large = try await client.send(.POST, "/control", [UInt8](repeating: 1, count: 1500))
    XCTAssertEqual(large.status, 200)
    XCTAssertEqual(large.body, [])
    let cut = try await client.send(.POST, "/reader", [1])
    XCTAssertFalse(cut.isComplete, "an answer that was cut does not look complete")
    let next = try await client.send(.POST, "/control", [7])
    XCTAssertEqual(next.body, [7])
    await client.close()
  }

  /// H-8 over HTTP/2: a body waits for its place without holding up the other streams, then 408.
  func testPlacesAndUrgentBodies() async throws {
    let server = try await start(places: 1, timeout: 1)
    let client = try await HTTP2Client.connect(port: server.port)
    let slow = try await client.start(.POST, "/control", [1], isComplete: false)
    let waiting = try await client.start(.POST, "/control", [2])
    let urgent = try await client.send(.POST, "/control", [3], headers: [("X-Priority", "urgent")])
    XCTAssertEqual(urgent.body, [3])
    try await eventually("408") { waiting.status == 408 }
    try await slow.end()
    try await eventually("the slow one") { slow.isComplete }
    XCTAssertEqual(slow.body, [1])
    await client.close()
  }

  func testExpectContinue() async throws {
    let server = try await start()
    let client = try await HTTP2Client.connect(port: server.port)
    let stream = try await client.start(
      .POST, "/control", [], headers: [("Expect", "100-continue")], isComplete: false)
    try await eventually("100") { stream.informational == [100] }
    try await stream.end()
    try await eventually("the answer") { stream.isComplete }
    XCTAssertEqual(stream.status, 200)
    await client.close()
  }

  /// GOAWAY at once, open streams are finished, then the connection ends.
  func testDraining() async throws {
    let held = HeldExchanges()
    let server = try await start(reader: held)
    let client = try await HTTP2Client.connect(port: server.port)
    let reader = try await client.start(.POST, "/reader", [1])
    try await eventually("the reader waits") { held.count == 1 }
    server.connections.drain()
    try await eventually("GOAWAY") { client.sawGoAway }
    XCTAssertFalse(reader.isOver)
    held.finishAll([9])
    try await eventually("the reader's end") { reader.isComplete }
    XCTAssertEqual(reader.body, [9])
    try await eventually("the connection's end") { client.isClosed && server.connections.count == 0 }
  }

  func testAnIdleConnectionEnds() async throws {
    let server = try await start(timeouts: .init(idle: .milliseconds(200)))
    let silent = try await HTTP2Client.connect(port: server.port)
    try await eventually("an idle connection ends") { silent.isClosed }
    let used = try await HTTP2Client.connect(port: server.port)
    let reading = try await HTTP2Client.connect(port: server.port)
    let reader = try await reading.start(.POST, "/reader", [1])
    _ = try await used.send(.GET, "/server.pem")
    try await eventually("and one that was used") { used.isClosed }
    XCTAssertFalse(reader.isOver, "one with a reader is not idle")
    await reading.close()
  }

  /// Garbage in place of frames ends the connection and nothing else.
  func testGarbage() async throws {
    let server = try await start()
    for seed in 0..<20 {
      let client = try await RawClient.connect(port: server.port, tls: ["h2"])
      var random = SeededGenerator(seed: UInt64(seed))
      if seed % 2 == 0 { try await client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") }
      try? await client.send((0..<500).map { _ in UInt8.random(in: 0...255, using: &random) })
      try await client.waitForClose()
    }
    let client = try await HTTP2Client.connect(port: server.port)
    let answer = try await client.send(.POST, "/control", [5])
    XCTAssertEqual(answer.body, [5])
    await client.close()
  }
}
