import NIOCore
import XCTest

@testable import frontend

/// The PROXY protocol, versions 1 and 2.
final class ProxyProtocolTests: XCTestCase {
  private let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
  private let ipv4: [UInt8] = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]

  private func line(_ text: String) -> ProxyProtocol.Result { ProxyProtocol.parse(Array(text.utf8)) }

  private func address(_ ip: String, _ port: Int) throws -> SocketAddress {
    try SocketAddress(ipAddress: ip, port: port)
  }

  func testLines() throws {
    let four = "PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n"
    XCTAssertEqual(line(four), .header(length: four.utf8.count, source: try address("203.0.113.7", 4660)))
    XCTAssertEqual(line(four + "GET /"), .header(length: four.utf8.count, source: try address("203.0.113.7", 4660)))
    let six = "PROXY TCP6 2001:db8::7 ::1 65535 0\r\n"
    XCTAssertEqual(line(six), .header(length: six.utf8.count, source: try address("2001:db8::7", 65535)))
    XCTAssertEqual(line("PROXY UNKNOWN\r\n"), .header(length: 15, source: nil))
    XCTAssertEqual(line("PROXY UNKNOWN ff ff 1 1\r\n"), .header(length: 25, source: nil))
  }

  func testEveryBeginningIsIncomplete() {
    let whole = Array("PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n".utf8)
    for count in 0..<whole.count { XCTAssertEqual(ProxyProtocol.parse(Array(whole.prefix(count))), .incomplete) }
    let binary = signature + [0x21, 0x11, 0, 12] + ipv4
    for count in 0..<binary.count { XCTAssertEqual(ProxyProtocol.parse(Array(binary.prefix(count))), .incomplete) }
  }

  func testWrongLines() {
    for wrong in [
      "GET / HTTP/1.1\r\n", "PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\n", "PROXY TCP4 203.0.113.7 10.0.0.1 4660\r\n",
      "PROXY TCP4 ::1 ::1 1 1\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n", "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "PROXY \r\n", "PROXY\r\n",
      "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
      "PROXY TCP4 " + String(repeating: "1", count: 100),
    ] {
      XCTAssertEqual(line(wrong), .invalid, wrong)
    }
  }

  func testBinary() throws {
    let tcp4 = signature + [0x21, 0x11, 0, 12] + ipv4
    XCTAssertEqual(ProxyProtocol.parse(tcp4 + [1, 2]), .header(length: 28, source: try address("203.0.113.7", 0x1234)))
    let extended = signature + [0x21, 0x11, 0, 16] + ipv4 + [4, 0, 1, 0]
    XCTAssertEqual(ProxyProtocol.parse(extended), .header(length: 32, source: try address("203.0.113.7", 0x1234)))
    let six = [UInt8](repeating: 0, count: 15) + [1] + [UInt8](repeating: 0, count: 16) + [0, 80, 0, 81]
    XCTAssertEqual(
      ProxyProtocol.parse(signature + [0x21, 0x21, 0, 36] + six), .header(length: 52, source: try address("::1", 80)))
    XCTAssertEqual(ProxyProtocol.parse(signature + [0x20, 0, 0, 0]), .header(length: 16, source: nil))
    XCTAssertEqual(ProxyProtocol.parse(signature + [0x21, 0, 0, 0]), .header(length: 16, source: nil))
    let wrong: [[UInt8]] = [
      signature + [0x11, 0x11, 0, 12] + ipv4, signature + [0x22, 0x11, 0, 12] + ipv4,
      signature + [0x21, 0x12, 0, 12] + ipv4, signature + [0x21, 0x11, 0, 11] + ipv4,
      signature + [0x21, 0x21, 0, 12] + ipv4, signature + [0x21, 0x31, 0, 12] + ipv4,
      signature + [0x21, 0x11, 0xff, 0xff], [0x0d, 0x0a, 0x0d, 0x0b],
    ]
    for bytes in wrong { XCTAssertEqual(ProxyProtocol.parse(bytes), .invalid) }
  }

  /// Whatever arrives, the parser ends, stays in its bounds, and a header lies within the bytes.
  func testFuzz() {
    var random = SeededGenerator(seed: 42)
    let seeds: [[UInt8]] = [
      signature + [0x21, 0x11, 0, 12] + ipv4, signature + [0x21, 0x21, 0, 36] + [UInt8](repeating: 7, count: 36),
      Array("PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n".utf8), Array("PROXY UNKNOWN\r\n".utf8),
    ]
    for round in 0..<50_000 {
      var bytes = seeds[round % seeds.count]
      for _ in 0..<Int.random(in: 0...4, using: &random) {
        let index = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0...3, using: &random) {
        case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.insert(UInt8.random(in: 0...255, using: &random), at: index)
        case 2 where bytes.count > 1: bytes.remove(at: index)
        default: bytes = Array(bytes.prefix(index + 1))
        }
      }
      if case .header(let length, _) = ProxyProtocol.parse(bytes) { XCTAssertLessThanOrEqual(length, bytes.count) }
    }
  }

  // MARK: connections

  private func start(trusted: [String], header: String? = nil) async throws -> TestServer {
    try await TestServer(
      control: ScriptedService.address,
      proxies: TrustedProxies(header: header, ranges: trusted.compactMap(TrustedProxies.Range.init)),
      proxyProtocol: true)
  }

  private let request = "POST /control HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"

  /// H-20 by the PROXY protocol, whole and in pieces.
  func testTheSourceIsShown() async throws {
    let server = try await start(trusted: ["127.0.0.0/8"])
    let client = try await RawClient.connect(port: server.port)
    try await client.send("PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n" + request)
    try await client.read(to: "203.0.113.7:4660")
    let pieces = try await RawClient.connect(port: server.port)
    for byte in signature + [0x21, 0x11, 0, 12] + ipv4 { try await pieces.send([byte]) }
    try await pieces.send(request)
    try await pieces.read(to: "203.0.113.7:4660")
    let own = try await RawClient.connect(port: server.port)
    try await own.send(signature + [0x20, 0, 0, 0] + Array(request.utf8))
    try await own.read(to: "127.0.0.1:")
    await server.stop()
  }

  func testATrustedProxyMustSayWho() async throws {
    let server = try await start(trusted: ["127.0.0.1"])
    let client = try await RawClient.connect(port: server.port)
    try await client.send(request)
    try await client.waitForClose()
    XCTAssertEqual(client.received, [])
    await server.stop()
  }

  /// From anybody else the header is what it looks like to HTTP: garbage.
  func testOthersAreNotBelieved() async throws {
    let server = try await start(trusted: ["192.0.2.1"])
    let client = try await RawClient.connect(port: server.port)
    try await client.send("PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n" + request)
    try await client.read(to: "HTTP/1.1 400")
    let plain = try await RawClient.connect(port: server.port)
    try await plain.send(request)
    try await plain.read(to: "127.0.0.1:")
    await server.stop()
  }
}
