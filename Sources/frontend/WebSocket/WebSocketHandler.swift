import NIOCore
import NIOHTTP1
import NIOWebSocket

/// A websocket of an agent: each message is a request, worked on one after the other; a reader's first message stays
/// open for tasks (http.md §7). The reference has no limits here; ours are those of HTTP.
final class WebSocketHandler: ChannelInboundHandler, NumberedRequests {
  typealias InboundIn = WebSocketFrame
  typealias OutboundOut = WebSocketFrame

  private let router: Router
  private let route: Route
  private let connection: Connection
  private let userAgent: String
  private let remoteAddress: String
  private var assembly: MessageAssembly
  private var context: ChannelHandlerContext?

  /// Messages that wait for the one before. Reading stops meanwhile, so they are what one read brought.
  private var waiting: [[UInt8]] = []
  /// The number of the exchange that may be answered; 0 when none.
  private(set) var current: UInt64 = 0
  private var sequence: UInt64 = 0
  private var slot: Slots.Ticket?
  private var awaitsSlot = false
  private var isReading = true
  private var isDraining = false
  private var isClosing = false
  /// Bytes since the last whole message.
  private var unfinished = 0
  private var lastHeard = NIODeadline.now()
  private var pinger: RepeatedTask?
  private var readTimer: Scheduled<Void>?
  private var writeTimer: Scheduled<Void>?
  var onClose: (@Sendable () -> Void)?

  init(router: Router, route: Route, connection: Connection, head: HTTPRequestHead) {
    self.router = router
    self.route = route
    self.connection = connection
    userAgent = String((head.headers.first(name: "User-Agent") ?? "").prefix(256))
    remoteAddress = router.remoteAddress(of: connection, head.headers)
    assembly = MessageAssembly(limit: router.webSocket.message)
  }

