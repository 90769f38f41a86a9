import Foundation
import NIOCore
import XCTest

@testable import frontend

/// Damaged HTTP requests, websocket frames and PROXY headers against a frontend's own pipeline.
/// `MICRORAPTOR_FUZZ_SECONDS` sets for how long.
final class HTTPFuzzTests: XCTestCase {
  private static let samples: [[UInt8]] =
    [
      "POST /control HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
      "POST /reader HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "POST /control?a=b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nX-Priority: urgent\r\nContent-Length: 1\r\n\r\nZ",
      "GET /server.pem HTTP/1.0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      "GET /control HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ].map { Array($0.utf8) } + [
      // A masked binary frame, a ping, a continuation and a close, one after the other.
      [0x82, 0x83, 1, 2, 3, 4, 96, 96, 96], [0x89, 0x80, 1, 2, 3, 4], [0x80, 0x81, 1, 2, 3, 4, 0],
      [0x88, 0x82, 1, 2, 3, 4, 2, 0xea], [0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4],
    ]

  private var seconds: Double {
    Double(ProcessInfo.processInfo.environment["MICRORAPTOR_FUZZ_SECONDS"] ?? "") ?? 1
  }

  private func damaged(_ random: inout SeededGenerator) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<Int.random(in: 1...3, using: &random) { bytes += Self.samples.randomElement(using: &random) ?? [] }
    for _ in 0..<Int.random(in: 0...6, using: &random) where !bytes.isEmpty {
      let place = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[place] = .random(in: 0...255, using: &random)
      case 1: bytes.insert(.random(in: 0...255, using: &random), at: place)
      case 2: bytes.removeSubrange(place..<min(bytes.count, place + 8))
      default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 32)], at: place)
      }
    }
    return bytes
  }

  /// Whatever comes, the frontend goes on, keeps no request and no connection.
  func testDamagedRequests() async throws {
    let server = try await TestServer(maxBody: 4_096)
    var random = SeededGenerator(seed: UInt64(Date().timeIntervalSince1970))
    let end = ContinuousClock.now + .milliseconds(Int(seconds * 1_000))
    while ContinuousClock.now < end {
      for _ in 0..<16 {
        let client = try await RawClient.connect(port: server.port)
        let bytes = damaged(&random)
        // In pieces, so that every parser sees its input cut anywhere.
        let cut = Int.random(in: 0...bytes.count, using: &random)
        try? await client.send(Array(bytes.prefix(cut)))
        try? await client.send(Array(bytes.dropFirst(cut)))
        await client.close()
      }
    }
    try await eventually("no connection is left over") { server.connections.count == 0 }
    XCTAssertEqual(server.router.requests.current, 0)
    let client = try await RawClient.connect(port: server.port)
    try await client.send("GET /server.pem HTTP/1.1\r\nHost: x\r\n\r\n")
    try await client.read(to: "PEM\n")
    await client.close()
    await server.stop()
  }

  func testDamagedProxyHeaders() {
    var random = SeededGenerator(seed: UInt64(Date().timeIntervalSince1970))
    let line = Array("PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\r\n".utf8)
    let binary: [UInt8] =
      [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12] + [UInt8](1...12)
    let end = ContinuousClock.now + .milliseconds(Int(seconds * 100))
    while ContinuousClock.now < end {
      for _ in 0..<256 {
        var bytes = Bool.random(using: &random) ? line : binary
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
        }
        bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
        if case .header(let length, _) = ProxyProtocol.parse(bytes) { XCTAssertLessThanOrEqual(length, bytes.count) }
      }
    }
  }
}
