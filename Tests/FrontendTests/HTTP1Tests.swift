import NIOCore
import NIOHTTP1
import XCTest

@testable import frontend

/// HTTP/1.1 byte by byte: keep-alive, chunks, Expect, slow bodies, stopping.
final class HTTP1Tests: XCTestCase {
  private var server: TestServer?

  override func tearDown() async throws { await server?.stop() }

  private func start(
    control: any BodyService = ScriptedService.echo, reader: any BodyService = ScriptedService.open, places: Int = 8,
    timeout: Int = 600, timeouts: ExchangeHandler.Timeouts = .init()
  ) async throws -> RawClient {
    let server = try await TestServer(
      control: control, reader: reader, places: places, timeout: timeout, timeouts: timeouts)
    self.server = server
    return try await RawClient.connect(port: server.port)
  }

  private func post(_ path: String, _ body: String, _ headers: String = "") -> String {
    "POST \(path) HTTP/1.1\r\nHost: x\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
  }

  func testKeepAliveAndPipelining() async throws {
    let client = try await start()
    try await client.send(post("/control", "one") + post("/send_messages", "two"))
    try await client.read(to: "one\r\n0\r\n\r\n")
    let second = try await client.read(to: "two\r\n0\r\n\r\n")
    XCTAssertTrue(second.hasPrefix("HTTP/1.1 200 OK\r\n"))
    XCTAssertTrue(second.contains("X-Accel-Buffering: no\r\n"))
    XCTAssertFalse(client.isClosed)
    try await client.send(post("/control", "last", "Connection: close\r\n"))
    let last = try await client.read(to: "last\r\n0\r\n\r\n")
    XCTAssertTrue(last.lowercased().contains("connection: close"))
    try await client.waitForClose()
  }

