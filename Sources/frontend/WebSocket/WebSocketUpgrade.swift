import NIOCore
import NIOHTTP1
import NIOWebSocket

/// Limits of websockets (http.md §7).
struct WebSocketLimits: Sendable {
  /// Between pings.
  var pingInterval = TimeAmount.seconds(60)
  /// The largest message, in bytes.
  var message = 10_485_760
  /// Bytes of an unfinished message from which it needs a place among the bodies that are worked on.
  var unslotted = 65_536
  /// How long the peer may take to make room for an answer.
  var writeTime = TimeAmount.seconds(10)

  /// Without a sign of life for this long the connection is closed: 1.1 pings.
  var readTime: TimeAmount { .nanoseconds(pingInterval.nanoseconds / 10 * 11) }

  init() {}

  /// - Parameter pingWait: seconds, `Client.ws_ping_wait_sec`.
  init(pingWait: Int) {
    pingInterval = .seconds(Int64(max(1, min(pingWait, 86_400))))
  }
}

/// Turns an HTTP/1.1 connection into a websocket when a request for one of the agents' handlers asks for it. Any request
/// of a connection may be that one: proxies use their connections again.
enum WebSocketUpgrade {
  /// Whether the request asks for a websocket; if it asks wrongly it is answered 400.
  static func isWanted(_ head: HTTPRequestHead, _ route: Route) -> Bool {
    route.isWebSocket && has("websocket", head.headers[canonicalForm: "Upgrade"])
      && has("upgrade", head.headers[canonicalForm: "Connection"])
  }

  private static func has(_ token: String, _ values: [Substring]) -> Bool {
    values.contains { $0.lowercased() == token }
  }

  /// The headers of the answer 101; nil for a wrong handshake.
  static func answer(
    _ head: HTTPRequestHead, _ router: Router, _ connection: Connection, _ done: @escaping (HTTPHeaders?) -> Void
  ) {
    let channel = connection.channel
    upgrader(router, connection)
      .buildUpgradeResponse(channel: channel, upgradeRequest: head, initialResponseHeaders: [:])
      .assumeIsolated()
      .whenComplete { result in done(try? result.get()) }
  }

  /// Writes the answer 101 and puts the websocket's handlers in the place of those of HTTP.
  static func perform(
    _ head: HTTPRequestHead, _ headers: HTTPHeaders, _ router: Router, _ connection: Connection,
    context: ChannelHandlerContext
  ) -> EventLoopFuture<Void> {
    let pipeline = context.pipeline.syncOperations
    let loop = NIOLoopBound(context, eventLoop: context.eventLoop)
    let inbound: [EventLoopFuture<Void>] = [
      remove(HTTPServerPipelineHandler.self, pipeline), remove(HTTPServerProtocolErrorHandler.self, pipeline),
      remove(ByteToMessageHandler<HTTPRequestDecoder>.self, pipeline),
    ]
    return EventLoopFuture.andAllSucceed(inbound, on: context.eventLoop).flatMap {
      let answer = HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers)
      return loop.value.channel.writeAndFlush(HTTPServerResponsePart.head(answer))
    }.flatMap {
      let pipeline = loop.value.pipeline.syncOperations
      return EventLoopFuture.andAllSucceed(
        [remove(NIOHTTPResponseHeadersValidator.self, pipeline), remove(HTTPResponseEncoder.self, pipeline)],
        on: loop.value.eventLoop)
    }.flatMap {
      upgrader(router, connection).upgrade(context: loop.value, upgradeRequest: head)
    }
  }

  private static func remove<Handler: ChannelHandler>(
    _ type: Handler.Type, _ pipeline: ChannelPipeline.SynchronousOperations
  ) -> EventLoopFuture<Void> {
    do {
      return try pipeline.removeHandler(context: pipeline.context(handlerType: type))
    } catch {
      return pipeline.eventLoop.makeSucceededVoidFuture()
    }
  }

  private static func upgrader(_ router: Router, _ connection: Connection) -> NIOWebSocketServerUpgrader {
    NIOWebSocketServerUpgrader(
      maxFrameSize: router.webSocket.message,
      automaticErrorHandling: false,
      shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture([:]) },
      upgradePipelineHandler: { channel, head in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          let handler = WebSocketHandler(
            router: router, route: router.route(head.uri), connection: connection, head: head)
          // Bytes of unfinished messages lie in the decoder, so they are counted before it.
          let decoder = try pipeline.handler(type: ByteToMessageHandler<WebSocketFrameDecoder>.self)
          try pipeline.addHandler(WebSocketByteCounter(handler), position: .before(decoder))
          try pipeline.addHandler(handler)
        }
      })
  }
}

/// Tells the websocket's handler of bytes before they are decoded.
final class WebSocketByteCounter: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let handler: WebSocketHandler

  init(_ handler: WebSocketHandler) {
    self.handler = handler
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    handler.arrived(unwrapInboundIn(data).readableBytes)
    context.fireChannelRead(data)
  }
}
