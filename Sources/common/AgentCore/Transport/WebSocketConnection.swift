import NIOCore
import NIOHTTP1
import NIOWebSocket

/// Websockets: one connection for each handler, one exchange at a time (http.md §7).
enum WebSocketConnection {
  /// The largest message of a server: base64 of what a body may be, and some JSON.
  private static let answerLimit = 192 << 20
  /// A message may come in frames of any size; this many of them.
  private static let fragments = 1 << 16

  /// Asks for a websocket on a connection.
  ///
  /// - Parameter ready: told the outcome; fails when the server does not agree.
  static func make(
    _ route: Route, _ channel: any Channel, _ timeouts: ExchangeHandler.Timeouts, url: BaseURL, handler name: String,
    ready: EventLoopPromise<PooledConnection>
  ) throws {
    let upgrader = NIOTypedWebSocketClientUpgrader<PooledConnection?>(
      maxFrameSize: answerLimit, enableAutomaticErrorHandling: false
    ) { channel, _ in
      channel.eventLoop.makeCompletedFuture { try add(to: channel, route, timeouts, isReader: name == "reader") }
    }
    // Only what a websocket needs: no User-Agent, no Content-Type (http.md §7).
    let head = HTTPRequestHead(
      version: .http1_1, method: .GET, uri: url.target(name, redirected: false),
      headers: ["Host": url.hostHeader])
    let configuration = NIOTypedHTTPClientUpgradeConfiguration<PooledConnection?>(
      upgradeRequestHead: head, upgraders: [upgrader],
      notUpgradingCompletionHandler: { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(WebSocketRefusal(ready, url))
          return nil
        }
      })
    let outcome = try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(
      configuration: .init(upgradeConfiguration: configuration))
    outcome.whenComplete { result in
      switch result {
      case .success(let connection?): ready.succeed(connection)
      // The head of the refusal comes next.
      case .success(nil): break
      case .failure(ChannelError.inappropriateOperationForState):
        ready.fail(AgentError(.connection, "\(url.origin) closed the connection instead of opening a websocket"))
      case .failure(let error): ready.fail(error)
      }
    }
  }

  private static func add(
    to channel: any Channel, _ route: Route, _ timeouts: ExchangeHandler.Timeouts, isReader: Bool
  ) throws -> PooledConnection {
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(
      NIOWebSocketFrameAggregator(
        minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: fragments, maxAccumulatedFrameSize: answerLimit))
    let handler = WebSocketHandler(isReader: isReader, timeouts: timeouts)
    try pipeline.addHandler(handler)
    let bound = NIOLoopBound(handler, eventLoop: channel.eventLoop)
    return PooledConnection(route, channel, speaks: "a websocket", capacity: 1) { request in
      let finished = channel.eventLoop.makePromise(of: ExchangeHandler.Finished.self)
      channel.eventLoop.execute { bound.value.start(request, promise: finished) }
      return RunningExchange(finished: finished.futureResult) {
        channel.eventLoop.execute { bound.value.cancel() }
      }
    }
  }
}

/// Reads why a server does not open a websocket.
private final class WebSocketRefusal: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart

  private let promise: EventLoopPromise<PooledConnection>
  private let url: BaseURL

  init(_ promise: EventLoopPromise<PooledConnection>, _ url: BaseURL) {
    self.promise = promise
    self.url = url
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .head(let head) = unwrapInboundIn(data) else { return }
    let place = head.headers.first(name: "Location").map { " to \($0)" } ?? ""
    promise.fail(
      AgentError(
        .connection,
        "\(url.origin) does not open a websocket: it answered \(head.status.code)\(place); "
          + "a proxy on the way must pass Upgrade headers on, or use the https:// form of the URL"))
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    promise.fail(AgentError(.connection, "\(url.origin) closed the connection instead of opening a websocket"))
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    promise.fail(AgentError(.connection, "\(url.origin) did not open a websocket"))
  }
}

/// The channel end of a websocket: executes what `WebSocketDialogue` says. Used on the event loop only.
final class WebSocketHandler: ChannelInboundHandler {
  typealias InboundIn = WebSocketFrame
  typealias OutboundOut = WebSocketFrame

