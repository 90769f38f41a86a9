import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import Wire
import XCTest

/// HTTP/2, websockets, certificates and the end of a frontend, with real processes.
final class FrontendTransportTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private func start(_ extra: [String] = [], frontends: Int = 1, edit: ((String) -> String)? = nil) throws {
    deployment = try Deployment(frontends: frontends, maxPoll: 60)
    if let edit {
      let path = deployment.path("frontend.config.yaml")
      try edit(deployment.text("frontend.config.yaml")).write(toFile: path, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
    }
    try deployment.startWorker(1)
    for number in 1...frontends {
      try deployment.startFrontend(number, extra)
      try deployment.process("frontend-\(number)").wait(for: "crypto-worker is up")
    }
  }

  private func waitForReaders(_ count: Double) throws {
    let end = Date(timeIntervalSinceNow: 30)
    while Date() < end {
      if try deployment.metric("frontend-1", "client_comms_current_connections") == count { return }
    }
    XCTFail("not \(count) readers")
  }

  /// Another client's HTTP/2: bodies go in and envelopes come out as over HTTP/1.1.
  func testHTTP2() throws {
    let curl = "/usr/bin/curl"
    try XCTSkipUnless(FileManager.default.isExecutableFile(atPath: curl), "\(curl) is not there")
    try start()
    let client = try deployment.client()
    try client.enroll()
    let body = deployment.path("body")
    let answer = deployment.path("answer")
    for round in 0..<3 {
      let rows = ScriptedClient.rows(flow: "F.AAAAAAAAAAAA2", from: round * 10, count: 10)
      try Data(client.seal([rows])).write(to: URL(fileURLWithPath: body))
      let result = try RunningProcess.run(
        curl,
        [
          "-sk", "--http2", "-H", "Expect: 100-continue", "--data-binary", "@\(body)", "-o", answer, "-w",
          "%{http_version} %{http_code} %{content_type}", "https://127.0.0.1:\(client.port)/control",
        ])
      XCTAssertEqual(result.output, "2 200 text/plain; charset=utf-8")
      let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: answer)))
      XCTAssertEqual(try client.agent.open(bytes)?.count, 1)
    }
    let output = try deployment.microraptor(["results", client.id, "F.AAAAAAAAAAAA2", "--format", "jsonl"])
    XCTAssertEqual(output.split(separator: "\n").count, 30)
  }

  /// H-22, H-25: websockets with sealed bodies, from enrollment to a task.
  func testWebSockets() throws {
    try start()
    let client = try deployment.client()
    let stranger = try SecureSocket(port: client.port, path: "/control")
    try stranger.send(client.seal([try client.enrollment()]))
    XCTAssertEqual(try stranger.answer()["code"] as? Int, 406)
    XCTAssertEqual(try stranger.frame().opcode, 8)

    let sender = try SecureSocket(port: client.port, path: "/control")
    for round in 0..<5 {
      try sender.send(client.seal([ScriptedClient.rows(flow: "F.AAAAAAAAAAAA3", from: round, count: 1)]))
      let answer = try sender.answer()
      XCTAssertEqual(answer["code"] as? Int, 200)
      XCTAssertNil(answer["data"])
    }
    let garbage = try SecureSocket(port: client.port, path: "/reader")
    try garbage.send(Array("garbage".utf8))
    XCTAssertEqual(try garbage.answer()["code"] as? Int, 403)

    let reader = try SecureSocket(port: client.port, path: "/reader")
    try reader.send(client.seal([ScriptedClient.checkIn]))
    try waitForReaders(1)
    let second = try SecureSocket(port: client.port, path: "/reader")
    try second.send(client.seal([ScriptedClient.checkIn]))
    XCTAssertEqual(try second.answer()["code"] as? Int, 409)
    // Two tasks, one after the other, over the same reader; and its later check-in is taken.
    for _ in 0..<2 {
      let output = try deployment.microraptor(["query", client.id, "SELECT * FROM info()", "--no-wait"])
      let flow = try XCTUnwrap(output.split(separator: "\n").last.map(String.init))
      let data = try XCTUnwrap((reader.answer()["data"] as? String).flatMap { Data(base64Encoded: $0) })
      let jobs = try XCTUnwrap(client.agent.open([UInt8](data))).flatMap { try MessageListCodec.jobs($0) }
      XCTAssertTrue(jobs.contains { $0.sessionID == flow && $0.hasFlowRequest })
    }
    try reader.send(client.seal([ScriptedClient.rows(flow: "F.AAAAAAAAAAAA3", from: 5, count: 1)]))
    var rows = 0
    let end = Date(timeIntervalSinceNow: 20)
    while rows < 6, Date() < end {
      rows = try deployment.microraptor(["results", client.id, "F.AAAAAAAAAAAA3", "--format", "jsonl"])
        .split(separator: "\n").count
    }
    XCTAssertEqual(rows, 6)
    XCTAssertEqual(try deployment.process("frontend-1").stop(), 0)
    XCTAssertEqual(try reader.frame().opcode, 8)
  }

  /// A new certificate is served without a restart, and its end is a metric.
  func testANewCertificate() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("mr-leaf-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let (pem, key) = (folder.appendingPathComponent("tls.pem").path, folder.appendingPathComponent("tls.key").path)
    func make(days: Int) throws {
      let made = try RunningProcess.run(
        "/usr/bin/openssl",
        [
          "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
          "/CN=localhost", "-days", "\(days)", "-keyout", "\(key).new", "-out", "\(pem).new",
        ])
      XCTAssertEqual(made.status, 0)
      for file in [key, pem] { XCTAssertEqual(rename("\(file).new", file), 0) }
    }
    try make(days: 20)
    try start(edit: {
      $0.replacingOccurrences(
        of: "Frontend:\n",
        with: "Frontend:\n  tls_certificate_filename: \(pem)\n  tls_private_key_filename: \(key)\n")
    })
    let frontend = try deployment.process("frontend-1")
    let metric = "frontend_tls_certificate_expiry_seconds"
    XCTAssertEqual(try deployment.metric("frontend-1", metric), 20 * 86_400, accuracy: 300)
    try make(days: 400)
    try frontend.wait(for: "the new TLS certificate is in use")
    XCTAssertEqual(try deployment.metric("frontend-1", metric), 400 * 86_400, accuracy: 300)
    let client = try deployment.client()
    try client.enroll()
    try Data("garbage".utf8).write(to: URL(fileURLWithPath: pem))
    try frontend.wait(for: "was not taken up")
    try client.deliver([ScriptedClient.checkIn])
  }

  /// The lame duck: readers end spread over the span, each whole; then the process ends with 0.
  func testTheLameDuck() throws {
    try start(["--drain-seconds", "4"])
    let clients = try (0..<8).map { _ in try deployment.client() }
    for client in clients { try client.enroll() }
    let readers = try clients.map { try $0.startReader() }
    try waitForReaders(8)
    let frontend = try deployment.process("frontend-1")
    let began = Date()
    XCTAssertEqual(frontend.stop(), 0)
    let took = Date().timeIntervalSince(began)
    XCTAssertLessThan(took, 15)
    for reader in readers {
      let answer = try reader.wait(seconds: 5)
      XCTAssertEqual(answer.status, 200)
      XCTAssertTrue(answer.isComplete)
    }
    XCTAssertTrue(frontend.lines.contains { $0.contains("stopped") })
    XCTAssertFalse(frontend.lines.contains { $0.contains("requests were cut") })
  }
}

