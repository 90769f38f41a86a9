import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Whether a process can do its work, for `/healthz`.
package struct Health: Sendable, Equatable {
  package var isHealthy: Bool
  /// One line for the person who looks.
  package var detail: String

  package init(isHealthy: Bool, detail: String) {
    self.isHealthy = isHealthy
    self.detail = detail
  }

  package static let ok = Health(isHealthy: true, detail: "ok")
}

/// A small HTTP server with `/metrics` (Prometheus text) and `/healthz` (200 or 503).
///
/// It belongs on a loopback or management address: it has no TLS and no authentication. At most
/// ``connectionLimit`` connections are served at a time, each idle for at most 30 s.
package final class MetricsServer: Sendable {
  /// The most connections open at a time; further ones are closed at once.
  package static let connectionLimit = 64

  private let registry: MetricsRegistry
  private let health: @Sendable () -> Health
  private let channel = Mutex<(any Channel)?>(nil)

  /// - Parameters:
  ///   - registry: what `/metrics` shows.
  ///   - health: asked at each `/healthz`, on an event loop: it must not block.
  package init(registry: MetricsRegistry, health: @escaping @Sendable () -> Health) {
    self.registry = registry
    self.health = health
  }

  /// Starts listening.
  ///
  /// - Parameters:
  ///   - address: an IP address or host name, by default loopback.
  ///   - port: 0 lets the system choose.
  ///   - group: the threads to run on.
  /// - Returns: the port it listens on.
  /// - Throws: the system's error when the address cannot be bound.
  @discardableResult
  package func start(
    address: String = "127.0.0.1", port: Int, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
  ) async throws -> Int {
    let registry = registry
    let health = health
    let open = ConnectionCount(limit: Self.connectionLimit)
    let bad = registry.counter("monitoring_bad_requests", "Bytes on the monitoring port that were not HTTP.")
    let bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        guard open.enter() else { return channel.close() }
        channel.closeFuture.whenComplete { _ in open.leave() }
        return channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(IdleStateHandler(allTimeout: .seconds(30)))
          try pipeline.configureHTTPServerPipeline(withErrorHandling: true)
          try pipeline.addHandler(MetricsHandler(registry: registry, health: health, badRequests: bad))
        }
      }
    let listening = try await bootstrap.bind(host: address, port: port).get()
    channel.withLock { $0 = listening }
    return listening.localAddress?.port ?? port
  }

  /// Stops listening. Open connections end by themselves.
  package func stop() async {
    let listening = channel.withLock { channel in
      defer { channel = nil }
      return channel
    }
    try? await listening?.close()
  }
}

/// Counts open connections up to a limit.
private final class ConnectionCount: Sendable {
  private let limit: Int
  private let count = Mutex(0)

  init(limit: Int) {
    self.limit = limit
  }

  func enter() -> Bool {
    count.withLock { count in
      guard count < limit else { return false }
      count += 1
      return true
    }
  }

  func leave() {
    count.withLock { $0 -= 1 }
  }
}

/// Answers one request after the other.
private final class MetricsHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let registry: MetricsRegistry
  private let health: @Sendable () -> Health
  private let badRequests: Counter
  private var request: HTTPRequestHead?

  init(registry: MetricsRegistry, health: @escaping @Sendable () -> Health, badRequests: Counter) {
    self.registry = registry
    self.health = health
    self.badRequests = badRequests
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): request = head
    case .body: break
    case .end:
      if let request {
        answer(request, context)
      }
      request = nil
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    badRequests.increment()
    context.close(promise: nil)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is IdleStateHandler.IdleStateEvent {
      context.close(promise: nil)
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  private func answer(_ request: HTTPRequestHead, _ context: ChannelHandlerContext) {
    let path = request.uri.prefix { $0 != "?" }
    switch (request.method, path) {
    case (.GET, "/metrics"), (.HEAD, "/metrics"):
      send(.ok, registry.render(), "text/plain; version=0.0.4; charset=utf-8", request, context)
    case (.GET, "/healthz"), (.HEAD, "/healthz"):
      let health = health()
      send(health.isHealthy ? .ok : .serviceUnavailable, health.detail + "\n", "text/plain", request, context)
    default:
      send(.notFound, "Not Found\n", "text/plain", request, context)
    }
  }

  private func send(
    _ status: HTTPResponseStatus, _ text: String, _ type: String, _ request: HTTPRequestHead,
    _ context: ChannelHandlerContext
  ) {
    let body = context.channel.allocator.buffer(string: text)
    var headers = HTTPHeaders([("Content-Type", type), ("Content-Length", String(body.readableBytes))])
    if !request.isKeepAlive {
      headers.add(name: "Connection", value: "close")
    }
    let head = HTTPResponseHead(version: request.version, status: status, headers: headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if request.method != .HEAD {
      context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
    }
    let written = context.writeAndFlush(wrapOutboundOut(.end(nil)))
    if !request.isKeepAlive {
      let channel = context.channel
      written.whenComplete { _ in channel.close(promise: nil) }
    }
  }
}