  // MARK: connection

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    let interval = router.webSocket.pingInterval
    pinger = context.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in bound.value.ping() }
    watchReads(in: router.webSocket.readTime)
  }

  func handlerRemoved(context: ChannelHandlerContext) { gone() }

  func channelInactive(context: ChannelHandlerContext) {
    gone()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if let error = error as? NIOWebSocketError {
      return close(error == .invalidFrameLength ? .messageTooLarge : .protocolError)
    }
    router.connectionError(error)
    abort()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is ConnectionRegistry.Drain {
      isDraining = true
      if current == 0, waiting.isEmpty { close(.goingAway) }
    }
    context.fireUserInboundEventTriggered(event)
  }

  /// The peer must take what it is told: an answer that it makes no room for is not kept for ever.
  func channelWritabilityChanged(context: ChannelHandlerContext) {
    writeTimer?.cancel()
    writeTimer = nil
    if !context.channel.isWritable {
      let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
      writeTimer = context.eventLoop.scheduleTask(in: router.webSocket.writeTime) { bound.value.abort() }
    }
    context.fireChannelWritabilityChanged()
  }

  private func gone() {
    pinger?.cancel()
    readTimer?.cancel()
    writeTimer?.cancel()
    settle()
    waiting = []
    awaitsSlot = false
    context = nil
    onClose?()
    onClose = nil
  }

  /// While a message is worked on nothing is read, so silence means nothing then.
  private func watchReads(in time: TimeAmount) {
    guard let context else { return }
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    readTimer = context.eventLoop.scheduleTask(in: time) { bound.value.checkReads() }
  }

  private func checkReads() {
    let left = lastHeard + router.webSocket.readTime - .now()
    if isReading, left <= .zero { return abort() }
    watchReads(in: left > .zero ? left : router.webSocket.readTime)
  }

  // MARK: messages

  /// Bytes have arrived that may be part of a large message: such a one needs a place before it is complete.
  func arrived(_ count: Int) {
    unfinished += count
    if unfinished > router.webSocket.unslotted, slot == nil, !awaitsSlot, let context { acquireSlot(context) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isClosing else { return }
    lastHeard = .now()
    switch assembly.frame(unwrapInboundIn(data)) {
    case .none, .alive: break
    case .pong(let data): write(WebSocketFrame(fin: true, opcode: .pong, data: data), nil)
    case .closed: close(.normalClosure)
    case .fail(let code): close(code)
    case .message(let body):
      unfinished = 0
      waiting.append(body)
      pump()
    }
  }

  private func pump() {
    guard let context, !isClosing, !awaitsSlot, !waiting.isEmpty else { return }
    if route == .reader, current != 0, let reader = open {
      router.handleFurtherCheckIn(reader, waiting.removeFirst())
      return pump()
    }
    guard current == 0 else { return }
    if route == .control, slot == nil {
      acquireSlot(context)
      guard slot != nil else { return }
    }
    sequence += 1
    current = sequence
    router.requests.begin()
    let exchange = WebSocketExchange(
      userAgent: userAgent, remoteAddress: remoteAddress, connection: connection, staysOpen: route == .reader,
      number: sequence, handler: self, on: context.eventLoop)
    if route == .reader {
      open = exchange
      releaseSlot()
    }
    setReading()
    router.handle(route, exchange, waiting.removeFirst())
  }

  /// The reader that waits on this connection.
  private var open: WebSocketExchange?

  private func acquireSlot(_ context: ChannelHandlerContext) {
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    let loop = context.eventLoop
    slot = router.slots.acquire { ticket in loop.execute { bound.value.slotDecided(ticket) } }.ticket
    awaitsSlot = slot == nil
    setReading()
  }

  private func slotDecided(_ ticket: Slots.Ticket?) {
    guard context != nil, awaitsSlot else {
      ticket.map(router.slots.release)
      return
    }
    awaitsSlot = false
    guard let ticket else {
      router.metrics.concurrencyTimeouts.increment()
      return answer(WebSocketAnswer(code: 408, text: "Timeout"))
    }
    slot = ticket
    setReading()
    pump()
  }

  private func releaseSlot() {
    if let slot { router.slots.release(slot) }
    slot = nil
  }

  /// One message at a time: what has not been read costs the peer's memory and not ours.
  private func setReading() {
    let wanted = !awaitsSlot && (current == 0 || route == .reader)
    guard wanted != isReading, let context else { return }
    isReading = wanted
    if wanted { lastHeard = .now() }
    context.channel.setOption(.autoRead, value: wanted).whenComplete { _ in }
  }

  /// The exchange is over.
  private func settle() {
    if current != 0 { router.requests.end() }
    current = 0
    open = nil
    releaseSlot()
  }

  // MARK: answers

  /// Answers the message; any code but 200 ends the connection.
  func answer(_ answer: WebSocketAnswer) {
    onClose = nil
    settle()
    write(answer, nil)
    if answer.code != 200 { return close(.normalClosure) }
    if isDraining, waiting.isEmpty { return close(.goingAway) }
    setReading()
    pump()
  }

  /// The reader's time is over, here or for good: the agent opens another.
  func endReader() {
    onClose = nil
    settle()
    close(.goingAway)
  }

  func write(_ answer: WebSocketAnswer, _ written: (@Sendable (Bool) -> Void)?) {
    guard let json = answer.json else {
      written?(false)
      return abort()
    }
    write(WebSocketFrame(fin: true, opcode: .binary, data: ByteBuffer(bytes: json)), written)
  }

  func ping() { write(WebSocketFrame(fin: true, opcode: .ping, data: ByteBuffer()), nil) }

  private func write(_ frame: WebSocketFrame, _ written: (@Sendable (Bool) -> Void)?) {
    guard let context, !isClosing else {
      written?(false)
      return
    }
    guard let written else { return context.writeAndFlush(wrapOutboundOut(frame), promise: nil) }
    let promise = context.eventLoop.makePromise(of: Void.self)
    promise.futureResult.whenComplete { result in
      // As over HTTP: a write that failed may still have reached the peer.
      if case .success = result { written(true) }
    }
    context.writeAndFlush(wrapOutboundOut(frame), promise: promise)
  }

  /// Says why, and closes.
  func close(_ code: WebSocketErrorCode) {
    guard let context, !isClosing else { return }
    isClosing = true
    var data = context.channel.allocator.buffer(capacity: 2)
    data.write(webSocketErrorCode: code)
    let channel = context.channel
    let frame = WebSocketFrame(fin: true, opcode: .connectionClose, data: data)
    context.writeAndFlush(wrapOutboundOut(frame)).whenComplete { _ in channel.close(promise: nil) }
  }

  /// Closes without an answer, which the peer takes as an error and sends its data again.
  func abort() { context?.close(promise: nil) }
}
