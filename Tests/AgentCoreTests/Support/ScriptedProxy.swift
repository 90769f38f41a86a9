import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import NIOSSL

@testable import AgentCore

/// An HTTP proxy on loopback: records the heads of requests and connects everything to one port.
final class ScriptedProxy: Sendable {
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel
  private let recorded: NIOLockedValueBox<[String]>
  private let read: NIOLockedValueBox<[UInt8]>
  private let isStopped = NIOLockedValueBox(false)
  let port: Int

  /// - Parameters:
  ///   - target: where all requests end, on 127.0.0.1.
  ///   - credentials: the `Proxy-Authorization` that is asked for; nil: none.
  ///   - refusal: answers every request with this status; 0: closes the connection.
  ///   - inspecting: ends the TLS of tunnels with these certificates and reads what is inside.
  init(
    to target: Int, credentials: String? = nil, refusal: Int? = nil, inspecting: NIOSSLContext? = nil
  ) async throws {
    let recorded = NIOLockedValueBox<[String]>([])
    self.recorded = recorded
    let read = NIOLockedValueBox<[UInt8]>([])
    self.read = read
    channel = try await ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let door = Door(
            target: target, credentials: credentials, refusal: refusal, recorded: recorded, inspecting: inspecting,
            read: read)
          try channel.pipeline.syncOperations.addHandler(door)
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress?.port ?? 0
  }

  /// Heads of the first request of each connection.
  var heads: [String] { recorded.withLockedValue { $0 } }
  /// What an inspecting proxy could read, both ways.
  var seen: [UInt8] { read.withLockedValue { $0 } }
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
    private let inspecting: NIOSSLContext?
    private let read: NIOLockedValueBox<[UInt8]>
    private var held = ByteBuffer()
    private var isConnecting = false
    private var peer: (any Channel)?

    init(
      target: Int, credentials: String?, refusal: Int?, recorded: NIOLockedValueBox<[String]>,
      inspecting: NIOSSLContext?, read: NIOLockedValueBox<[UInt8]>
    ) {
      self.inspecting = inspecting
      self.read = read
      self.target = target
      self.credentials = credentials
      self.refusal = refusal
      self.recorded = recorded
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      var bytes = unwrapInboundIn(data)
      if let peer {
        if inspecting != nil { read.withLockedValue { $0 += Array(bytes.readableBytesView) } }
        return peer.writeAndFlush(bytes, promise: nil)
      }
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
      let inspecting = isTunnel ? inspecting : nil
      let read = read
      ClientBootstrap(group: context.eventLoop)
        .channelInitializer { far in
          far.eventLoop.makeCompletedFuture {
            let pipeline = far.pipeline.syncOperations
            if inspecting != nil { try pipeline.addHandler(Self.towardsServer()) }
            try pipeline.addHandler(Pipe(to: near, read: inspecting == nil ? nil : read))
          }
        }
        .connect(host: "127.0.0.1", port: target)
        .assumeIsolated()
        .whenComplete { [self] result in
          guard case .success(let far) = result else { return near.close(promise: nil) }
          peer = far
          if isTunnel {
            near.writeAndFlush(ByteBuffer(string: "HTTP/1.1 200 Connection established\r\n\r\n"), promise: nil)
            if let inspecting {
              let handler = NIOSSLServerHandler(context: inspecting)
              try? near.pipeline.syncOperations.addHandler(handler, position: .first)
            }
          } else {
            far.writeAndFlush(held, promise: nil)
          }
        }
    }

    private static func towardsServer() throws -> NIOSSLClientHandler {
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.certificateVerification = .none
      return try NIOSSLClientHandler(context: NIOSSLContext(configuration: configuration), serverHostname: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { peer?.close(promise: nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }

  private final class Pipe: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let near: any Channel
    private let read: NIOLockedValueBox<[UInt8]>?
    init(to near: any Channel, read: NIOLockedValueBox<[UInt8]>?) {
      self.near = near
      self.read = read
    }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let bytes = unwrapInboundIn(data)
      read?.withLockedValue { $0 += Array(bytes.readableBytesView) }
      near.writeAndFlush(bytes, promise: nil)
    }
    func channelInactive(context: ChannelHandlerContext) { near.close(promise: nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }
}
