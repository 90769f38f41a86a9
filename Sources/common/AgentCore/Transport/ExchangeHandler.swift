import NIOCore
import NIOHTTP1

/// The channel end of one HTTP/1.1 connection, or of one HTTP/2 stream: runs one exchange at a time. All members are
/// used on the event loop only.
final class ExchangeHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  struct Timeouts: Sendable {
    /// Until the response headers, and until the first byte of the body.
    var answer: TimeAmount
    /// Between two bytes of a body that has begun; pads come every 3 or 10 s.
    var idle: TimeAmount
    /// Without a sign of life for this long a websocket is closed: 1.1 pings.
    var webSocketSilence: TimeAmount
  }

  struct Finished: Sendable {
    var answer: TransportAnswer
    var keepAlive: Bool
  }

  struct Broken: Error {
    var reason: String
    var beforeResponse: Bool
  }

  private struct Exchange {
    var assembler: ResponseAssembler
    var promise: EventLoopPromise<Finished>
    var onHeaders: (@Sendable (Int) -> Void)?
    var onProgress: (@Sendable () -> Void)?
  }

  private let timeouts: Timeouts
  /// Requests are written for this proxy, in absolute form.
  private let proxy: ProxyURL?
  /// A stream of HTTP/2 carries one exchange.
  private let isStream: Bool
  private var exchange: Exchange?
  private var timer: Scheduled<Void>?
  private var context: ChannelHandlerContext?
  private var failure: String?

  init(timeouts: Timeouts, proxy: ProxyURL? = nil, isStream: Bool = false) {
    self.timeouts = timeouts
    self.proxy = proxy
    self.isStream = isStream
  }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) {
    feed(.closed)
    self.context = nil
  }

  /// Writes the request; the promise is completed exactly once.
  func start(_ request: TransportRequest, promise: EventLoopPromise<Finished>) {
    guard let context, context.channel.isActive, exchange == nil else {
      let reason = failure ?? "the connection was closed before the request"
      return promise.fail(Broken(reason: reason, beforeResponse: true))
    }
    exchange = Exchange(
      assembler: ResponseAssembler(limit: request.responseLimit), promise: promise, onHeaders: request.onHeaders,
      onProgress: request.onProgress)
    context.write(wrapOutboundOut(.head(head(request))), promise: nil)
    if let body = request.body { write(body, context) }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    restartTimer(timeouts.answer)
  }

  /// In slices, so that a slow line is told from a dead one: each slice that leaves begins the time anew.
  private func write(_ body: [UInt8], _ context: ChannelHandlerContext) {
    var buffer = ByteBuffer(bytes: body)
    while buffer.readableBytes > 0, let slice = buffer.readSlice(length: min(buffer.readableBytes, Self.sliceSize)) {
      let written = context.eventLoop.makePromise(of: Void.self)
      written.futureResult.assumeIsolated().whenSuccess { [weak self] in self?.sliceLeft() }
      context.write(wrapOutboundOut(.body(.byteBuffer(slice))), promise: written)
    }
  }

  private static let sliceSize = 64 << 10

  private func sliceLeft() {
    guard let exchange else { return }
    exchange.onProgress?()
    restartTimer(timeouts.answer)
  }

  /// Ends the exchange that is under way, and the connection.
  func cancel() { feed(.failed("cancelled")) }

  private func head(_ request: TransportRequest) -> HTTPRequestHead {
    var headers = HTTPHeaders()
    let target = request.url.target(request.handler, redirected: request.isRedirected)
    headers.add(name: "Host", value: request.url.hostHeader)
    headers.add(name: "User-Agent", value: "Velociraptor")
    headers.add(name: "Content-Type", value: "application/binary")
    if request.isUrgent { headers.add(name: "X-Priority", value: "urgent") }
    if let body = request.body { headers.add(name: "Content-Length", value: String(body.count)) }
    if let authorization = proxy?.authorization { headers.add(name: "Proxy-Authorization", value: authorization) }
    return HTTPRequestHead(
      version: .http1_1, method: request.body == nil ? .GET : .POST,
      uri: proxy == nil ? target : "http://\(request.url.hostHeader)\(target)", headers: headers)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) { feed(.part(unwrapInboundIn(data))) }

  func channelInactive(context: ChannelHandlerContext) {
    feed(.closed)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    failure = ConnectionFailure.text(error)
    feed(.failed(ConnectionFailure.text(error)))
    context.close(promise: nil)
  }

  private func feed(_ input: ResponseAssembler.Input) {
    // Taken out while it is changed: two owners would make each appended pad copy what came before.
    guard var current = exchange else { return }
    exchange = nil
    let action = current.assembler.handle(input)
    switch action {
    case .none: exchange = current
    case .headers(let status):
      exchange = current
      current.onHeaders?(status)
      current.onProgress?()
      restartTimer(timeouts.answer)
    case .progress:
      exchange = current
      current.onProgress?()
      restartTimer(timeouts.idle)
    case .finished(let answer, let keepAlive):
      timer?.cancel()
      // A stream that was answered before its body was sent is cut off.
      if isStream || !keepAlive { context?.close(promise: nil) }
      current.promise.succeed(Finished(answer: answer, keepAlive: isStream || keepAlive))
    case .broken(let reason, let beforeResponse):
      timer?.cancel()
      context?.close(promise: nil)
      current.promise.fail(Broken(reason: reason, beforeResponse: beforeResponse))
    }
  }

  private func restartTimer(_ amount: TimeAmount) {
    timer?.cancel()
    guard let context else { return }
    timer = context.eventLoop.assumeIsolated().scheduleTask(in: amount) { [weak self] in self?.feed(.timedOut) }
  }
}
