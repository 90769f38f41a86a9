import Foundation
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Observability
import XCTest

@testable import frontend

/// Answers bodies as a test says.
final class ScriptedService: BodyService {
  private let body: @Sendable (any Exchange, [UInt8]) -> Void

  init(_ body: @escaping @Sendable (any Exchange, [UInt8]) -> Void) {
    self.body = body
  }

  func handle(_ exchange: any Exchange, _ body: [UInt8]) { self.body(exchange, body) }

  /// Answers 200 with the body itself.
  static let echo = ScriptedService { exchange, body in
    exchange.startStream()
    exchange.finish(body)
  }

  /// Answers with the remote address.
  static let address = ScriptedService { exchange, _ in
    exchange.respond(.ok, bytes: Array(exchange.remoteAddress.utf8), headers: [])
  }

  /// Begins an answer and leaves it open.
  static let open = ScriptedService { exchange, _ in
    exchange.startStream()
    exchange.writePad()
  }
}

/// A frontend's port without a worker and a store behind it.
final class TestServer {
  let router: Router
  let gate: HealthGate
  let connections = ConnectionRegistry()
  private let channel: any Channel

  init(
    control: any BodyService = ScriptedService.echo, reader: any BodyService = ScriptedService.open,
    tls: ServerTLS? = nil, places: Int = 8, timeout: Int = 600, maxBody: Int = 1 << 20,
    timeouts: ExchangeHandler.Timeouts = .init(), webSocket: WebSocketLimits = .init(),
    proxies: TrustedProxies = TrustedProxies(header: nil, ranges: []), proxyProtocol: Bool = false,
    uploads: UploadRates = .init(), basePath: String = "", connectionsPerSecond: Int = 1000
  ) async throws {
    let metrics = FrontendMetrics(MetricsRegistry())
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    gate = HealthGate(logger: logger, metrics: metrics)
    router = Router(
      basePath: basePath, serverPEM: "PEM\n", limits: BodyLimits(control: maxBody),
      slots: Slots(count: places, timeout: timeout), proxies: proxies, control: control, reader: reader, gate: gate,
      metrics: metrics, limited: RateLimitedLog(logger: logger), timeouts: timeouts, webSocket: webSocket,
      uploads: uploads)
    let server = FrontendServer(
      group: MultiThreadedEventLoopGroup.singleton,
      setup: ConnectionSetup(router: router, tls: tls, proxies: proxyProtocol ? proxies : nil),
      connections: connections, connectionsPerSecond: connectionsPerSecond)
    channel = try await server.start(address: "127.0.0.1", port: 0)
  }

  var port: Int { channel.localAddress?.port ?? 0 }

  func stopListening() async throws { try await channel.close() }

  func stop() async {
    try? await channel.close()
    await connections.closeAll()
  }
}

/// Waits until a condition holds.
func eventually(
  _ what: String, seconds: Double = 20, file: StaticString = #filePath, line: UInt = #line,
  _ condition: () async throws -> Bool
) async throws {
  let end = ContinuousClock.now + .seconds(seconds)
  while try await !condition() {
    guard ContinuousClock.now < end else { return XCTFail("never: \(what)", file: file, line: line) }
    await Task.yield()
    try await Task.sleep(for: .milliseconds(5))
  }
}

/// Certificates for tests, made by openssl in a temporary directory.
struct TestCertificate {
  let certificate: String
  let key: String

  init(in directory: URL, name: String, days: Int = 200) throws {
    certificate = directory.appendingPathComponent("\(name).pem").path
    key = directory.appendingPathComponent("\(name).key").path
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = [
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=\(name)",
      "-days", "\(days)", "-keyout", key, "-out", certificate,
    ]
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw TestFailure("openssl failed") }
  }
}

struct TestFailure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
