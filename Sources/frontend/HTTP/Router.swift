import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOSSL
import Observability

/// The handlers that agents know (http.md §1).
enum Route: Equatable, Sendable {
  case serverPEM
  case control
  case reader
  case health
  case unknown

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

/// Gives each request to its handler.
final class Router: Sendable {
  let limits: BodyLimits
  let slots: Slots
  let metrics: FrontendMetrics
  private let basePath: String
  private let serverPEM: [UInt8]
  private let proxies: TrustedProxies
  private let control: ControlService
  private let reader: ReaderService
  private let gate: HealthGate
  private let limited: RateLimitedLog

  init(
    basePath: String, serverPEM: String, limits: BodyLimits, slots: Slots, proxies: TrustedProxies,
    control: ControlService, reader: ReaderService, gate: HealthGate, metrics: FrontendMetrics,
    limited: RateLimitedLog
  ) {
    self.basePath = basePath
    self.serverPEM = Array(serverPEM.utf8)
    self.limits = limits
    self.slots = slots
    self.proxies = proxies
    self.control = control
    self.reader = reader
    self.gate = gate
    self.metrics = metrics
    self.limited = limited
  }

  func route(_ uri: String) -> Route {
    let path = uri.prefix { $0 != "?" }
    guard path.hasPrefix(basePath) else { return .unknown }
    switch path.dropFirst(basePath.count) {
    case "/server.pem": return .serverPEM
    case "/control", "/send_messages": return .control
    case "/reader", "/receive_messages": return .reader
    case "/healthz": return .health
    default: return .unknown
    }
  }

  func remoteAddress(of peer: SocketAddress?, _ headers: HTTPHeaders) -> String {
    proxies.clientAddress(peer: peer, headers: headers)
  }

  func handle(_ route: Route, _ exchange: HTTPExchange, _ body: [UInt8], tooLarge: Bool) {
    if exchange.isWebSocket, route != .unknown {
      return exchange.respond(.badRequest, text: "websocket connections are not offered here; use an https:// URL")
    }
    switch route {
    case .serverPEM:
      exchange.respond(.ok, bytes: serverPEM, headers: [("Content-Type", "text/plain; charset=utf-8")])
    case .health:
      exchange.respond(gate.state.isHealthy ? .ok : .serviceUnavailable, bytes: [], headers: [])
    case .control:
      metrics.received.increment()
      // Nothing this large is ever accepted: answering 200 keeps the agent from sending it for ever (http.md §4.5).
      if tooLarge {
        metrics.tooLarge.increment()
        limited.warning("too-large", "a body above 2 x Frontend.resources.max_upload_size was dropped")
        return exchange.respond(.ok)
      }
      guard gate.admit(exchange) else { return }
      control.handle(exchange, body)
    case .reader:
      metrics.received.increment()
      if tooLarge { return exchange.respond(.serviceUnavailable, text: "body too large") }
      guard gate.admit(exchange) else { return }
      reader.handle(exchange, body)
    case .unknown:
      exchange.respond(.notFound, text: "404 page not found")
    }
  }

  func connectionError(_ error: any Error) {
    // Agents and probes that hang up without ceremony are everyday life, not errors.
    if case NIOSSLError.uncleanShutdown = error { return }
    if let error = error as? IOError, error.errnoCode == ECONNRESET || error.errnoCode == EPIPE { return }
    metrics.connectionErrors.increment()
    limited.log(.info, "connection", "a connection ended in an error: \(error)")
  }
}
