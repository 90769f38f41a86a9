import NIOCore

/// Asks an HTTP proxy for a connection to the server (CONNECT), then makes room for the protocol inside (client.md §9).
final class ProxyTunnel: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// The head of an answer is shorter.
  private static let headLimit = 16 << 10

  private let proxy: ProxyURL
  private let request: String
  private let addProtocol: () throws -> Void
  private let promise: EventLoopPromise<Void>
  private let timer: Scheduled<Void>
  private var answer = ByteBuffer()
  private var isDone = false

  /// Succeeds when the tunnel stands and the inner handlers are in the pipeline.
  var opened: EventLoopFuture<Void> { promise.futureResult }

  /// - Parameter addProtocol: adds the handlers of the tunnelled connection.
  init(
    to url: BaseURL, through proxy: ProxyURL, timeout: TimeAmount, loop: any EventLoop,
    addProtocol: @escaping () throws -> Void
  ) {
    self.proxy = proxy
    self.addProtocol = addProtocol
    var lines = ["CONNECT \(url.authority) HTTP/1.1", "Host: \(url.authority)", "User-Agent: Velociraptor"]
    if let authorization = proxy.authorization { lines.append("Proxy-Authorization: \(authorization)") }
    request = lines.joined(separator: "\r\n") + "\r\n\r\n"
    let promise = loop.makePromise(of: Void.self)
    self.promise = promise
    timer = loop.scheduleTask(in: timeout) {
      promise.fail(AgentError(.connection, "the proxy \(proxy) does not answer CONNECT"))
    }
  }

  func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { ask(context) }
  }

  func channelActive(context: ChannelHandlerContext) { ask(context) }

  private func ask(_ context: ChannelHandlerContext) {
    context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: request)), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isDone else { return context.fireChannelRead(data) }
    var bytes = unwrapInboundIn(data)
    answer.writeBuffer(&bytes)
    let text = String(buffer: answer)
    guard text.contains("\r\n\r\n") else {
      if answer.readableBytes > Self.headLimit { fail(context, "the proxy \(proxy) does not speak HTTP") }
      return
    }
    let words = text.prefix { $0 != "\r\n" }.split(separator: " ", maxSplits: 2)
    guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
      return fail(context, "the proxy \(proxy) does not speak HTTP")
    }
    guard (200..<300).contains(status) else { return fail(context, ProxyAnswer.text(status, of: proxy)) }
    open(context)
  }

  private func open(_ context: ChannelHandlerContext) {
    isDone = true
    timer.cancel()
    do {
      try addProtocol()
      promise.succeed(())
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
    } catch {
      fail(context, "the tunnel through \(proxy) cannot be used: \(error)")
    }
  }

  private func fail(_ context: ChannelHandlerContext, _ text: String) {
    isDone = true
    timer.cancel()
    promise.fail(AgentError(.connection, text))
    context.close(promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    fail(context, "the connection to the proxy \(proxy) failed: \(ConnectionFailure.text(error))")
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !isDone { fail(context, "the proxy \(proxy) closed the connection without an answer to CONNECT") }
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    timer.cancel()
    promise.fail(AgentError(.connection, "the connection to the proxy \(proxy) was closed"))
  }
}

/// What an operator needs to read when a proxy refuses.
enum ProxyAnswer {
  static func text(_ status: Int, of proxy: ProxyURL) -> String {
    let reason: String
    switch status {
    // Some proxies say 401 where 407 is meant.
    case 401 where proxy.authorization == nil, 407 where proxy.authorization == nil:
      reason = "it asks for a user and a password: write them as http://user:password@\(proxy.host):\(proxy.port)"
    case 401, 407: reason = "it does not accept the user and password of the configuration"
    case 403: reason = "its rules do not allow this server: allow CONNECT to the server's host and port there"
    case 502, 503, 504: reason = "it cannot reach the server: check the server's name and port from the proxy's network"
    default: reason = "that is not an answer an agent can use; is it a proxy?"
    }
    return "the proxy \(proxy) answered \(status): \(reason)"
  }

  /// Why an answer to a request in absolute form is the proxy's and not the server's; nil when it is the server's.
  ///
  /// The server's own 403 has no text (http.md §4), and it never answers the others.
  static func refusal(_ answer: TransportAnswer, of proxy: ProxyURL) -> String? {
    switch answer.status {
    case 407, 502, 504: return text(answer.status, of: proxy)
    case 403 where !answer.body.isEmpty: return text(403, of: proxy)
    default: return nil
    }
  }
}
