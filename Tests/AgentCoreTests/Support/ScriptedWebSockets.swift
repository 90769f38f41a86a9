import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket
import XCTest

@testable import AgentCore

/// A websocket server on loopback: each message is given to its handler as a request, whose reply becomes JSON as a
/// stock server writes it (http.md §7). Plain requests are answered as HTTP.
final class ScriptedWebSockets: Sendable {
  typealias Request = ScriptedServer.Request
  typealias Reply = ScriptedServer.Reply

  /// Things that only websockets can do.
  enum Frames: Sendable {
    /// These frames instead of an answer.
    case frames([WebSocketFrame])
    /// The connection is cut.
    case cut
  }

  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel
  private let seen = NIOLockedValueBox<(requests: [Request], upgrades: [HTTPRequestHead], pongs: Int)>(([], [], 0))
  private let isStopped = NIOLockedValueBox(false)
  private let usesTLS: Bool
  let port: Int

  /// - Parameter special: asked first with each message and its number.
  init(
    tls: NIOSSLContext? = nil,
    special: @escaping @Sendable (Request, Int) -> Frames? = { _, _ in nil },
    handler: @escaping @Sendable (Request) -> Reply
  ) async throws {
    usesTLS = tls != nil
    let seen = self.seen
    channel = try await ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
          let pages = Pages(handler)
          let bound = NIOLoopBound(pages, eventLoop: channel.eventLoop)
          let upgrader = NIOWebSocketServerUpgrader(
            maxFrameSize: 64 << 20,
            shouldUpgrade: { channel, head in
              seen.withLockedValue { $0.upgrades.append(head) }
              return channel.eventLoop.makeSucceededFuture([:])
            },
            upgradePipelineHandler: { channel, head in
              channel.eventLoop.makeCompletedFuture {
                let pipeline = channel.pipeline.syncOperations
                try pipeline.addHandler(
                  NIOWebSocketFrameAggregator(
                    minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: 1000, maxAccumulatedFrameSize: 64 << 20))
                try pipeline.addHandler(Socket(head, seen, special, handler))
              }
            })
          try pipeline.configureHTTPServerPipeline(
            withServerUpgrade: (
              upgraders: [upgrader],
              completionHandler: { context in
                context.pipeline.syncOperations.removeHandler(bound.value, promise: nil)
              }
            ))
          try pipeline.addHandler(pages)
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress?.port ?? 0
  }

  var url: String { "\(usesTLS ? "wss" : "ws")://127.0.0.1:\(port)/" }
  var requests: [Request] { seen.withLockedValue { $0.requests } }
  var upgrades: [HTTPRequestHead] { seen.withLockedValue { $0.upgrades } }
  var pongs: Int { seen.withLockedValue { $0.pongs } }

  func stop() async {
    let isFirst = isStopped.withLockedValue { stopped in
      defer { stopped = true }
      return !stopped
    }
    guard isFirst else { return }
    try? await channel.close()
    try? await group.shutdownGracefully()
  }

  static func json(_ code: Int, _ text: String = "", _ data: [UInt8] = []) -> String {
    var members = ["\"code\":\(code)"]
    if !text.isEmpty { members.append("\"err\":\(JSONText.quote(text))") }
    if !data.isEmpty { members.append("\"data\":\"\(Data(data).base64EncodedString())\"") }
    return "{\(members.joined(separator: ","))}"
  }

  private final class Pages: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    private let handler: @Sendable (Request) -> Reply

    init(_ handler: @escaping @Sendable (Request) -> Reply) {
      self.handler = handler
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard case .head(let head) = unwrapInboundIn(data) else { return }
      let request = Request(method: "GET", uri: head.uri, headers: head.headers, body: [], connection: 0)
      guard case .answer(let status, _, let body) = handler(request) else {
        return context.close(promise: nil)
      }
      let answer = HTTPResponseHead(
        version: .http1_1, status: .init(statusCode: status), headers: ["Content-Length": "\(body.count)"])
      context.write(wrapOutboundOut(.head(answer)), promise: nil)
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: body)))), promise: nil)
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }

  private final class Socket: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame
    private let head: HTTPRequestHead
    private let seen: NIOLockedValueBox<(requests: [Request], upgrades: [HTTPRequestHead], pongs: Int)>
    private let special: @Sendable (Request, Int) -> Frames?
    private let handler: @Sendable (Request) -> Reply

    init(
      _ head: HTTPRequestHead,
      _ seen: NIOLockedValueBox<(requests: [Request], upgrades: [HTTPRequestHead], pongs: Int)>,
      _ special: @escaping @Sendable (Request, Int) -> Frames?, _ handler: @escaping @Sendable (Request) -> Reply
    ) {
      self.head = head
      self.seen = seen
      self.special = special
      self.handler = handler
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let frame = unwrapInboundIn(data)
      switch frame.opcode {
      case .binary: break
      case .pong: return seen.withLockedValue { $0.pongs += 1 }
      case .connectionClose: return context.close(promise: nil)
      default: return
      }
      let request = Request(
        method: "POST", uri: head.uri, headers: head.headers, body: Array(frame.unmaskedData.readableBytesView),
        connection: 0)
      let number = seen.withLockedValue { seen in
        seen.requests.append(request)
        return seen.requests.count
      }
      switch special(request, number) {
      case .frames(let frames)?: for frame in frames { write(frame, context.channel) }
      case .cut?: context.close(promise: nil)
      case nil: answer(handler(request), isReader: head.uri.hasPrefix("/reader"), context)
      }
    }

    private func answer(_ reply: Reply, isReader: Bool, _ context: ChannelHandlerContext) {
      let channel = context.channel
      switch reply {
      case .answer(let status, _, let body):
        send(json(status, String(decoding: body, as: UTF8.self)), channel)
        if status != 200 { channel.close(promise: nil) }
      // A sender is answered without data.
      case .chunks(let chunks): send(json(200, "", isReader ? chunks.last ?? [] : []), channel)
      case .later(let register):
        register { bytes in
          guard channel.isActive else { return false }
          channel.eventLoop.execute {
            let text = ScriptedWebSockets.json(200, "", bytes)
            channel.writeAndFlush(
              WebSocketFrame(fin: true, opcode: .binary, data: ByteBuffer(string: text)), promise: nil)
          }
          return true
        }
      case .silence: break
      default: context.close(promise: nil)
      }
    }

    private func json(_ code: Int, _ text: String, _ data: [UInt8] = []) -> WebSocketFrame {
      WebSocketFrame(
        fin: true, opcode: .binary, data: ByteBuffer(string: ScriptedWebSockets.json(code, text, data)))
    }

    private func send(_ frame: WebSocketFrame, _ channel: any Channel) { write(frame, channel) }

    private func write(_ frame: WebSocketFrame, _ channel: any Channel) { channel.writeAndFlush(frame, promise: nil) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }
}
