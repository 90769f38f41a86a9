import NIOCore
import NIOHTTP1

/// Executes what the exchange's state machine says: on a connection of HTTP/1.1, or on one stream of HTTP/2, which is
/// closed after its answer.
final class ExchangeHandler: ChannelInboundHandler, RemovableChannelHandler, NumberedRequests {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// How long a connection may be idle between requests, and how long one request may take to arrive (http.md §8).
  struct Timeouts: Sendable {
    var idle = TimeAmount.seconds(150)
    var request = TimeAmount.seconds(600)
  }

  enum Version: Sendable {
    case http1
    case http2
  }

  private let router: Router
  private let connection: Connection
  private let version: Version
  private var machine = ExchangeStateMachine()
  private var context: ChannelHandlerContext?
  private var head: HTTPRequestHead?
  private var route: Route?
  private var buffer: ByteBuffer?
  private var slot: Slots.Ticket?
  /// The request has to wait for a slot; and its end has already come.
  private var awaitsSlot = false
  private var endIsPending = false
  /// The request's own rate, and the end of a pause that a rate demands.
  private var rate: ByteRate?
  private var pause: Scheduled<Void>?
  /// The peer wants to be told to send its body.
  private var owesContinue = false
  private var deadline = MovingDeadline()
  private var timer: Scheduled<Void>?
  private var keepAlive = true
  /// The process is stopping: this connection ends with its next answer.
  private var isDraining = false
  /// The connection becomes a websocket, and what came meanwhile.
  private var isUpgrading = false
  private var heldBack: [NIOAny] = []
  /// The request counts as one in flight.
  private var isCounted = false
  /// The number of the request that may be answered; 0 when none.
  private(set) var current: UInt64 = 0
  private var sequence: UInt64 = 0
  var onClose: (@Sendable () -> Void)?

  init(router: Router, connection: Connection, version: Version) {
    self.router = router
    self.connection = connection
    self.version = version
  }

  private var timeouts: Timeouts { router.timeouts }

