import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOHTTP2
import NIOPosix
import NIOSSL
import NIOTLS
import XCTest

@testable import AgentCore

/// An HTTP server on loopback that answers as its handler says; by HTTP/2 when its TLS context offers it.
final class ScriptedServer: Sendable {
  struct Request: Sendable {
    var method: String
    var uri: String
    var headers: HTTPHeaders
    var body: [UInt8]
    /// Tells the requests of one connection from those of another.
    var connection: Int
  }

  enum Reply: Sendable {
    case answer(Int, headers: [(String, String)] = [], body: [UInt8] = [])
    /// 200, then these chunks, then a clean end.
    case chunks([[UInt8]])
    /// 200 and these bytes, then the connection is cut.
    case cut([UInt8])
    /// The connection is closed without a byte.
    case close
    /// 200 and its headers at once; the rest when the callback is called with the body.
    case later(@Sendable (_ finish: @escaping Finish) -> Void)
    /// No answer.
    case silence
    /// HTTP/2: the stream is reset.
    case reset(HTTP2ErrorCode)
    /// HTTP/2: GOAWAY that names this stream as taken or not; one that was taken is answered 200 then.
    case goAway(isTaken: Bool)
    /// HTTP/2: the whole connection is cut.
    case hangUp
  }

  /// Ends an answer; false when its connection is gone.
  typealias Finish = @Sendable ([UInt8]) -> Bool
  typealias Handler = @Sendable (Request) -> Reply

  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel
  private let recorded: NIOLockedValueBox<[Request]>
  let usesTLS: Bool
  let port: Int
  private let isStopped = NIOLockedValueBox(false)

  init(tls: NIOSSLContext? = nil, handler: @escaping Handler) async throws {
    usesTLS = tls != nil
    let recorded = NIOLockedValueBox<[Request]>([])
    self.recorded = recorded
    let connections = NIOLockedValueBox(0)
    channel = try await ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          let number = connections.withLockedValue { count in
            count += 1
            return count
          }
          guard let tls else { return try Self.addHTTP1(channel, number, recorded, handler) }
          try pipeline.addHandler(NIOSSLServerHandler(context: tls))
          try pipeline.addHandler(
            ApplicationProtocolNegotiationHandler { result, channel in
              channel.eventLoop.makeCompletedFuture {
                if case .negotiated("h2") = result {
                  try Self.addHTTP2(channel, number, recorded, handler)
                } else {
                  try Self.addHTTP1(channel, number, recorded, handler)
                }
              }
            })
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress?.port ?? 0
  }

  private static func addHTTP1(
    _ channel: any Channel, _ number: Int, _ recorded: NIOLockedValueBox<[Request]>, _ handler: @escaping Handler
  ) throws {
    let pipeline = channel.pipeline.syncOperations
    try pipeline.configureHTTPServerPipeline(withErrorHandling: false)
    try pipeline.addHandler(Connection(number: number, recorded: recorded, handler: handler))
  }

  private static func addHTTP2(
    _ channel: any Channel, _ number: Int, _ recorded: NIOLockedValueBox<[Request]>, _ handler: @escaping Handler
  ) throws {
    _ = try channel.pipeline.syncOperations.configureHTTP2Pipeline(
      mode: .server, connectionConfiguration: .init(), streamConfiguration: .init()
    ) { stream in
      stream.eventLoop.makeCompletedFuture {
        let pipeline = stream.pipeline.syncOperations
        try pipeline.addHandler(HTTP2FramePayloadToHTTP1ServerCodec())
        try pipeline.addHandler(Connection(number: number, recorded: recorded, handler: handler))
      }
    }
  }

  var url: String { "\(usesTLS ? "https" : "http")://127.0.0.1:\(port)/" }
  var requests: [Request] { recorded.withLockedValue { $0 } }

  func count(_ uriSuffix: String) -> Int { requests.filter { $0.uri.hasSuffix(uriSuffix) }.count }

  func stop() async {
    let isFirst = isStopped.withLockedValue { stopped in
      defer { stopped = true }
      return !stopped
    }
    guard isFirst else { return }
    try? await channel.close()
    try? await group.shutdownGracefully()
  }

  private final class Connection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let recorded: NIOLockedValueBox<[Request]>
    private let handler: Handler
    private let number: Int
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []

    init(number: Int, recorded: NIOLockedValueBox<[Request]>, handler: @escaping Handler) {
      self.number = number
      self.recorded = recorded
      self.handler = handler
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head):
        self.head = head
        body = []
      case .body(let bytes): body += Array(bytes.readableBytesView)
      case .end:
        guard let head else { return }
        let request = Request(
          method: head.method.rawValue, uri: head.uri, headers: head.headers, body: body,
          connection: number)
        recorded.withLockedValue { $0.append(request) }
        reply(handler(request), context)
      }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    private func reply(_ reply: Reply, _ context: ChannelHandlerContext) {
      switch reply {
      case .answer(let status, let headers, let body):
        var all = HTTPHeaders(headers)
        all.replaceOrAdd(name: "Content-Length", value: String(body.count))
        start(context, status: status, headers: all)
        write([body], context)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      case .chunks(let chunks):
        start(context, status: 200, headers: ["Transfer-Encoding": "chunked"])
        write(chunks, context)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      case .cut(let bytes):
        start(context, status: 200, headers: ["Transfer-Encoding": "chunked"])
        write([bytes], context)
        let channel = context.channel
        context.flush()
        channel.close(promise: nil)
      case .close: context.close(promise: nil)
      case .silence: break
      case .reset(let code):
        context.channel.triggerUserOutboundEvent(code, promise: nil)
        context.channel.close(promise: nil)
      case .goAway(let isTaken):
        goAway(context, isTaken: isTaken)
        if isTaken { self.reply(.answer(200), context) }
      case .hangUp: context.channel.parent?.close(promise: nil)
      case .later(let register):
        start(context, status: 200, headers: ["Transfer-Encoding": "chunked"])
        context.flush()
        let channel = context.channel
        register { bytes in
          guard channel.isActive else { return false }
          channel.eventLoop.execute {
            channel.write(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: bytes))), promise: nil)
            channel.writeAndFlush(HTTPServerResponsePart.end(nil), promise: nil)
          }
          return true
        }
      }
    }

    private func goAway(_ context: ChannelHandlerContext, isTaken: Bool) {
      guard let parent = context.channel.parent,
        let stream = try? context.channel.syncOptions?.getOption(HTTP2StreamChannelOptions.streamID)
      else { return }
      let last = isTaken ? stream : HTTP2StreamID(max(0, Int(stream) - 2))
      let frame = HTTP2Frame(
        streamID: .rootStream, payload: .goAway(lastStreamID: last, errorCode: .noError, opaqueData: nil))
      parent.writeAndFlush(frame, promise: nil)
    }

    private func start(_ context: ChannelHandlerContext, status: Int, headers: HTTPHeaders) {
      let head = HTTPResponseHead(
        version: .http1_1, status: HTTPResponseStatus(statusCode: status), headers: headers)
      context.write(wrapOutboundOut(.head(head)), promise: nil)
    }

    private func write(_ chunks: [[UInt8]], _ context: ChannelHandlerContext) {
      for chunk in chunks where !chunk.isEmpty {
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: chunk)))), promise: nil)
      }
    }
  }
}
