import NIOCore
import NIOTLS

/// Tells when the TLS handshake is done, and bounds its time.
final class HandshakeGate: ChannelInboundHandler {
  typealias InboundIn = NIOAny

  private let promise: EventLoopPromise<Void>
  private let timer: Scheduled<Void>

  var opened: EventLoopFuture<Void> { promise.futureResult }

  init(timeout: TimeAmount, loop: any EventLoop) {
    let promise = loop.makePromise(of: Void.self)
    self.promise = promise
    timer = loop.scheduleTask(in: timeout) { promise.fail(AgentError(.connection, "the TLS handshake takes too long")) }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent { finish(.success(())) }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish(.failure(AgentError(.connection, "TLS: \(error)")))
    context.fireErrorCaught(error)
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(.failure(AgentError(.connection, "the connection was closed inside the TLS handshake")))
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish(.failure(AgentError(.connection, "the connection was closed inside the TLS handshake")))
  }

  private func finish(_ result: Result<Void, any Error>) {
    timer.cancel()
    promise.completeWith(result)
  }
}