  // MARK: connection

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    arm(timeouts.idle)
  }

  func handlerRemoved(context: ChannelHandlerContext) { gone() }

  func channelInactive(context: ChannelHandlerContext) {
    gone()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    router.connectionError(error)
    abort()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is ConnectionRegistry.Drain {
      isDraining = true
    }
    context.fireUserInboundEventTriggered(event)
  }

  private func gone() {
    pause?.cancel()
    pause = nil
    timer?.cancel()
    timer = nil
    machine.close()
    current = 0
    awaitsSlot = false
    buffer = nil
    releaseSlot()
    settle()
    context = nil
    onClose?()
    onClose = nil
  }

  private func arm(_ amount: TimeAmount) {
    guard context != nil, case .set(let moment) = deadline.move(to: .now() + amount) else { return }
    setTimer(moment)
  }

  private func setTimer(_ moment: NIODeadline) {
    timer?.cancel()
    guard let context else { return }
    // The timer is cancelled before the handler leaves its loop, so it never outlives it.
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(deadline: moment) { bound.value.timerFired() }
  }

  private func stopTimer() {
    timer?.cancel()
    timer = nil
    deadline = MovingDeadline()
  }

  private func timerFired() {
    timer = nil
    switch deadline.fired(now: .now()) {
    case .reached: abort()
    case .set(let moment): setTimer(moment)
    case .none: break
    }
  }

  // MARK: request

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    // The decoder has left: these are bytes, and the websocket's.
    if isUpgrading { return holdBack(data) }
    switch unwrapInboundIn(data) {
    case .head(let head): receive(head)
    case .body(let part): receive(part)
    case .end: receiveEnd()
    }
  }

  private func receive(_ head: HTTPRequestHead) {
    guard let context else { return }
    let route = router.route(head.uri)
    if machine.head(route.bodyRule(router.limits)) == .close { return abort() }
    self.head = head
    self.route = route
    // After a request with an Upgrade header the decoder reads no more HTTP, whatever the answer is.
    let mayUpgrade = head.headers.contains(name: "Upgrade")
    keepAlive = version == .http2 || (head.isKeepAlive && !mayUpgrade)
    sequence += 1
    isCounted = true
    router.requests.begin()
    buffer = nil
    awaitsSlot = false
    endIsPending = false
    arm(timeouts.request)
    let urgent = head.headers.first(name: "X-Priority").map { $0.lowercased() == "urgent" } ?? false
    if route == .control, !urgent, !mayUpgrade { waitForSlot(context) }
    if route == .control { rate = router.uploads.ofRequest() }
    owesContinue = head.headers.first(name: "Expect")?.lowercased() == "100-continue"
    askForBody()
  }

  /// A body is asked for when it will be read: not before it has its place, and never for a route that needs none.
  private func askForBody() {
    guard owesContinue, !awaitsSlot, let route else { return }
    owesContinue = false
    if route.bodyRule(router.limits) == .discard {
      keepAlive = false
      receiveEnd()
    } else {
      write(.head(HTTPResponseHead(version: .http1_1, status: .continue)), flush: true)
    }
  }

  /// A body holds its slot while it is read, so slots bound the memory of uploads (http.md §4 step 3).
  private func waitForSlot(_ context: ChannelHandlerContext) {
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    let loop = context.eventLoop
    let number = sequence
    let waiting = router.slots.acquire { granted in
      loop.execute { bound.value.slotDecided(number, granted) }
    }
    if let ticket = waiting.ticket {
      slot = ticket
    } else {
      awaitsSlot = true
      // Nothing more is read from this connection until its turn has come.
      context.channel.setOption(.autoRead, value: false).assumeIsolated().whenFailure { _ in bound.value.abort() }
    }
  }

  private func slotDecided(_ number: UInt64, _ ticket: Slots.Ticket?) {
    guard let context, number == sequence, awaitsSlot else {
      ticket.map(router.slots.release)
      return
    }
    awaitsSlot = false
    if let ticket {
      slot = ticket
      context.channel.setOption(.autoRead, value: true).whenComplete { _ in }
      askForBody()
      if endIsPending { receiveEnd() }
    } else {
      // The rest of the request will not be read: the connection ends after the answer.
      router.metrics.concurrencyTimeouts.increment()
      _ = machine.end()
      keepAlive = false
      current = sequence
      respond(
        .requestTimeout,
        [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")],
        Array("Timeout\n".utf8))
    }
  }

  private func receive(_ part: ByteBuffer) {
    let count = part.readableBytes
    switch machine.body(count) {
    case .keep:
      if buffer == nil {
        buffer = part
      } else {
        var part = part
        buffer?.writeBuffer(&part)
      }
      limitRate(count)
    case .close: abort()
    case .none, .process, .tooLarge: break
    }
  }

  /// Reads no more for as long as the rates of uploads demand; only the peer's memory holds what waits.
  private func limitRate(_ count: Int) {
    guard let context, !awaitsSlot, let time = router.uploads.take(count, own: &rate) else { return }
    pause?.cancel()
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
    pause = context.eventLoop.scheduleTask(in: time) {
      let handler = bound.value
      handler.pause = nil
      guard !handler.awaitsSlot else { return }
      handler.context?.channel.setOption(.autoRead, value: true).whenComplete { _ in }
      if handler.endIsPending { handler.receiveEnd() }
    }
  }

  private func receiveEnd() {
    guard let context, let head, let route else { return }
    if awaitsSlot || pause != nil {
      endIsPending = true
      return
    }
    let action = machine.end()
    guard action == .process || action == .tooLarge else { return }
    deadline.stop()
    // A reader waits for minutes: it needs no timer that fires for nothing.
    if route == .reader { stopTimer() }
    if version == .http1, WebSocketUpgrade.isWanted(head, route) { return upgrade(head, route, context) }
    process(head, route, action, context)
  }

  private func process(
    _ head: HTTPRequestHead, _ route: Route, _ action: ExchangeStateMachine.Action, _ context: ChannelHandlerContext
  ) {
    current = sequence
    let exchange = HTTPExchange(
      head: head, remoteAddress: router.remoteAddress(of: connection, head.headers), number: sequence,
      connection: connection, handler: self, on: context.eventLoop)
    let body = buffer.map { Array($0.readableBytesView) } ?? []
    buffer = nil
    self.head = nil
    router.handle(route, exchange, body, tooLarge: action == .tooLarge)
  }

  /// Bytes that come while the connection changes hands; more than a socket's buffer of them is no agent.
  private func holdBack(_ data: NIOAny) {
    if heldBack.count < 64 { heldBack.append(data) } else { abort() }
  }

  func removeHandler(context: ChannelHandlerContext, removalToken: ChannelHandlerContext.RemovalToken) {
    let held = heldBack
    heldBack = []
    for data in held { context.fireChannelRead(data) }
    if !held.isEmpty { context.fireChannelReadComplete() }
    context.leavePipeline(removalToken: removalToken)
  }

  /// Hands the connection over to a websocket (http.md §7).
  private func upgrade(_ head: HTTPRequestHead, _ route: Route, _ context: ChannelHandlerContext) {
    WebSocketUpgrade.answer(head, router, connection) { [self] headers in
      guard let headers, self.context != nil else { return process(head, route, .process, context) }
      isUpgrading = true
      machine.close()
      settle()
      let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
      WebSocketUpgrade.perform(head, headers, router, connection, context: context).assumeIsolated().whenComplete {
        if case .failure(let error) = $0 {
          bound.value.errorCaught(context: context, error: error)
        } else {
          context.pipeline.syncOperations.removeHandler(bound.value, promise: nil)
        }
      }
    }
  }

  // MARK: answer

  func respond(_ status: HTTPResponseStatus, _ headers: [(String, String)], _ bytes: [UInt8]) {
    guard machine.answerHead(), let context else { return }
    var all = HTTPHeaders(headers)
    all.add(name: "Content-Length", value: String(bytes.count))
    markLast(&all)
    write(.head(HTTPResponseHead(version: .http1_1, status: status, headers: all)), flush: false)
    if !bytes.isEmpty { write(.body(.byteBuffer(context.channel.allocator.buffer(bytes: bytes))), flush: false) }
    end(nil)
  }

  /// Those of a 200 to a body.
  static let answerHeaders = [("Content-Type", "text/plain; charset=utf-8"), ("X-Accel-Buffering", "no")]

  func startStream() {
    guard machine.answerHead() else { return }
    var headers = HTTPHeaders(Self.answerHeaders)
    if version == .http1 { headers.add(name: "Transfer-Encoding", value: "chunked") }
    markLast(&headers)
    write(.head(HTTPResponseHead(version: .http1_1, status: .ok, headers: headers)), flush: true)
  }

  /// An answer that ends its connection says so. HTTP/2 has its own words for that.
  private func markLast(_ headers: inout HTTPHeaders) {
    guard version == .http1 else { return }
    if isDraining { keepAlive = false }
    if !keepAlive { headers.add(name: "Connection", value: "close") }
  }

  func writePart(_ bytes: [UInt8]) {
    guard machine.mayWriteBody, let context, !bytes.isEmpty else { return }
    write(.body(.byteBuffer(context.channel.allocator.buffer(bytes: bytes))), flush: true)
  }

  func finish(_ bytes: [UInt8], _ written: (@Sendable (Bool) -> Void)?) {
    guard machine.mayWriteBody, let context else {
      written?(false)
      return
    }
    if !bytes.isEmpty { write(.body(.byteBuffer(context.channel.allocator.buffer(bytes: bytes))), flush: false) }
    end(written)
  }

  private func end(_ written: (@Sendable (Bool) -> Void)?) {
    guard machine.answerEnd(), let context else {
      written?(false)
      return
    }
    current = 0
    route = nil
    onClose = nil
    releaseSlot()
    settle()
    if isDraining, version == .http1 { keepAlive = false }
    if keepAlive, written == nil {
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      return rest()
    }
    let promise = context.eventLoop.makePromise(of: Void.self)
    if let written {
      promise.futureResult.whenComplete { result in
        // A write that failed may still have reached the peer: only what was never written counts as not written.
        if case .success = result { written(true) }
      }
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
    if keepAlive {
      rest()
    } else {
      machine.close()
      let channel = context.channel
      promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
    }
  }

  /// Waits for the next request. A stream of HTTP/2 is over with its answer; the connection has its own watch.
  private func rest() {
    if version == .http1 { arm(timeouts.idle) } else { deadline.stop() }
  }

  func abort() {
    machine.close()
    current = 0
    // A reset rather than an orderly end: a cut answer must never look complete.
    context?.close(promise: nil)
  }

  private func settle() {
    if isCounted { router.requests.end() }
    isCounted = false
  }

  private func releaseSlot() {
    if let slot { router.slots.release(slot) }
    slot = nil
  }

  private func write(_ part: HTTPServerResponsePart, flush: Bool) {
    guard let context else { return }
    if flush {
      context.writeAndFlush(wrapOutboundOut(part), promise: nil)
    } else {
      context.write(wrapOutboundOut(part), promise: nil)
    }
  }
}
