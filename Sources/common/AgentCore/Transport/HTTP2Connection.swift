import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOHTTP2

/// HTTP/2: reader and sender share one connection, each exchange is a stream (http.md §2).
enum HTTP2Connection {
  /// Reader, sender and an urgent body; more is never under way.
  private static let streams = 8

  /// Adds the protocol's handlers to a connection on which ALPN chose `h2`.
  ///
  /// - Returns: what runs exchanges on it; one place is taken.
  static func make(
    _ route: Route, _ channel: any Channel, _ timeouts: ExchangeHandler.Timeouts
  ) throws -> PooledConnection {
    var connections = NIOHTTP2Handler.ConnectionConfiguration()
    connections.initialSettings = [
      HTTP2Setting(parameter: .enablePush, value: 0), HTTP2Setting(parameter: .maxHeaderListSize, value: 16_384),
    ]
    connections.targetWindowSize = 1 << 20
    var streams = NIOHTTP2Handler.StreamConfiguration()
    streams.targetWindowSize = 1 << 18
    let pipeline = channel.pipeline.syncOperations
    let multiplexer = try pipeline.configureHTTP2Pipeline(
      mode: .client, connectionConfiguration: connections, streamConfiguration: streams
    ) { stream in stream.close() }
    let connection = PooledConnection(route, channel, speaks: "HTTP/2", capacity: Self.streams) { request in
      exchange(request, multiplexer, channel.eventLoop, timeouts)
    }
    try pipeline.addHandler(HTTP2Watcher(connection))
    return connection
  }

  private static func exchange(
    _ request: TransportRequest, _ multiplexer: NIOHTTP2Handler.StreamMultiplexer, _ loop: any EventLoop,
    _ timeouts: ExchangeHandler.Timeouts
  ) -> RunningExchange {
    let finished = loop.makePromise(of: ExchangeHandler.Finished.self)
    let opened = loop.makePromise(of: (any Channel).self)
    let cancelled = NIOLockedValueBox(false)
    multiplexer.createStreamChannel(promise: opened) { stream in
      stream.eventLoop.makeCompletedFuture {
        let pipeline = stream.pipeline.syncOperations
        try pipeline.addHandler(HTTP2FramePayloadToHTTP1ClientCodec(httpProtocol: .https))
        try pipeline.addHandler(ExchangeHandler(timeouts: timeouts, isStream: true))
      }
    }
    opened.futureResult.whenComplete { result in
      do {
        let stream = try result.get()
        let handler = try stream.pipeline.syncOperations.handler(type: ExchangeHandler.self)
        handler.start(request, promise: finished)
        if cancelled.withLockedValue({ $0 }) { handler.cancel() }
      } catch {
        finished.fail(ExchangeHandler.Broken(reason: ConnectionFailure.text(error), beforeResponse: true))
      }
    }
    return RunningExchange(finished: finished.futureResult) {
      cancelled.withLockedValue { $0 = true }
      opened.futureResult.whenSuccess { stream in
        if let handler = try? stream.pipeline.syncOperations.handler(type: ExchangeHandler.self) { handler.cancel() }
      }
    }
  }
}

/// Looks at what the server says about the whole connection.
private final class HTTP2Watcher: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame

  /// Weak: the connection holds the channel, which holds this handler.
  private weak var connection: PooledConnection?

  init(_ connection: PooledConnection) {
    self.connection = connection
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data).payload {
    // Streams that the server did not take are reset by the lower handler, and sent again elsewhere.
    case .goAway: connection?.retire()
    case .settings(.settings(let settings)):
      for setting in settings where setting.parameter == .maxConcurrentStreams {
        connection?.allow(atMost: setting.value)
      }
    default: break
    }
    context.fireChannelRead(data)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // The other streams of the connection go on.
    if error is NIOHTTP2Errors.StreamError { return }
    connection?.retire()
    context.close(promise: nil)
  }
}
