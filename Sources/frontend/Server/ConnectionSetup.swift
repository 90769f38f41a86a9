import NIOCore
import NIOHTTP1
import NIOHTTP2
import NIOSSL
import NIOTLS

/// The pipeline of one connection: TLS, then HTTP/1.1 or HTTP/2 as ALPN says (http.md §2, §8).
struct ConnectionSetup: Sendable {
  let router: Router
  let tls: ServerTLS?
  /// Whose PROXY headers are demanded; nil for nobody's.
  let proxies: TrustedProxies?

  /// How long a handshake, and a PROXY header before it, may take.
  static let handshakeTime = TimeAmount.seconds(30)

  /// Streams of one connection at a time. An agent needs three: reader, sender, urgent sender.
  static let maxStreams = 32

  func configure(_ channel: any Channel) throws {
    let connection = Connection(channel: channel)
    let pipeline = channel.pipeline.syncOperations
    if let proxies, proxies.contains(channel.remoteAddress) {
      try pipeline.addHandler(
        ProxyProtocolHandler(connection: connection) { [router] in router.connectionError($0) })
    }
    guard let tls else { return try configureHTTP1(channel, connection) }
    try pipeline.addHandler(NIOSSLServerHandler(context: tls.current))
    try pipeline.addHandler(HandshakeDeadline(Self.handshakeTime))
    try pipeline.addHandler(
      ApplicationProtocolNegotiationHandler { result, channel in
        channel.eventLoop.makeCompletedFuture {
          if case .negotiated("h2") = result {
            try configureHTTP2(channel, connection)
          } else {
            try configureHTTP1(channel, connection)
          }
        }
      })
    try pipeline.addHandler(HandshakeErrors { [router] in router.connectionError($0) })
  }

  private func configureHTTP1(_ channel: any Channel, _ connection: Connection) throws {
    let pipeline = channel.pipeline.syncOperations
    // From here on the exchange's handler sees the errors.
    if let errors = try? pipeline.context(handlerType: HandshakeErrors.self) {
      pipeline.removeHandler(context: errors, promise: nil)
    }
    if tls != nil { try pipeline.addHandler(WriteCoalescer()) }
    // No check of our own answers' headers: none of them holds anything that a peer sent.
    try pipeline.configureHTTPServerPipeline(withErrorHandling: true, withOutboundHeaderValidation: false)
    try pipeline.addHandler(ExchangeHandler(router: router, connection: connection, version: .http1))
  }

  private func configureHTTP2(_ channel: any Channel, _ connection: Connection) throws {
    var connections = NIOHTTP2Handler.ConnectionConfiguration()
    connections.initialSettings = [
      HTTP2Setting(parameter: .maxConcurrentStreams, value: Self.maxStreams),
      HTTP2Setting(parameter: .maxHeaderListSize, value: 16_384),
      HTTP2Setting(parameter: .enableConnectProtocol, value: 0),
    ]
    // One connection may have more under way than one stream, or a slow upload would hold up the check-ins.
    connections.targetWindowSize = 1 << 20
    // The limits' memory is taken per connection, and agents need far less than the defaults.
    connections.controlFrameRateLimit.maximumCount = 64
    var streams = NIOHTTP2Handler.StreamConfiguration()
    streams.targetWindowSize = 1 << 18
    streams.streamResetFrameRateLimit.maximumCount = 64
    streams.streamErrorRateLimit.maximumCount = 64
    let management = NIOHTTP2ServerConnectionManagementHandler(
      eventLoop: channel.eventLoop,
      configuration: .init(maxIdleTime: router.timeouts.idle, maxAge: nil, maxGraceTime: nil, keepalive: nil))
    let pipeline = channel.pipeline.syncOperations
    _ = try pipeline.configureHTTP2Pipeline(
      mode: .server, connectionConfiguration: connections, streamConfiguration: streams,
      streamDelegate: management.http2StreamDelegate
    ) { [router] stream in
      stream.eventLoop.makeCompletedFuture {
        let pipeline = stream.pipeline.syncOperations
        try pipeline.addHandler(HTTP2FramePayloadToHTTP1ServerCodec())
        try pipeline.addHandler(ExchangeHandler(router: router, connection: connection, version: .http2))
      }
    }
    try pipeline.addHandler(management)
    try pipeline.addHandler(HandshakeErrors { [router] in router.connectionError($0) })
    // The channel has been active since before the handshake: its idle time begins now.
    try management.channelActive(context: pipeline.context(handler: management))
  }
}

/// Closes a connection whose TLS handshake is not complete in time.
final class HandshakeDeadline: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  private let time: TimeAmount
  private var timer: Scheduled<Void>?

  init(_ time: TimeAmount) {
    self.time = time
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let channel = context.channel
    timer = context.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
  }

  func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    context.fireChannelInactive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    context.fireUserInboundEventTriggered(event)
    if case .handshakeCompleted = event as? TLSUserEvent {
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
  }
}

/// Ends a connection that failed before a request of it could be known, and counts it.
final class HandshakeErrors: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = Any

  private let report: @Sendable (any Error) -> Void

  init(_ report: @escaping @Sendable (any Error) -> Void) {
    self.report = report
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // The other streams of the connection go on.
    if error is NIOHTTP2Errors.StreamError { return }
    report(error)
    context.close(promise: nil)
  }
}
