import Foundation
import XCTest

@testable import frontend

/// A websocket client that writes its frames by hand.
struct WebSocketClient {
  struct Frame: Equatable {
    var opcode: UInt8
    var data: [UInt8]

    var closeCode: Int? { opcode == 8 && data.count >= 2 ? Int(data[0]) << 8 | Int(data[1]) : nil }
  }

  let raw: RawClient

  /// Connects and shakes hands.
  init(port: Int, path: String = "/control") async throws {
    try await self.init(over: RawClient.connect(port: port), path: path)
  }

  init(over client: RawClient, path: String = "/control") async throws {
    raw = client
    try await raw.send(
      "GET \(path) HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    let head = try await raw.read(to: "\r\n\r\n")
    guard head.hasPrefix("HTTP/1.1 101"), head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") else {
      throw TestFailure(head)
    }
  }

  func send(
    _ data: [UInt8], opcode: UInt8 = 2, fin: Bool = true, masked: Bool = true, claimedLength: Int? = nil
  ) async throws {
    let length = claimedLength ?? data.count
    var bytes: [UInt8] = [(fin ? 0x80 : 0) | opcode]
    let mask: UInt8 = masked ? 0x80 : 0
    switch length {
    case ..<126: bytes.append(mask | UInt8(length))
    case ..<65_536: bytes += [mask | 126, UInt8(length >> 8), UInt8(length & 255)]
    default: bytes += [mask | 127] + (0..<8).map { UInt8(truncatingIfNeeded: length >> (56 - 8 * $0)) }
    }
    let key: [UInt8] = [1, 2, 3, 4]
    if masked { bytes += key }
    bytes += masked ? data.enumerated().map { $1 ^ key[$0 % 4] } : data
    try await raw.send(bytes)
  }

  func receive(file: StaticString = #filePath, line: UInt = #line) async throws -> Frame {
    let head = try await raw.read(count: 2, file: file, line: line)
    guard head.count == 2 else { throw TestFailure("no frame") }
    XCTAssertEqual(head[1] & 0x80, 0, "servers do not mask", file: file, line: line)
    var length = Int(head[1])
    if length == 126 { length = try await raw.read(count: 2).reduce(0) { $0 << 8 | Int($1) } }
    if length == 127 { length = try await raw.read(count: 8).reduce(0) { $0 << 8 | Int($1) } }
    return Frame(opcode: head[0] & 15, data: try await raw.read(count: length, file: file, line: line))
  }

  /// The next answer, with pings left out.
  func answer(file: StaticString = #filePath, line: UInt = #line) async throws -> WebSocketAnswer {
    var frame = try await receive(file: file, line: line)
    while frame.opcode == 9 { frame = try await receive(file: file, line: line) }
    XCTAssertEqual(frame.opcode, 2, "answers are binary frames", file: file, line: line)
    return try JSONDecoder().decode(WebSocketAnswer.self, from: Data(frame.data))
  }

  /// The close code, with pings left out.
  func closeCode(file: StaticString = #filePath, line: UInt = #line) async throws -> Int? {
    var frame = try await receive(file: file, line: line)
    while frame.opcode == 9 { frame = try await receive(file: file, line: line) }
    return frame.closeCode
  }
}
