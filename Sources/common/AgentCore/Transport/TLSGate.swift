import NIOCore
import NIOTLS

/// Tells when the TLS handshake is done, bounds its time, and makes room for the protocol that was agreed on.
final class TLSGate: ChannelInboundHandler {
  typealias InboundIn = NIOAny

  private let promise: EventLoopPromise<Void>
  private let timer: Scheduled<Void>
  private let addProtocol: (String?) throws -> Void

  /// Fails when there is no TLS connection.
  var opened: EventLoopFuture<Void> { promise.futureResult }

  /// - Parameter addProtocol: adds the handlers of what ALPN chose; nil: the server chose nothing.
  init(timeout: TimeAmount, loop: any EventLoop, addProtocol: @escaping (String?) throws -> Void) {
    let promise = loop.makePromise(of: Void.self)
    self.promise = promise
    self.addProtocol = addProtocol
    timer = loop.scheduleTask(in: timeout) { promise.fail(AgentError(.connection, "the TLS handshake takes too long")) }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted(let chosen)? = event as? TLSUserEvent {
      do {
        try addProtocol(chosen)
        finish(.success(()))
      } catch {
        finish(.failure(error))
      }
    }
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
