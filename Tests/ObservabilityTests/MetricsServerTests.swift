import Glibc
import Synchronization
import XCTest

@testable import Observability

/// A plain TCP connection, for bytes that no HTTP client would send.
final class RawConnection {
  struct POSIXFailure: Error {
    let code: Int32
  }

  private let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)

  init(port: Int) throws {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port)).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0 else { throw POSIXFailure(code: errno) }
    // A test that waits for an answer that never comes fails instead of hanging.
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(descriptor) }

  func send(_ bytes: [UInt8]) {
    Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
  }

  /// What arrives next; empty at the end.
  func receive() -> String {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
  }

  /// Sends bytes, closes the sending side, and reads until the peer closes.
  static func exchange(port: Int, _ bytes: [UInt8]) throws -> String {
    let connection = try RawConnection(port: port)
    connection.send(bytes)
    _ = shutdown(connection.descriptor, Int32(SHUT_WR))
    var answer = ""
    while case let part = connection.receive(), !part.isEmpty {
      answer += part
    }
    return answer
  }
}

final class MetricsServerTests: XCTestCase {
  private let registry = MetricsRegistry()
  private let health = HealthBox()

  private final class HealthBox: Sendable {
    let value = Mutex(Health.ok)
  }

  private func withServer(_ body: (Int) throws -> Void) async throws {
    let server = MetricsServer(registry: registry) { [health] in health.value.withLock { $0 } }
    let port = try await server.start(port: 0)
    XCTAssertGreaterThan(port, 0)
    do {
      try body(port)
    } catch {
      await server.stop()
      throw error
    }
    await server.stop()
    XCTAssertThrowsError(try RawConnection.exchange(port: port, []))
  }

  private func get(_ port: Int, _ path: String, method: String = "GET") throws -> String {
    try RawConnection.exchange(
      port: port, Array("\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8))
  }

  func testMetricsHealthAndOthers() async throws {
    registry.counter("seen", "Seen").increment(by: 3)
    try await withServer { port in
      XCTAssertTrue(try get(port, "/metrics").contains("\nseen 3\n"))
      XCTAssertTrue(try get(port, "/metrics?x=1").hasPrefix("HTTP/1.1 200 OK\r\n"))
      XCTAssertTrue(try get(port, "/healthz").hasSuffix("\r\n\r\nok\n"))
      health.value.withLock { $0 = Health(isHealthy: false, detail: "draining") }
      XCTAssertTrue(try get(port, "/healthz").hasPrefix("HTTP/1.1 503 "))
      XCTAssertTrue(try get(port, "/healthz", method: "HEAD").hasSuffix("\r\n\r\n"))
      XCTAssertTrue(try get(port, "/secret").hasPrefix("HTTP/1.1 404 "))
      XCTAssertTrue(try get(port, "/metrics", method: "POST").hasPrefix("HTTP/1.1 404 "))
    }
  }

  func testGarbageLeavesItUpAndIsCounted() async throws {
    try await withServer { port in
      var generator = SystemRandomNumberGenerator()
      for _ in 0..<20 {
        let bytes = (0..<500).map { _ in UInt8.random(in: 0...255, using: &generator) }
        _ = try RawConnection.exchange(port: port, [0x16, 0x03, 0x01] + bytes)
      }
      XCTAssertTrue(try get(port, "/healthz").hasPrefix("HTTP/1.1 200 "))
      XCTAssertGreaterThan(registry.counter("monitoring_bad_requests", "").value, 0)
    }
  }

  func testConnectionsAreBounded() async throws {
    try await withServer { port in
      var open: [RawConnection] = []
      for _ in 0..<MetricsServer.connectionLimit {
        let connection = try RawConnection(port: port)
        open.append(connection)
        connection.send(Array("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
        XCTAssertTrue(connection.receive().hasPrefix("HTTP/1.1 200 "))
      }
      XCTAssertEqual(try get(port, "/healthz"), "")
      withExtendedLifetime(open) {}
    }
  }

  func testATakenPortIsAnError() async throws {
    try await withServer { _ in }
    let first = MetricsServer(registry: registry) { .ok }
    let port = try await first.start(port: 0)
    let second = MetricsServer(registry: registry) { .ok }
    do {
      try await second.start(port: port)
      XCTFail("two servers on one port")
    } catch {}
    await first.stop()
  }
}
