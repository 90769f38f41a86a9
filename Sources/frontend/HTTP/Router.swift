import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOSSL
import Observability
import Synchronization

/// The handlers that agents know (http.md §1).
enum Route: Equatable, Sendable {
  case serverPEM
  case control
  case reader
  case health
  case unknown

  /// Whether a request with an `Upgrade` header becomes a websocket (http.md §1).
  var isWebSocket: Bool {
    switch self {
    case .serverPEM, .control, .reader: true
    case .health, .unknown: false
    }
  }

  func bodyRule(_ limits: BodyLimits) -> ExchangeStateMachine.BodyRule {
    switch self {
    case .control: .collect(limit: limits.control)
    case .reader: .collect(limit: limits.reader)
    case .serverPEM, .health, .unknown: .discard
    }
  }
}

/// Sizes from which a body is too large, in bytes.
struct BodyLimits: Sendable {
  /// Twice `Frontend.resources.max_upload_size`.
  var control: Int
  var reader = 52_428_800
}

/// What opens and answers bodies.
protocol BodyService: Sendable {
  /// The body is complete; the exchange is answered when its outcome is known.
  func handle(_ exchange: any Exchange, _ body: [UInt8])
  /// A further body of an exchange that stays open.
  func handleFurther(_ exchange: any Exchange, _ body: [UInt8])
}

extension BodyService {
  func handleFurther(_ exchange: any Exchange, _ body: [UInt8]) { handle(exchange, body) }
}

/// How many requests are between their head and the end of their answer.
final class RequestCount: Sendable {
  private let count = Atomic<Int>(0)

  func begin() { count.wrappingAdd(1, ordering: .relaxed) }

  func end() { count.wrappingSubtract(1, ordering: .relaxed) }

  var current: Int { count.load(ordering: .relaxed) }
}

/// Gives each request to its handler.
final class Router: Sendable {
  let limits: BodyLimits
  let slots: Slots
  let metrics: FrontendMetrics
  /// Requests in flight, waiting readers included.
  let requests = RequestCount()
  let timeouts: ExchangeHandler.Timeouts
  let webSocket: WebSocketLimits
  let uploads: UploadRates
  private let basePath: String
  private let serverPEM: Mutex<[UInt8]>
  private let proxies: TrustedProxies
  private let control: any BodyService
  private let reader: any BodyService
  private let gate: HealthGate
  private let limited: RateLimitedLog

  init(
    basePath: String, serverPEM: String, limits: BodyLimits, slots: Slots, proxies: TrustedProxies,
    control: any BodyService, reader: any BodyService, gate: HealthGate, metrics: FrontendMetrics,
    limited: RateLimitedLog, timeouts: ExchangeHandler.Timeouts = .init(), webSocket: WebSocketLimits = .init(),
    uploads: UploadRates = .init()
  ) {
    self.uploads = uploads
    self.timeouts = timeouts
    self.webSocket = webSocket
    self.basePath = basePath
    self.serverPEM = Mutex(Array(serverPEM.utf8))
    self.limits = limits
    self.slots = slots
    self.proxies = proxies
    self.control = control
    self.reader = reader
    self.gate = gate
    self.metrics = metrics
    self.limited = limited
  }

  /// What `/server.pem` serves.
  var certificate: [UInt8] { serverPEM.withLock { $0 } }

  /// From now on this is `/server.pem`.
  func serve(certificate: String) { serverPEM.withLock { $0 = Array(certificate.utf8) } }

  func route(_ uri: String) -> Route {
    var path = Substring(uri.utf8.prefix { $0 != UInt8(ascii: "?") })
    if !basePath.isEmpty {
      guard path.utf8.starts(with: basePath.utf8) else { return .unknown }
      path = path.dropFirst(basePath.count)
    }
    switch path {
    case "/server.pem": return .serverPEM
    case "/control", "/send_messages": return .control
    case "/reader", "/receive_messages": return .reader
    case "/healthz": return .health
    default: return .unknown
    }
  }

  func remoteAddress(of connection: Connection, _ headers: HTTPHeaders) -> String {
    proxies.header == nil ? connection.peerText : proxies.clientAddress(peer: connection.peer, headers: headers)
  }

  /// Answers an HTTP request whose body has been read.
  func handle(_ route: Route, _ exchange: HTTPExchange, _ body: [UInt8], tooLarge: Bool) {
    if exchange.isWebSocket, route.isWebSocket {
      return exchange.respond(.badRequest, text: "Bad Request: this is no correct websocket handshake")
    }
    switch route {
    case .control where tooLarge:
      // Nothing this large is ever accepted: answering 200 keeps the agent from sending it for ever (http.md §4.5).
      metrics.received.increment()
      metrics.tooLarge.increment()
      limited.warning("too-large", "a body above 2 x Frontend.resources.max_upload_size was dropped")
      exchange.respond(.ok)
    case .reader where tooLarge:
      metrics.received.increment()
      exchange.respond(.serviceUnavailable, text: "body too large")
    case .health:
      exchange.respond(gate.state.isHealthy ? .ok : .serviceUnavailable, bytes: [], headers: [])
    case .unknown: exchange.respond(.notFound, text: "404 page not found")
    case .serverPEM, .control, .reader: handle(route, exchange, body)
    }
  }

  /// Answers a body, whatever brought it.
  func handle(_ route: Route, _ exchange: any Exchange, _ body: [UInt8]) {
    switch route {
    case .serverPEM:
      exchange.respond(.ok, bytes: certificate, headers: [("Content-Type", "text/plain; charset=utf-8")])
    case .control:
      metrics.received.increment()
      // Results are taken while stopping: each is one less for another frontend.
      guard gate.admit(exchange, evenWhileStopping: true) else { return }
      control.handle(exchange, body)
    case .reader:
      metrics.received.increment()
      guard gate.admit(exchange, evenWhileStopping: false) else { return }
      reader.handle(exchange, body)
    case .health, .unknown: exchange.respond(.notFound)
    }
  }

  /// A further check-in of a reader that stays open (http.md §7).
  func handleFurtherCheckIn(_ exchange: any Exchange, _ body: [UInt8]) {
    metrics.received.increment()
    reader.handleFurther(exchange, body)
  }

  func connectionError(_ error: any Error) {
    // Agents and probes that hang up without ceremony are everyday life, not errors.
    if case NIOSSLError.uncleanShutdown = error { return }
    if let error = error as? IOError, error.errnoCode == ECONNRESET || error.errnoCode == EPIPE { return }
    metrics.connectionErrors.increment()
    limited.log(.info, "connection", "a connection ended in an error: \(error)")
  }
}
