import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

@testable import AgentCore

/// An HTTP proxy on loopback: records the heads of requests and connects everything to one port.
final class ScriptedProxy: Sendable {
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel
  private let recorded: NIOLockedValueBox<[String]>
  private let isStopped = NIOLockedValueBox(false)
  let port: Int

  /// - Parameters:
  ///   - target: where all requests end, on 127.0.0.1.
  ///   - credentials: the `Proxy-Authorization` that is asked for; nil: none.
  ///   - refusal: answers every request with this status; 0: closes the connection.
  init(to target: Int, credentials: String? = nil, refusal: Int? = nil) async throws {
    let recorded = NIOLockedValueBox<[String]>([])
    self.recorded = recorded
    channel = try await ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let door = Door(target: target, credentials: credentials, refusal: refusal, recorded: recorded)
          try channel.pipeline.syncOperations.addHandler(door)
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress?.port ?? 0
  }

  /// Heads of the first request of each connection.
  var heads: [String] { recorded.withLockedValue { $0 } }
  var url: String { "http://127.0.0.1:\(port)" }

  func stop() async {
    let isFirst = isStopped.withLockedValue { stopped in
      defer { stopped = true }
      return !stopped
    }
    guard isFirst else { return }
    try? await channel.close()
    try? await group.shutdownGracefully()
  }

  /// Reads the head, then becomes a pipe.
  private final class Door: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let target: Int
    private let credentials: String?
    private let refusal: Int?
    private let recorded: NIOLockedValueBox<[String]>
    private var held = ByteBuffer()
    private var isConnecting = false
    private var peer: (any Channel)?

    init(target: Int, credentials: String?, refusal: Int?, recorded: NIOLockedValueBox<[String]>) {
      self.target = target
      self.credentials = credentials
      self.refusal = refusal
      self.recorded = recorded
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      var bytes = unwrapInboundIn(data)
      if let peer { return peer.writeAndFlush(bytes, promise: nil) }
      held.writeBuffer(&bytes)
      let text = String(buffer: held)
      guard !isConnecting, text.contains("\r\n\r\n") else { return }
      isConnecting = true
      recorded.withLockedValue { $0.append(text) }
      if let refusal { return refuse(refusal, context) }
      if let credentials, !text.contains("Proxy-Authorization: \(credentials)\r\n") { return refuse(407, context) }
      connect(context, isTunnel: text.hasPrefix("CONNECT "))
    }

    private func refuse(_ status: Int, _ context: ChannelHandlerContext) {
      guard status > 0 else { return context.close(promise: nil) }
      let text = "HTTP/1.1 \(status) No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nno!\n"
      let channel = context.channel
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)))
        .assumeIsolated().whenComplete { _ in channel.close(promise: nil) }
    }

    private func connect(_ context: ChannelHandlerContext, isTunnel: Bool) {
      let near = context.channel
      ClientBootstrap(group: context.eventLoop)
        .channelInitializer { far in
          far.eventLoop.makeCompletedFuture { try far.pipeline.syncOperations.addHandler(Pipe(to: near)) }
        }
        .connect(host: "127.0.0.1", port: target)
        .assumeIsolated()
        .whenComplete { [self] result in
          guard case .success(let far) = result else { return near.close(promise: nil) }
          peer = far
          if isTunnel {
            near.writeAndFlush(ByteBuffer(string: "HTTP/1.1 200 Connection established\r\n\r\n"), promise: nil)
          } else {
            far.writeAndFlush(held, promise: nil)
          }
        }
    }

    func channelInactive(context: ChannelHandlerContext) { peer?.close(promise: nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }

  private final class Pipe: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let near: any Channel
    init(to near: any Channel) { self.near = near }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      near.writeAndFlush(unwrapInboundIn(data), promise: nil)
    }
    func channelInactive(context: ChannelHandlerContext) { near.close(promise: nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }
}
