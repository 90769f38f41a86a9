import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import XCTest

/// A connection that sends and receives exactly the bytes that a test says.
final class RawClient: Sendable {
  private struct State {
    var bytes: [UInt8] = []
    var isClosed = false
    var certificate: [UInt8]?
  }

  let channel: any Channel
  private let collector: Collector

  private init(_ channel: any Channel, _ collector: Collector) {
    self.channel = channel
    self.collector = collector
  }

  /// - Parameter protocols: of ALPN; nil for no TLS.
  static func connect(port: Int, tls protocols: [String]? = nil) async throws -> RawClient {
    let collector = Collector()
    var context: NIOSSLContext?
    if let protocols {
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.certificateVerification = .none
      configuration.applicationProtocols = protocols
      context = try NIOSSLContext(configuration: configuration)
    }
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { [context] channel in
        channel.eventLoop.makeCompletedFuture {
          if let context {
            try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
          }
          try channel.pipeline.syncOperations.addHandler(Handler(collector))
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
    return RawClient(channel, collector)
  }

  func send(_ text: String) async throws { try await send(Array(text.utf8)) }

  func send(_ bytes: [UInt8]) async throws {
    try await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
  }

  var received: [UInt8] { collector.state.withLock { $0.bytes } }
  var text: String { String(decoding: received, as: UTF8.self) }
  var isClosed: Bool { collector.state.withLock { $0.isClosed } }
  /// The server's certificate in DER, after the handshake.
  var certificate: [UInt8]? { collector.state.withLock { $0.certificate } }

  /// Waits until the received text holds this, and forgets what came up to its end.
  @discardableResult
  func read(to text: String, file: StaticString = #filePath, line: UInt = #line) async throws -> String {
    let wanted = Array(text.utf8)
    try await eventually("«\(text)» in «\(self.text)»", file: file, line: line) {
      self.received.firstRange(of: wanted) != nil
    }
    return collector.state.withLock { state in
      guard let range = state.bytes.firstRange(of: wanted) else { return "" }
      defer { state.bytes.removeFirst(range.upperBound) }
      return String(decoding: state.bytes.prefix(range.upperBound), as: UTF8.self)
    }
  }

  /// Waits for this many bytes, and takes them.
  func read(count: Int, file: StaticString = #filePath, line: UInt = #line) async throws -> [UInt8] {
    try await eventually("\(count) bytes", file: file, line: line) { self.received.count >= count }
    return collector.state.withLock { state in
      defer { state.bytes.removeFirst(min(count, state.bytes.count)) }
      return Array(state.bytes.prefix(count))
    }
  }

  func waitForClose(file: StaticString = #filePath, line: UInt = #line) async throws {
    try await eventually("the connection ends", file: file, line: line) { self.isClosed }
  }

  func close() async { try? await channel.close() }

  private final class Collector: Sendable {
    let state = Mutex(State())
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let collector: Collector

    init(_ collector: Collector) { self.collector = collector }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let bytes = Array(unwrapInboundIn(data).readableBytesView)
      collector.state.withLock { $0.bytes += bytes }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      guard let ssl = try? context.pipeline.syncOperations.handler(type: NIOSSLClientHandler.self),
        let der = try? ssl.peerCertificate?.toDERBytes()
      else { return }
      collector.state.withLock { $0.certificate = der }
    }

    func channelInactive(context: ChannelHandlerContext) { collector.state.withLock { $0.isClosed = true } }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }
}