  private struct Exchange {
    var promise: EventLoopPromise<ExchangeHandler.Finished>
    var onHeaders: (@Sendable (Int) -> Void)?
    var onProgress: (@Sendable () -> Void)?
  }

  /// The slowest line on which a large message is still given time to leave: bytes per second.
  private static let slowestLine = 8192

  private let isReader: Bool
  private let timeouts: ExchangeHandler.Timeouts
  private var dialogue: WebSocketDialogue
  private var exchange: Exchange?
  private var silence: Scheduled<Void>?
  private var patience: Scheduled<Void>?
  private var context: ChannelHandlerContext?

  init(isReader: Bool, timeouts: ExchangeHandler.Timeouts) {
    self.isReader = isReader
    self.timeouts = timeouts
    dialogue = WebSocketDialogue(isReader: isReader)
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    listen()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    feed(.closed)
    silence?.cancel()
    patience?.cancel()
    self.context = nil
  }

  /// Sends the request's body; the promise is completed exactly once.
  func start(_ request: TransportRequest, promise: EventLoopPromise<ExchangeHandler.Finished>) {
    guard exchange == nil, context != nil else {
      return promise.fail(
        ExchangeHandler.Broken(reason: "the websocket was closed before the request", beforeResponse: true))
    }
    exchange = Exchange(promise: promise, onHeaders: request.onHeaders, onProgress: request.onProgress)
    let body = request.body ?? []
    // A reader waits as long as the server pings.
    if !isReader {
      patience = schedule(in: timeouts.answer + .seconds(Int64(body.count / Self.slowestLine))) { $0.feed(.timedOut) }
    }
    feed(.request(body))
  }

  func cancel() { if exchange != nil { feed(.cancelled) } }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    listen()
    exchange?.onProgress?()
    feed(.frame(unwrapInboundIn(data)))
  }

  func channelInactive(context: ChannelHandlerContext) {
    feed(.closed)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    feed(.failed(ConnectionFailure.text(error)))
    context.close(promise: nil)
  }

  /// Any sign of life begins the time anew.
  private func listen() {
    silence?.cancel()
    silence = schedule(in: timeouts.webSocketSilence) { $0.feed(.silent) }
  }

  private func schedule(in time: TimeAmount, _ body: @escaping @Sendable (WebSocketHandler) -> Void) -> Scheduled<Void>?
  {
    guard let context else { return nil }
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    return context.eventLoop.scheduleTask(in: time) { body(bound.value) }
  }

  private func feed(_ input: WebSocketDialogue.Input) {
    for action in dialogue.handle(input) { execute(action) }
  }

  private func execute(_ action: WebSocketDialogue.Action) {
    switch action {
    case .send(let bytes): send(bytes)
    case .pong(let data): write(WebSocketFrame(fin: true, opcode: .pong, maskKey: .random(), data: data))
    case .answer(let answer):
      finish { $0.succeed(ExchangeHandler.Finished(answer: answer, keepAlive: answer.status == 200)) }
    case .broken(let reason, let beforeResponse):
      finish { $0.fail(ExchangeHandler.Broken(reason: reason, beforeResponse: beforeResponse)) }
    case .close(let code):
      if let code { sayGoodbye(code) }
      context?.close(promise: nil)
    }
  }

  private func finish(_ body: (EventLoopPromise<ExchangeHandler.Finished>) -> Void) {
    patience?.cancel()
    let promise = exchange?.promise
    exchange = nil
    promise.map(body)
  }

  private func send(_ bytes: [UInt8]) {
    let frame = WebSocketFrame(fin: true, opcode: .binary, maskKey: .random(), data: ByteBuffer(bytes: bytes))
    guard isReader, let context else { return write(frame) }
    // There are no headers: a check-in that left, and is not answered by a code, is a poll that waits.
    let onHeaders = exchange?.onHeaders
    context.writeAndFlush(wrapOutboundOut(frame)).whenSuccess { onHeaders?(200) }
  }

  private func write(_ frame: WebSocketFrame) { context?.writeAndFlush(wrapOutboundOut(frame), promise: nil) }

  private func sayGoodbye(_ code: WebSocketErrorCode) {
    var data = ByteBuffer()
    data.write(webSocketErrorCode: code)
    write(WebSocketFrame(fin: true, opcode: .connectionClose, maskKey: .random(), data: data))
  }
}
