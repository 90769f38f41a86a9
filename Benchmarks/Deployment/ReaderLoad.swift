import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// One agent's reader: posts its check-in, waits, and posts again after an answer with tasks.
final class ReaderSlot: Sendable {
  private struct State {
    var open = false
    var firstByte: UInt64?
    var failure: String?
  }

  let body: [UInt8]
  private let state = Mutex(State())
  private let changed = NSCondition()

  init(body: [UInt8]) { self.body = body }

  fileprivate func opened() { change { $0.open = true } }

  fileprivate func received() {
    let now = Clock.now()
    change { if $0.firstByte == nil { $0.firstByte = now } }
  }

  fileprivate func ended() { change { $0.open = false } }

  fileprivate func failed(_ reason: String) {
    change {
      $0.open = false
      $0.failure = $0.failure ?? reason
    }
  }

  private func change(_ body: (inout State) -> Void) {
    changed.lock()
    state.withLock { body(&$0) }
    changed.broadcast()
    changed.unlock()
  }

  var isOpen: Bool { state.withLock { $0.open } }
  var failure: String? { state.withLock { $0.failure } }

  func forgetFirstByte() { state.withLock { $0.firstByte = nil } }

  func waitUntilOpen(seconds: Double) throws { _ = try wait(seconds) { $0.open ? 0 : nil } }

  /// The moment of the first byte that is no padding.
  func waitForFirstByte(seconds: Double) throws -> UInt64 { try wait(seconds) { $0.firstByte } }

  private func wait(_ seconds: Double, _ value: (State) -> UInt64?) throws -> UInt64 {
    let end = Date(timeIntervalSinceNow: seconds)
    changed.lock()
    defer { changed.unlock() }
    while true {
      let state = state.withLock { $0 }
      if let found = value(state) { return found }
      if let failure = state.failure { throw Trouble("a reader failed: \(failure)") }
      if !changed.wait(until: end) { throw Trouble("a reader got nothing within \(Int(seconds)) s") }
    }
  }
}

/// Many waiting readers, on a thread of their own.
final class ReaderLoad: Sendable {
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let tls: NIOSSLContext

  init() throws { tls = try PostLoad.tls() }

  func connect(_ slot: ReaderSlot, port: Int) async throws {
    let tls = tls
    _ = try await ClientBootstrap(group: group)
      .connectTimeout(.seconds(10))
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(NIOSSLClientHandler(context: tls, serverHostname: nil))
          try pipeline.addHTTPClientHandlers()
          try pipeline.addHandler(ReaderHandler(slot))
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
  }

  func stop() async { try? await group.shutdownGracefully() }
}

private final class ReaderHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  private let slot: ReaderSlot

  init(_ slot: ReaderSlot) { self.slot = slot }

  func channelActive(context: ChannelHandlerContext) { post(context) }

  private func post(_ context: ChannelHandlerContext) {
    let headers: HTTPHeaders = [
      "Host": "127.0.0.1", "User-Agent": "Velociraptor", "Content-Type": "application/binary",
      "Content-Length": String(slot.body.count),
    ]
    let head = HTTPRequestHead(version: .http1_1, method: .POST, uri: "/reader", headers: headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(
      wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: slot.body)))), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): head.status == .ok ? slot.opened() : slot.failed("status \(head.status.code)")
    // Padding is three bytes.
    case .body(let part): if part.readableBytes > 3 { slot.received() }
    case .end:
      slot.ended()
      if slot.failure == nil { post(context) }
    }
  }

  func channelInactive(context: ChannelHandlerContext) { slot.failed("the connection ended") }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    slot.failed("\(error)")
    context.close(promise: nil)
  }
}
