import Foundation
import NIOCore
import NIOHTTP1
import NIOHTTP2
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization
import XCTest

/// One connection of HTTP/2 for tests, with as many requests as wanted.
final class HTTP2Client: Sendable {
  private let channel: any Channel
  private let multiplexer: NIOHTTP2Handler.StreamMultiplexer
  private let events: Events

  /// The first GOAWAY and the end of the connection.
  final class Events: Sendable {
    let goAway = Mutex(false)
    let isClosed = Mutex(false)
  }

  private init(_ channel: any Channel, _ multiplexer: NIOHTTP2Handler.StreamMultiplexer, _ events: Events) {
    self.channel = channel
    self.multiplexer = multiplexer
    self.events = events
  }

  var sawGoAway: Bool { events.goAway.withLock { $0 } }
  var isClosed: Bool { events.isClosed.withLock { $0 } }
  var localPort: Int { channel.localAddress?.port ?? 0 }

  /// Connects, and expects that ALPN chooses HTTP/2.
  static func connect(port: Int) async throws -> HTTP2Client {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateVerification = .none
    configuration.applicationProtocols = ["h2", "http/1.1"]
    let context = try NIOSSLContext(configuration: configuration)
    let events = Events()
    let group = MultiThreadedEventLoopGroup.singleton
    let ready = group.next().makePromise(of: NIOHTTP2Handler.StreamMultiplexer.self)
    let channel = try await ClientBootstrap(group: group)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
          try pipeline.addHandler(
            ApplicationProtocolNegotiationHandler { result, channel in
              channel.eventLoop.makeCompletedFuture {
                guard case .negotiated("h2") = result else {
                  ready.fail(TestFailure("no HTTP/2: \(result)"))
                  return
                }
                let pipeline = channel.pipeline.syncOperations
                let multiplexer = try pipeline.configureHTTP2Pipeline(
                  mode: .client, connectionConfiguration: .init(), streamConfiguration: .init()
                ) { $0.eventLoop.makeSucceededVoidFuture() }
                try pipeline.addHandler(Watcher(events))
                ready.succeed(multiplexer)
              }
            })
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
    return HTTP2Client(channel, try await ready.futureResult.get(), events)
  }

  /// Starts a request; `isComplete` false leaves its body open.
  func start(
    _ method: HTTPMethod, _ path: String, _ body: [UInt8], headers: [(String, String)] = [], isComplete: Bool = true
  ) async throws -> Stream {
    let stream = Stream()
    let promise = channel.eventLoop.makePromise(of: (any Channel).self)
    multiplexer.createStreamChannel(promise: promise) { channel in
      channel.eventLoop.makeCompletedFuture {
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(HTTP2FramePayloadToHTTP1ClientCodec(httpProtocol: .https))
        try pipeline.addHandler(Receiver(stream))
      }
    }
    let channel = try await promise.futureResult.get()
    stream.channel.withLock { $0 = channel }
    var all = HTTPHeaders(headers)
    all.add(name: "Host", value: "127.0.0.1")
    all.add(name: "User-Agent", value: "Velociraptor")
    let head = HTTPRequestHead(version: .http2, method: method, uri: path, headers: all)
    try await channel.writeAndFlush(HTTPClientRequestPart.head(head)).get()
    if !body.isEmpty {
      let part = HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body)))
      try await channel.writeAndFlush(part).get()
    }
    if isComplete { try await channel.writeAndFlush(HTTPClientRequestPart.end(nil)).get() }
    return stream
  }

  func send(
    _ method: HTTPMethod, _ path: String, _ body: [UInt8] = [], headers: [(String, String)] = [],
    file: StaticString = #filePath, line: UInt = #line
  ) async throws -> Stream {
    let stream = try await start(method, path, body, headers: headers)
    try await eventually("an answer to \(path)", file: file, line: line) { stream.isOver }
    return stream
  }

  func close() async { try? await channel.close() }

  /// One request's answer, as far as it has come.
  final class Stream: Sendable {
    struct State {
      var status = 0
      var informational: [Int] = []
      var headers = HTTPHeaders()
      var body: [UInt8] = []
      var isComplete = false
      var isClosed = false
    }

    let state = Mutex(State())
    let channel = Mutex<(any Channel)?>(nil)

    var status: Int { state.withLock { $0.status } }
    var informational: [Int] { state.withLock { $0.informational } }
    var body: [UInt8] { state.withLock { $0.body } }
    var headers: HTTPHeaders { state.withLock { $0.headers } }
    /// The answer ended as HTTP says.
    var isComplete: Bool { state.withLock { $0.isComplete } }
    var isOver: Bool { state.withLock { $0.isComplete || $0.isClosed } }

    func cancel() { channel.withLock { $0 }?.close(promise: nil) }

    func end() async throws {
      try await channel.withLock { $0 }?.writeAndFlush(HTTPClientRequestPart.end(nil)).get()
    }
  }

  private final class Receiver: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    private let stream: Stream

    init(_ stream: Stream) { self.stream = stream }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let part = unwrapInboundIn(data)
      stream.state.withLock { state in
        switch part {
        case .head(let head) where head.status.code < 200: state.informational.append(Int(head.status.code))
        case .head(let head): (state.status, state.headers) = (Int(head.status.code), head.headers)
        case .body(let bytes): state.body += Array(bytes.readableBytesView)
        case .end: state.isComplete = true
        }
      }
    }

    func channelInactive(context: ChannelHandlerContext) { stream.state.withLock { $0.isClosed = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }

  private final class Watcher: ChannelInboundHandler {
    typealias InboundIn = HTTP2Frame
    private let events: Events

    init(_ events: Events) { self.events = events }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      if case .goAway = unwrapInboundIn(data).payload { events.goAway.withLock { $0 = true } }
    }

    func channelInactive(context: ChannelHandlerContext) { events.isClosed.withLock { $0 = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
  }
}
