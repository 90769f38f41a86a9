import Configuration
import Foundation
import NIOCore
import NIOHTTP1
import Synchronization
import XCTest

@testable import frontend

/// Checks of http.md that are about the port itself: paths, sizes, load, TLS.
final class TransportConformanceTests: XCTestCase {
  private var server: TestServer?
  private var directory = URL(fileURLWithPath: "/")

  override func setUpWithError() throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("mr-tls-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  }

  override func tearDown() async throws {
    await server?.stop()
    try? FileManager.default.removeItem(at: directory)
  }

  private func tls(_ certificate: TestCertificate, clientCA: TestCertificate? = nil) throws -> ServerTLS {
    var frontend = FrontendSection()
    frontend.tls = .files(certificate: certificate.certificate, privateKey: certificate.key)
    var client = ClientSection()
    if let clientCA {
      frontend.requireClientCertificates = true
      client.caCertificate = try String(contentsOfFile: clientCA.certificate, encoding: .utf8)
    }
    return try XCTUnwrap(ServerTLS.make(frontend, client))
  }

  /// What `openssl s_client` gets for a request, its own words included.
  private func openssl(_ port: Int, _ options: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = ["s_client", "-connect", "127.0.0.1:\(port)", "-ign_eof", "-state"] + options
    let (input, output) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = output
    process.standardError = output
    try process.run()
    // The request ends the connection, and that ends the program.
    try input.fileHandleForWriting.write(contentsOf: Data("GET /server.pem HTTP/1.0\r\n\r\n".utf8))
    let data = output.fileHandleForReading.readDataToEndOfFile()
    try? input.fileHandleForWriting.close()
    process.waitUntilExit()
    return String(decoding: data, as: UTF8.self)
  }

  /// H-3: the base path comes before every path, and nothing is without it.
  func testTheBasePath() async throws {
    let server = try await TestServer(basePath: "/velo")
    self.server = server
    for (path, status) in [
      ("/velo/server.pem", 200), ("/velo/healthz", 200), ("/velo/healthz?x=/velo", 200), ("/velo/control", 200),
      ("/velo/send_messages", 200), ("/server.pem", 404), ("/control", 404), ("/healthz", 404), ("/velo", 404),
      ("/velo/", 404), ("/velox/control", 404), ("/velo/velo/control", 404), ("/", 404),
    ] {
      let client = try await RawClient.connect(port: server.port)
      try await client.send("POST \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
      let answer = try await client.read(to: "\r\n\r\n")
      XCTAssertTrue(answer.hasPrefix("HTTP/1.1 \(status) "), "\(path): \(answer)")
      await client.close()
    }
  }

  /// H-15: a reader's body of 50 MiB is 503, whatever is in it; one byte less is read.
  func testAnEnormousCheckIn() async throws {
    let server = try await TestServer(
      reader: ScriptedService { $0.respond(.ok, bytes: Array("\($1.count)".utf8), headers: []) })
    self.server = server
    let limit = 52_428_800
    for (count, text) in [(limit, "HTTP/1.1 503"), (limit - 1, "HTTP/1.1 200")] {
      let client = try await RawClient.connect(port: server.port)
      try await client.send("POST /reader HTTP/1.1\r\nHost: x\r\nContent-Length: \(count)\r\n\r\n")
      let part = [UInt8](repeating: 0, count: 1 << 20)
      var left = count
      while left > 0 {
        try await client.send(left >= part.count ? part : Array(part.prefix(left)))
        left -= part.count
      }
      try await client.read(to: text)
      await client.close()
    }
  }

  /// H-17: what is above the allowed connections a second is closed without a byte.
  func testShedding() async throws {
    let tls = try tls(TestCertificate(in: directory, name: "leaf"))
    // Ten are saved up, and one comes in each second: slow machines need not be fast.
    let server = try await TestServer(tls: tls, connectionsPerSecond: 1)
    self.server = server
    var clients: [RawClient] = []
    for _ in 0..<100 { clients.append(try await RawClient.connect(port: server.port)) }
    let all = clients
    try await eventually("most were closed") { all.filter(\.isClosed).count >= 50 }
    XCTAssertTrue(all.filter(\.isClosed).allSatisfy { $0.received.isEmpty })
    XCTAssertGreaterThanOrEqual(all.filter { !$0.isClosed }.count, 10)
    XCTAssertGreaterThanOrEqual(server.router.metrics.shed.value, 50)
    for client in all { await client.close() }
  }

  /// H-19: an agent that offers a P-256 key share and nothing else.
  func testAKeyShareOfP256() async throws {
    let server = try await TestServer(tls: tls(TestCertificate(in: directory, name: "leaf")))
    self.server = server
    for group in ["P-256", "P-384", "P-521:P-384:P-256"] {
      let answer = try openssl(server.port, ["-groups", group, "-tls1_3"])
      XCTAssertTrue(answer.contains("HTTP/1.0 200 OK") || answer.contains("HTTP/1.1 200 OK"), answer)
      XCTAssertTrue(answer.contains("PEM"), answer)
    }
    let old = try openssl(server.port, ["-tls1_2"])
    XCTAssertFalse(old.contains("200 OK"), old)
  }

  /// `require_client_certificates`: one of the deployment's CA gets in, none and a stranger's do not.
  func testClientCertificates() async throws {
    let leaf = try TestCertificate(in: directory, name: "leaf")
    let ours = try TestCertificate(in: directory, name: "client")
    let stranger = try TestCertificate(in: directory, name: "stranger")
    let server = try await TestServer(tls: tls(leaf, clientCA: ours))
    self.server = server
    func get(_ options: [String]) throws -> Bool { try openssl(server.port, options).contains("200 OK") }
    XCTAssertTrue(try get(["-cert", ours.certificate, "-key", ours.key]))
    XCTAssertFalse(try get([]))
    XCTAssertFalse(try get(["-cert", stranger.certificate, "-key", stranger.key]))
  }

  /// H-5 on the wire: a slow store's answer begins, is padded, and ends whole; one that fails is cut.
  func testASlowStoreOnTheWire() async throws {
    let answers = Mutex<[LateAnswer]>([])
    let service = ScriptedService { exchange, _ in
      let answer = LateAnswer(exchange: exchange, interval: .milliseconds(30), limit: .seconds(60)) {}
      answers.withLock { $0.append(answer) }
    }
    let server = try await TestServer(control: service)
    self.server = server
    let client = try await RawClient.connect(port: server.port)
    let request = "POST /control HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    try await client.send(request)
    let head = try await client.read(to: "\r\n\r\n")
    XCTAssertTrue(head.hasPrefix("HTTP/1.1 200 OK"), head)
    XCTAssertTrue(head.lowercased().contains("content-type: text/plain; charset=utf-8"), head)
    XCTAssertTrue(head.lowercased().contains("x-accel-buffering: no"), head)
    for _ in 0..<3 {
      let pad = try await client.read(count: 8)
      XCTAssertEqual(pad, Array("3\r\n".utf8) + [0x5a, 1, 0] + Array("\r\n".utf8))
    }
    answers.withLock { $0.last }?.succeed(Array("envelope".utf8))
    try await client.read(to: "8\r\nenvelope\r\n0\r\n\r\n")
    try await client.send(request)
    try await client.read(to: "\r\n\r\n")
    XCTAssertEqual(answers.withLock { $0.last }?.fail(.serviceUnavailable, text: "x"), false)
    try await client.waitForClose()
    XCTAssertFalse(client.text.contains("0\r\n\r\n"), "a cut answer must not look complete")
    // And one that is soon is one piece with its length.
    let soon = try await RawClient.connect(port: server.port)
    try await soon.send(request)
    try await eventually("the second answer") { answers.withLock { $0.count } == 3 }
    answers.withLock { $0.last }?.succeed(Array("soon".utf8))
    let whole = try await soon.read(to: "soon")
    XCTAssertTrue(whole.lowercased().contains("content-length: 4") || whole.contains("chunked"), whole)
  }
}
