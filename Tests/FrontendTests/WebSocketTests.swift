import NIOCore
import NIOWebSocket
import Synchronization
import XCTest

@testable import frontend

/// Websockets (http.md §7).
final class WebSocketTests: XCTestCase {
  private var server: TestServer?

  override func tearDown() async throws { await server?.stop() }

  private func start(
    control: any BodyService = ScriptedService.echo, reader: any BodyService = HeldExchanges(), places: Int = 8,
    timeout: Int = 600, limits: WebSocketLimits = .init()
  ) async throws -> TestServer {
    let server = try await TestServer(
      control: control, reader: reader, places: places, timeout: timeout, webSocket: limits)
    self.server = server
    return server
  }

  /// H-22: an envelope in a binary frame, JSON in a binary frame back, on one connection again and again.
  func testASender() async throws {
    let server = try await start()
    for path in ["/control", "/send_messages"] {
      let client = try await WebSocketClient(port: server.port, path: path)
      for size in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
        try await client.send([UInt8](repeating: 7, count: size))
        let answer = try await client.answer()
        XCTAssertEqual(answer, WebSocketAnswer(code: 200), "a sender's success has no data")
      }
      XCTAssertEqual(server.router.requests.current, 0)
      await client.raw.close()
    }
    let pem = try await WebSocketClient(port: server.port, path: "/server.pem")
    try await pem.send([])
    let answer = try await pem.answer()
    XCTAssertEqual(answer, WebSocketAnswer(code: 200, body: Array("PEM\n".utf8)))
  }

  func testFragmentsPingsAndOrder() async throws {
    let received = Recorder()
    let server = try await start(control: received)
    let client = try await WebSocketClient(port: server.port)
    try await client.send([1, 2], fin: false)
    try await client.send(Array("are you there?".utf8), opcode: 9)
    let pong = try await client.receive()
    XCTAssertEqual(pong, .init(opcode: 10, data: Array("are you there?".utf8)))
    try await client.send([3], opcode: 0, fin: false)
    try await client.send([4], opcode: 0)
    for number in 5...9 { try await client.send([UInt8(number)]) }
    for _ in 0..<6 {
      let answer = try await client.answer()
      XCTAssertEqual(answer.code, 200)
    }
    XCTAssertEqual(received.bodies, [[1, 2, 3, 4], [5], [6], [7], [8], [9]])
    try await client.send([0x03, 0xe8], opcode: 8)
    let code = try await client.closeCode()
    XCTAssertEqual(code, 1000)
    try await client.raw.waitForClose()
  }

  /// H-25: errors are codes, and then the connection ends.
  func testErrors() async throws {
    let refusing = ScriptedService { exchange, body in
      exchange.respond(.init(statusCode: 400 + Int(body.first ?? 0)), text: body.isEmpty ? "" : "why")
    }
    let server = try await start(control: refusing, reader: refusing)
    for path in ["/control", "/reader"] {
      for code in [403, 406, 409] {
        let client = try await WebSocketClient(port: server.port, path: path)
        try await client.send([UInt8(code - 400)])
        let answer = try await client.answer()
        XCTAssertEqual(answer, WebSocketAnswer(code: code, text: "why"))
        let close = try await client.closeCode()
        XCTAssertEqual(close, 1000)
        try await client.raw.waitForClose()
      }
    }
    try await eventually("no request is left over") { server.router.requests.current == 0 }
  }

  /// H-24: too large, in one frame or in many, is 1009; and nothing of it is waited for.
  func testTooLarge() async throws {
    let server = try await start()
    let claimed = try await WebSocketClient(port: server.port)
    try await claimed.send([], claimedLength: 10_485_761)
    let first = try await claimed.closeCode()
    XCTAssertEqual(first, 1009)
    try await claimed.raw.waitForClose()
    let parts = try await WebSocketClient(port: server.port)
    let part = [UInt8](repeating: 1, count: 4 << 20)
    try await parts.send(part, fin: false)
    try await parts.send(part, opcode: 0, fin: false)
    try? await parts.send(part, opcode: 0, fin: false)
    try await parts.raw.waitForClose()
    let whole = try await WebSocketClient(port: server.port)
    try await whole.send([UInt8](repeating: 1, count: 10_485_760))
    let answer = try await whole.answer()
    XCTAssertEqual(answer.code, 200)
  }

  func testWrongFrames() async throws {
    let server = try await start()
    let wrong: [(UInt8, Bool, Int)] = [(1, true, 1003), (2, false, 1002), (0, true, 1002), (3, true, 1002)]
    for (opcode, masked, code) in wrong {
      let client = try await WebSocketClient(port: server.port)
      try await client.send([1], opcode: opcode, masked: masked)
      let close = try await client.closeCode()
      XCTAssertEqual(close, code, "\(opcode)")
      try await client.raw.waitForClose()
    }
    for seed in 0..<30 {
      var random = SeededGenerator(seed: UInt64(seed))
      let client = try await WebSocketClient(port: server.port)
      try? await client.raw.send((0..<200).map { _ in UInt8.random(in: 0...255, using: &random) })
      await client.raw.close()
    }
    let client = try await WebSocketClient(port: server.port)
    try await client.send([1])
    let answer = try await client.answer()
    XCTAssertEqual(answer.code, 200)
  }

  func testWrongHandshakes() async throws {
    let server = try await start()
    let asks = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    let key = "Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: "
    for (path, headers, status) in [
      ("/control", asks, "400"), ("/reader", "\(asks)\(key)8\r\n", "400"),
      ("/healthz", "\(asks)\(key)13\r\n", "200"), ("/none", "\(asks)\(key)13\r\n", "404"),
    ] {
      let client = try await RawClient.connect(port: server.port)
      try await client.send("GET \(path) HTTP/1.1\r\nHost: x\r\n\(headers)\r\n")
      let answer = try await client.read(to: "\r\n\r\n")
      XCTAssertTrue(answer.hasPrefix("HTTP/1.1 \(status)"), answer)
      XCTAssertTrue(answer.lowercased().contains("connection: close"), "nothing more is read as HTTP")
      try await client.waitForClose()
    }
  }

  /// A proxy's connection may have served others before.
  func testAnUpgradeAfterOtherRequests() async throws {
    let server = try await start()
    let client = try await RawClient.connect(port: server.port)
    try await client.send("GET /server.pem HTTP/1.1\r\nHost: x\r\n\r\n")
    try await client.read(to: "PEM\n")
    let socket = try await WebSocketClient(over: client)
    try await socket.send([1])
    let answer = try await socket.answer()
    XCTAssertEqual(answer.code, 200)
  }

  /// H-23: pings come, and without a pong the connection ends.
  /// Bytes that come while the connection changes from HTTP to websocket, and connections that break just then: a fuzzer
  /// once ended the process so.
  func testBytesBehindAnUpgrade() async throws {
    let server = try await TestServer()
    let request =
      "GET /control HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    for round in 0..<200 {
      let client = try await RawClient.connect(port: server.port)
      client.channel.write(ByteBuffer(string: request), promise: nil)
      client.channel.flush()
      for _ in 0..<(round % 8) { client.channel.writeAndFlush(ByteBuffer(string: request), promise: nil) }
      client.channel.close(promise: nil)
    }
    try await eventually("all connections end") { server.connections.count == 0 }
    let client = try await RawClient.connect(port: server.port)
    try await client.send(request)
    try await client.read(to: "101 Switching Protocols")
    await client.close()
    await server.stop()
  }

  func testPingsAndSilence() async throws {
    var limits = WebSocketLimits()
    limits.pingInterval = .milliseconds(300)
    let server = try await start(limits: limits)
    let silent = try await WebSocketClient(port: server.port, path: "/reader")
    let lively = try await WebSocketClient(port: server.port, path: "/reader")
    for _ in 0..<5 {
      let ping = try await lively.receive()
      XCTAssertEqual(ping, .init(opcode: 9, data: []))
      try await lively.send([], opcode: 10)
    }
    try await silent.raw.waitForClose()
    XCTAssertFalse(lively.raw.isClosed)
  }

  /// A reader stays open: tasks come in frames whenever there are some, and later check-ins are taken.
  func testAReader() async throws {
    let held = HeldExchanges()
    let server = try await start(reader: held)
    let client = try await WebSocketClient(port: server.port, path: "/receive_messages")
    try await client.send([1])
    try await eventually("the reader waits") { held.count == 1 }
    let reader = try XCTUnwrap(held.all.first)
    XCTAssertTrue(reader.staysOpen)
    for number in 0..<3 {
      reader.deliver([UInt8(number)]) { XCTAssertTrue($0) }
      let answer = try await client.answer()
      XCTAssertEqual(answer, WebSocketAnswer(code: 200, body: [UInt8(number)]))
    }
    try await client.send([42])
    let further = try await client.answer()
    XCTAssertEqual(further, WebSocketAnswer(code: 200, body: [42]), "the test's service sends later check-ins back")
    XCTAssertEqual(server.router.requests.current, 1)
    reader.finish([])
    let code = try await client.closeCode()
    XCTAssertEqual(code, 1001)
    try await client.raw.waitForClose()
    XCTAssertEqual(server.router.requests.current, 0)
  }

  func testAReaderThatHangsUp() async throws {
    let held = HeldExchanges()
    let server = try await start(reader: held)
    let client = try await WebSocketClient(port: server.port, path: "/reader")
    try await client.send([1])
    try await eventually("the reader waits") { held.count == 1 }
    let closed = expectation(description: "closed")
    held.all.first?.onClose { closed.fulfill() }
    await client.raw.close()
    await fulfillment(of: [closed], timeout: 20)
    XCTAssertEqual(server.router.requests.current, 0)
  }

  /// What the reference forgot: bodies over websockets need a place like others, from their first 64 KiB on.
  func testPlaces() async throws {
    let held = HeldExchanges()
    let server = try await start(control: held, places: 1, timeout: 1)
    let large = try await WebSocketClient(port: server.port)
    try await large.send([UInt8](repeating: 1, count: 100_000), fin: false)
    try await eventually("the unfinished message has the place") { server.router.slots.free == 0 }
    let other = try await WebSocketClient(port: server.port)
    try await other.send([1])
    let answer = try await other.answer()
    XCTAssertEqual(answer, WebSocketAnswer(code: 408, text: "Timeout"))
    await large.raw.close()
    try await eventually("its place is free again") { server.router.slots.free == 1 }
  }

  func testDraining() async throws {
    let held = HeldExchanges()
    let server = try await start(control: held)
    let idle = try await WebSocketClient(port: server.port)
    let busy = try await WebSocketClient(port: server.port)
    try await busy.send([1])
    try await eventually("a message is worked on") { held.count == 1 }
    server.connections.drain()
    let gone = try await idle.closeCode()
    XCTAssertEqual(gone, 1001)
    held.finishAll([])
    let answer = try await busy.answer()
    XCTAssertEqual(answer.code, 200)
    let code = try await busy.closeCode()
    XCTAssertEqual(code, 1001)
  }
}

/// Keeps the bodies, and answers each.
final class Recorder: BodyService {
  private let kept = Mutex<[[UInt8]]>([])

  var bodies: [[UInt8]] { kept.withLock { $0 } }

  func handle(_ exchange: any Exchange, _ body: [UInt8]) {
    kept.withLock { $0.append(body) }
    exchange.finish([])
  }
}
