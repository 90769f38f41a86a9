import NIOCore
import NIOPosix

/// The listening socket.
struct FrontendServer {
  let group: any EventLoopGroup
  let setup: ConnectionSetup
  let connections: ConnectionRegistry
  let connectionsPerSecond: Int

  /// Milliseconds that sent bytes may stay unacknowledged: then the connection is gone. Readers get a pad every 10 s, so
  /// this is how long a ghost lives whose machine vanished without a word.
  private static let userTimeout: SocketOptionValue = 30_000
  /// Linux's TCP_USER_TIMEOUT, which the C library's module does not show to Swift.
  private static let tcpUserTimeout = NIOBSDSocket.Option(rawValue: 18)

  /// Starts to listen.
  func start(address: String, port: Int) async throws -> any Channel {
    let (setup, connections, limit) = (setup, connections, connectionsPerSecond)
    return try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 1024)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        // Behind a proxy that ends TLS every connection comes from the proxy, which does its own limiting.
        guard setup.tls != nil else { return channel.eventLoop.makeSucceededVoidFuture() }
        return channel.eventLoop.makeCompletedFuture {
          let limiter = AcceptLimiter(perSecond: limit) { setup.router.metrics.shed.increment() }
          try channel.pipeline.syncOperations.addHandler(limiter)
        }
      }
      .childChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.socketOption(.so_keepalive), value: 1)
      .childChannelOption(.tcpOption(Self.tcpUserTimeout), value: Self.userTimeout)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          connections.add(channel)
          try setup.configure(channel)
        }
      }
      .bind(host: address, port: port)
      .get()
  }
}