/// A websocket over TLS for tests, with frames written by hand.
private final class SecureSocket: Sendable {
  private let channel: any Channel
  private let collector = Collector()

  private final class Collector: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer
    let bytes = Mutex<[UInt8]>([])

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let part = Array(unwrapInboundIn(data).readableBytesView)
      bytes.withLock { $0 += part }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }

  init(port: Int, path: String) throws {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateVerification = .none
    let context = try NIOSSLContext(configuration: configuration)
    channel = try ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { [collector] channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
          try pipeline.addHandler(collector)
        }
      }
      .connect(host: "127.0.0.1", port: port).wait()
    let request =
      "GET \(path) HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    try channel.writeAndFlush(ByteBuffer(string: request)).wait()
    let head = try take { bytes in bytes.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound }
    guard head.starts(with: Array("HTTP/1.1 101".utf8)) else {
      throw RunningProcess.Failure(description: String(decoding: head, as: UTF8.self))
    }
  }

  deinit { channel.close(promise: nil) }

  /// Waits until `length` knows how many bytes are wanted, and takes them.
  private func take(_ length: ([UInt8]) -> Int?) throws -> [UInt8] {
    let end = Date(timeIntervalSinceNow: 30)
    while Date() < end {
      let taken = collector.bytes.withLock { bytes -> [UInt8]? in
        guard let count = length(bytes), bytes.count >= count else { return nil }
        defer { bytes.removeFirst(count) }
        return Array(bytes.prefix(count))
      }
      if let taken { return taken }
      Thread.sleep(forTimeInterval: 0.005)
    }
    throw RunningProcess.Failure(description: "nothing came")
  }

  func send(_ data: [UInt8]) throws {
    var bytes: [UInt8] = [0x82]
    if data.count < 126 {
      bytes.append(0x80 | UInt8(data.count))
    } else {
      bytes += [0xfe, UInt8(truncatingIfNeeded: data.count >> 8), UInt8(truncatingIfNeeded: data.count)]
    }
    let key: [UInt8] = [9, 8, 7, 6]
    bytes += key + data.enumerated().map { $1 ^ key[$0 % 4] }
    try channel.writeAndFlush(ByteBuffer(bytes: bytes)).wait()
  }

  /// The next frame that is no ping.
  func frame() throws -> (opcode: UInt8, data: [UInt8]) {
    while true {
      let head = try take { _ in 2 }
      var length = Int(head[1])
      if length == 126 { length = try take { _ in 2 }.reduce(0) { $0 << 8 | Int($1) } }
      if length == 127 { length = try take { _ in 8 }.reduce(0) { $0 << 8 | Int($1) } }
      let data = try take { _ in length }
      if head[0] & 15 != 9 { return (head[0] & 15, data) }
    }
  }

  func answer() throws -> [String: Any] {
    let frame = try frame()
    XCTAssertEqual(frame.opcode, 2)
    return try XCTUnwrap(JSONSerialization.jsonObject(with: Data(frame.data)) as? [String: Any])
  }
}
