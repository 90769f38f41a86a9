import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// A plain HTTP/1.1 client for tests: one request on one connection, no certificate checks.
struct HTTPSClient {
  struct Answer: Sendable {
    var status: Int
    var headers: [(String, String)]
    var body: [UInt8]
    /// The response ended as HTTP says; false when the connection was cut.
    var isComplete: Bool

    func header(_ name: String) -> String? {
      headers.first { $0.0.lowercased() == name.lowercased() }?.1
    }
  }

  var port: Int
  var tls = true
  var maximumTLS: TLSVersion?

  /// - Parameter seconds: for the whole exchange.
  func send(
    _ method: String, _ path: String, _ body: [UInt8], headers: [(String, String)] = [], seconds: Int64 = 60
  ) throws -> Answer {
    try start(method, path, body, headers: headers).wait(seconds: seconds)
  }

  /// A request under way.
  func start(
    _ method: String, _ path: String, _ body: [UInt8], headers: [(String, String)] = []
  ) throws -> Exchange {
    let collector = Collector()
    let context = try sslContext()
    let channel = try ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let context { try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil)) }
          try pipeline.addHTTPClientHandlers()
          try pipeline.addHandler(AnswerHandler(collector))
        }
      }
      .connect(host: "127.0.0.1", port: port).wait()
    var all = HTTPHeaders(headers)
    all.add(name: "Host", value: "127.0.0.1")
    all.add(name: "User-Agent", value: "Velociraptor")
    all.add(name: "Content-Length", value: String(body.count))
    let head = HTTPRequestHead(version: .http1_1, method: HTTPMethod(rawValue: method), uri: path, headers: all)
    channel.write(HTTPClientRequestPart.head(head), promise: nil)
    if !body.isEmpty {
      channel.write(
        HTTPClientRequestPart.body(.byteBuffer(channel.allocator.buffer(bytes: body))), promise: nil)
    }
    channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
    return Exchange(channel: channel, collector: collector)
  }

  private func sslContext() throws -> NIOSSLContext? {
    guard tls else { return nil }
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateVerification = .none
    configuration.maximumTLSVersion = maximumTLS
    // As stock agents: whoever hangs up does not wait for the other end's agreement.
    configuration.shutdownTimeout = .milliseconds(1)
    return try NIOSSLContext(configuration: configuration)
  }

  struct Exchange: Sendable {
    let channel: any Channel
    fileprivate let collector: Collector

    /// Waits for the end of the answer or of the connection.
    func wait(seconds: Int64 = 60) throws -> Answer {
      defer { channel.close(promise: nil) }
      guard let answer = collector.wait(seconds: seconds) else {
        throw RunningProcess.Failure(description: "no answer within \(seconds) s")
      }
      return answer
    }

    /// What has arrived of the answer; nil before its head.
    var partial: Answer? { collector.partial }

    func cancel() { channel.close(promise: nil) }
  }

  fileprivate final class Collector: Sendable {
    private let state = Mutex<(answer: Answer?, ended: Bool)>((nil, false))
    private let done = DispatchSemaphore(value: 0)

    var partial: Answer? { state.withLock { $0.answer } }

    func head(_ head: HTTPResponseHead) {
      guard head.status != .continue else { return }
      state.withLock {
        $0.answer = Answer(
          status: Int(head.status.code), headers: head.headers.map { ($0.name, $0.value) }, body: [], isComplete: false)
      }
    }

    func body(_ bytes: [UInt8]) { state.withLock { $0.answer?.body += bytes } }

    func end(complete: Bool) {
      let first = state.withLock { state in
        defer { state.ended = true }
        if !state.ended, complete { state.answer?.isComplete = true }
        return !state.ended
      }
      if first { done.signal() }
    }

    func wait(seconds: Int64) -> Answer? {
      guard done.wait(timeout: .now() + .seconds(Int(seconds))) == .success else { return nil }
      done.signal()
      return state.withLock { $0.answer ?? Answer(status: 0, headers: [], body: [], isComplete: false) }
    }
  }

  private final class AnswerHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    private let collector: Collector

    init(_ collector: Collector) { self.collector = collector }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head): collector.head(head)
      case .body(let part): collector.body(Array(part.readableBytesView))
      case .end: collector.end(complete: true)
      }
    }

    func channelInactive(context: ChannelHandlerContext) { collector.end(complete: false) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      collector.end(complete: false)
      context.close(promise: nil)
    }
  }
}
