import NIOCore

/// Joins what is written before a flush, so that the head and the body of a small answer become one TLS record instead
/// of two.
final class WriteCoalescer: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// A part of this size goes alone: copying it would cost more than a record.
  private static let largest = 8_192

  private var buffer: ByteBuffer?
  private var promise: EventLoopPromise<Void>?

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    var part = unwrapOutboundIn(data)
    if part.readableBytes + (buffer?.readableBytes ?? 0) > Self.largest {
      pass(context)
      return context.write(data, promise: promise)
    }
    if buffer == nil {
      buffer = part
    } else {
      buffer?.writeBuffer(&part)
    }
    guard let promise else { return }
    if let first = self.promise {
      first.futureResult.cascade(to: promise)
    } else {
      self.promise = promise
    }
  }

  func flush(context: ChannelHandlerContext) {
    pass(context)
    context.flush()
  }

  private func pass(_ context: ChannelHandlerContext) {
    guard let buffer else { return }
    self.buffer = nil
    let promise = promise
    self.promise = nil
    context.write(wrapOutboundOut(buffer), promise: promise)
  }

  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    pass(context)
    context.close(mode: mode, promise: promise)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    // Nobody waits for ever for what the channel can no longer take.
    promise?.fail(ChannelError.ioOnClosedChannel)
    promise = nil
    buffer = nil
  }
}
