import NIOCore
import NIOPosix
import Synchronization

/// A bad network on loopback: passes bytes to a port, or does with them what networks do.
final class FaultProxy: Sendable {
  enum Mode: Sendable, Equatable {
    case pass
    /// Connections end as soon as they are made; those that are open end with their next byte.
    case refuse
    /// Connections end after so many bytes in one direction.
    case cut(after: Int)
    /// Every piece waits so long.
    case delay(milliseconds: Int64)
    /// One bit of each piece is flipped.
    case corrupt
    /// Nothing arrives any more, and nothing says so.
    case stall
  }

  let port: Int
  private let group: MultiThreadedEventLoopGroup
  private let listener: any Channel
  private let current = Mutex(Mode.pass)

  var mode: Mode {
    get { current.withLock { $0 } }
    set { current.withLock { $0 = newValue } }
  }

  /// - Parameter upstream: the port on loopback that is behind the bad network.
  init(to upstream: Int) async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    self.group = group
    let box = Box()
    listener = try await ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.allowRemoteHalfClosure, value: false)
      .childChannelInitializer { near in
        near.eventLoop.makeCompletedFuture {
          try near.pipeline.syncOperations.addHandler(Relay(box, near, upstream: upstream))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    guard let port = listener.localAddress?.port else { throw Trouble("the bad network has no port") }
    self.port = port
    box.proxy.withLock { $0 = self }
  }

  func stop() async {
    try? await listener.close()
    try? await group.shutdownGracefully()
  }

  /// The proxy, for handlers that are made before its initialiser has ended.
  fileprivate final class Box: Sendable {
    let proxy = Mutex<FaultProxy?>(nil)
    var mode: Mode { proxy.withLock { $0?.mode } ?? .pass }
  }
}

/// The near side of one connection; makes the far side and carries bytes both ways.
private final class Relay: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let box: FaultProxy.Box
  private let near: any Channel
  private let upstream: Int
  private var far: (any Channel)?
  private var early: [ByteBuffer] = []
  private var gate = FaultGate()

  init(_ box: FaultProxy.Box, _ near: any Channel, upstream: Int) {
    self.box = box
    self.near = near
    self.upstream = upstream
  }

  func channelActive(context: ChannelHandlerContext) {
    guard box.mode != .refuse else { return context.close(promise: nil) }
    let (box, near) = (box, near)
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    ClientBootstrap(group: context.eventLoop)
      .channelInitializer { far in
        far.eventLoop.makeCompletedFuture { try far.pipeline.syncOperations.addHandler(FarSide(box, near)) }
      }
      .connect(host: "127.0.0.1", port: upstream)
      .whenComplete { result in
        switch result {
        case .success(let far): bound.value.connected(far)
        case .failure: near.close(promise: nil)
        }
      }
  }

  private func connected(_ far: any Channel) {
    guard near.isActive else { return far.close(promise: nil) }
    self.far = far
    for buffer in early { gate.carry(buffer, from: near, to: far, box.mode) }
    early = []
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let buffer = unwrapInboundIn(data)
    guard let far else { return early.append(buffer) }
    gate.carry(buffer, from: near, to: far, box.mode)
  }

  func channelInactive(context: ChannelHandlerContext) {
    far?.close(promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}

private final class FarSide: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let box: FaultProxy.Box
  private let near: any Channel
  private var gate = FaultGate()

  init(_ box: FaultProxy.Box, _ near: any Channel) {
    self.box = box
    self.near = near
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    gate.carry(unwrapInboundIn(data), from: context.channel, to: near, box.mode)
  }

  func channelInactive(context: ChannelHandlerContext) {
    near.close(promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}

/// One direction of a connection.
private struct FaultGate {
  private var carried = 0
  /// Pieces keep their order when the delay changes.
  private var free = NIODeadline.uptimeNanoseconds(0)

  mutating func carry(_ buffer: ByteBuffer, from: any Channel, to: any Channel, _ mode: FaultProxy.Mode) {
    carried += buffer.readableBytes
    var piece = buffer
    var due = max(free, .now())
    switch mode {
    case .pass: break
    case .refuse: return from.close(promise: nil)
    case .cut(let limit): if carried > limit { return from.close(promise: nil) }
    case .stall: return
    case .delay(let milliseconds): due = max(free, .now() + .milliseconds(milliseconds))
    case .corrupt:
      let place = piece.readerIndex + Int.random(in: 0..<max(1, piece.readableBytes))
      if let byte = piece.getInteger(at: place, as: UInt8.self) {
        piece.setInteger(byte ^ (1 << UInt8.random(in: 0..<8)), at: place)
      }
    }
    guard due > .now() || free > .now() else { return to.writeAndFlush(piece, promise: nil) }
    free = due
    let late = piece
    to.eventLoop.scheduleTask(deadline: due) { to.writeAndFlush(late, promise: nil) }
  }
}