  /// An offer to change to HTTP/2 in plain text is not taken; the request is answered.
  func testAnotherUpgrade() async throws {
    let client = try await start()
    try await client.send(post("/control", "abc", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"))
    try await client.read(to: "abc\r\n0\r\n\r\n")
    try await client.waitForClose()
  }

  func testAChunkedBody() async throws {
    let client = try await start()
    try await client.send("POST /control HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    try await client.send("4\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n")
    try await client.read(to: "7\r\nabcdefg\r\n0\r\n\r\n")
  }

  /// The body is asked for at once, and only when it will be read.
  func testExpectContinue() async throws {
    let client = try await start()
    try await client.send("POST /control HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    let first = try await client.read(to: "\r\n\r\n")
    XCTAssertTrue(first.hasPrefix("HTTP/1.1 100 Continue\r\n"), first)
    try await client.send("hello")
    try await client.read(to: "hello\r\n0\r\n\r\n")
    try await client.send(
      "POST /none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
    let refused = try await client.read(to: "\r\n\r\n")
    XCTAssertTrue(refused.hasPrefix("HTTP/1.1 404"), "no body is asked for that nobody reads: \(refused)")
  }

  /// A body that does not arrive in time ends its connection and frees its place.
  func testASlowBody() async throws {
    let client = try await start(places: 1, timeouts: .init(request: .milliseconds(300)))
    try await client.send("POST /control HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    try await client.waitForClose()
    XCTAssertEqual(client.received, [])
    let next = try await RawClient.connect(port: try XCTUnwrap(server).port)
    try await next.send(post("/control", "next"))
    try await next.read(to: "next\r\n0\r\n\r\n")
  }

  func testASlowHeadAndAnIdleConnection() async throws {
    let client = try await start(timeouts: .init(idle: .milliseconds(200)))
    let slow = try await RawClient.connect(port: try XCTUnwrap(server).port)
    try await slow.send("POST /control HT")
    try await client.waitForClose()
    try await slow.waitForClose()
  }

  /// H-8: others wait for a place, urgent ones do not.
  func testPlaces() async throws {
    let client = try await start(places: 1, timeout: 1)
    let port = try XCTUnwrap(server).port
    try await client.send("POST /control HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    let waiting = try await RawClient.connect(port: port)
    try await eventually("the slow one has its place") { self.server?.router.requests.current == 1 }
    try await waiting.send(post("/control", "waits"))
    let urgent = try await RawClient.connect(port: port)
    try await urgent.send(post("/control", "urgent", "X-Priority: urgent\r\n"))
    try await urgent.read(to: "urgent\r\n0\r\n\r\n")
    let answer = try await waiting.read(to: "Timeout\n")
    XCTAssertTrue(answer.hasPrefix("HTTP/1.1 408"))
    try await client.send("cde")
    try await client.read(to: "abcde\r\n0\r\n\r\n")
  }

  /// While stopping, an open answer is finished and a kept connection serves once more; each then ends. Health is 503.
  func testDraining() async throws {
    let held = HeldExchanges()
    let client = try await start(reader: held)
    let server = try XCTUnwrap(self.server)
    try await client.send(post("/control", "before"))
    try await client.read(to: "before\r\n0\r\n\r\n")
    let reader = try await RawClient.connect(port: server.port)
    try await reader.send(post("/reader", "x"))
    try await eventually("the reader waits") { held.count == 1 }
    let probe = try await RawClient.connect(port: server.port)
    try await eventually("all are there") { server.connections.count == 3 }
    server.gate.stop()
    try await server.stopListening()
    server.connections.drain()
    try await probe.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    try await probe.read(to: "HTTP/1.1 503")
    try await probe.waitForClose()
    try await client.send(post("/control", "results are taken"))
    try await client.read(to: "results are taken\r\n0\r\n\r\n")
    try await client.waitForClose()
    held.finishAll(Array("end".utf8))
    try await reader.read(to: "3\r\nend\r\n0\r\n\r\n")
    try await reader.waitForClose()
    XCTAssertEqual(server.router.requests.current, 0)
    do {
      _ = try await RawClient.connect(port: server.port)
      XCTFail("nobody listens")
    } catch {}
  }

  /// New readers are sent away while stopping.
  func testAReaderWhileStopping() async throws {
    let client = try await start()
    try XCTUnwrap(server).gate.stop()
    try await client.send(post("/reader", "x"))
    try await client.read(to: "Error: stopping\n")
  }

  /// TCP knows whether the other end takes what it is sent.
  func testWhatTCPKnows() async throws {
    let held = HeldExchanges()
    let client = try await start(reader: held)
    try await client.send(post("/reader", "x"))
    try await client.read(to: "\r\n\r\n")
    try await eventually("the reader waits") { held.count == 1 }
    let connection = try XCTUnwrap(held.all.first).connection
    try await eventually("settled") { await connection.outstanding()?.isSettled == true }
    XCTAssertFalse(connection.isRelayed)
    // A peer that reads no more: sooner or later nothing more can be written.
    try await client.channel.setOption(.autoRead, value: false).get()
    let part = [UInt8](repeating: 0, count: 1 << 20)
    try await eventually("silent") {
      held.all.first?.deliverPart(part)
      return await connection.outstanding()?.isSilent == true
    }
  }

  func testByteRates() {
    var rate = ByteRate(rate: 1_000, burst: 500)
    XCTAssertEqual(rate.take(500, now: 1), 0)
    XCTAssertEqual(rate.take(250, now: 1), 250_000_000)
    XCTAssertEqual(rate.take(0, now: 250_000_001), 0)
    XCTAssertEqual(rate.take(500, now: 60_000_000_000), 0, "no more than the burst is saved up")
    XCTAssertEqual(rate.take(100, now: 60_000_000_000), 100_000_000)
  }

  /// A body above the rate arrives whole, and not before its time.
  func testUploadRates() async throws {
    let server = try await TestServer(uploads: UploadRates(perClient: 200_000))
    self.server = server
    let client = try await RawClient.connect(port: server.port)
    let began = ContinuousClock.now
    let body = String(repeating: "x", count: 250_000)
    try await client.send(post("/control", body))
    try await client.read(to: "\r\n0\r\n\r\n")
    XCTAssertGreaterThan(ContinuousClock.now - began, .milliseconds(400))
    try await client.send(post("/control", "next"))
    try await client.read(to: "next\r\n0\r\n\r\n")
  }

  /// Random bytes in place of requests end connections and nothing else.
  func testGarbage() async throws {
    let client = try await start()
    let port = try XCTUnwrap(server).port
    for seed in 0..<50 {
      var random = SeededGenerator(seed: UInt64(seed))
      let garbage = try await RawClient.connect(port: port)
      var bytes = Array(post("/control", "abc", "X-Priority: urgent\r\nUpgrade: websocket\r\n").utf8)
      for _ in 0..<Int.random(in: 1...9, using: &random) {
        let index = Int.random(in: 0..<bytes.count, using: &random)
        bytes[index] = UInt8.random(in: 0...255, using: &random)
      }
      try? await garbage.send(bytes)
      await garbage.close()
    }
    try await client.send(post("/control", "alive"))
    try await client.read(to: "alive\r\n0\r\n\r\n")
    try await eventually("no request is left over") { self.server?.router.requests.current == 0 }
  }
}

extension Exchange {
  /// A part of an answer that goes on.
  func deliverPart(_ bytes: [UInt8]) {
    guard let exchange = self as? HTTPExchange else { return }
    exchange.writePart(bytes)
  }
}
