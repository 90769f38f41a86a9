import NIOCore
import NIOHTTP1

/// Executes what the exchange's state machine says on one connection.
final class ExchangeHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// How long a connection may be idle between requests, and how long one request may take to arrive (http.md §8).
  struct Timeouts: Sendable {
    var idle = TimeAmount.seconds(150)
    var request = TimeAmount.seconds(600)
  }

  private let router: Router
  private let timeouts: Timeouts
  private var machine = ExchangeStateMachine()
  private var context: ChannelHandlerContext?
  private var head: HTTPRequestHead?
  private var route: Route?
  private var buffer: ByteBuffer?
  private var slot: Slots.Ticket?
  /// The request has to wait for a slot; and its end has already come.
  private var awaitsSlot = false
  private var endIsPending = false
  private var timer: Scheduled<Void>?
  private var keepAlive = true
  /// The number of the request that may be answered; 0 when none.
  private(set) var current: UInt64 = 0
  private var sequence: UInt64 = 0
  var onClose: (@Sendable () -> Void)?

  init(router: Router, timeouts: Timeouts = Timeouts()) {
    self.router = router
    self.timeouts = timeouts
  }

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

  private func gone() {
    timer?.cancel()
    timer = nil
    machine.close()
    current = 0
    awaitsSlot = false
    releaseSlot()
    context = nil
    onClose?()
    onClose = nil
  }

  private func arm(_ amount: TimeAmount) {
    timer?.cancel()
    guard let context else { return }
    // The timer is cancelled before the handler leaves its loop, so it never outlives it.
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: amount) { bound.value.abort() }
  }

  // MARK: request

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
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
    keepAlive = head.isKeepAlive
    sequence += 1
    buffer = nil
    awaitsSlot = false
    endIsPending = false
    arm(timeouts.request)
    let urgent = head.headers.first(name: "X-Priority").map { $0.lowercased() == "urgent" } ?? false
    if route == .control, !urgent { waitForSlot(context) }
    if head.headers.first(name: "Expect")?.lowercased() == "100-continue" {
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
      if endIsPending { receiveEnd() }
    } else {
      // The rest of the request will not be read: the connection ends after the answer.
      router.metrics.concurrencyTimeouts.increment()
      _ = machine.end()
      keepAlive = false
      current = sequence
      respond(.requestTimeout, [("Content-Type", "text/plain; charset=utf-8")], Array("Timeout\n".utf8))
    }
  }

  private func receive(_ part: ByteBuffer) {
    switch machine.body(part.readableBytes) {
    case .keep:
      if buffer == nil {
        buffer = part
      } else {
        var part = part
        buffer?.writeBuffer(&part)
      }
    case .close: abort()
    case .none, .process, .tooLarge: break
    }
  }

  private func receiveEnd() {
    guard let context, let head, let route else { return }
    if awaitsSlot {
      endIsPending = true
      return
    }
    let action = machine.end()
    guard action == .process || action == .tooLarge else { return }
    timer?.cancel()
    current = sequence
    let exchange = HTTPExchange(
      head: head, path: head.uri, remoteAddress: router.remoteAddress(of: context.remoteAddress, head.headers),
      number: sequence, handler: self, on: context.eventLoop)
    let body = buffer.map { Array($0.readableBytesView) } ?? []
    buffer = nil
    self.head = nil
    router.handle(route, exchange, body, tooLarge: action == .tooLarge)
  }

  // MARK: answer

  func respond(_ status: HTTPResponseStatus, _ headers: [(String, String)], _ bytes: [UInt8]) {
    guard machine.answerHead(), let context else { return }
    var all = HTTPHeaders(headers)
    all.add(name: "Content-Length", value: String(bytes.count))
    if !keepAlive { all.add(name: "Connection", value: "close") }
    write(.head(HTTPResponseHead(version: .http1_1, status: status, headers: all)), flush: false)
    if !bytes.isEmpty { write(.body(.byteBuffer(context.channel.allocator.buffer(bytes: bytes))), flush: false) }
    end(nil)
  }

  func startStream() {
    guard machine.answerHead() else { return }
    var headers = HTTPHeaders([
      ("Content-Type", "text/plain; charset=utf-8"), ("X-Accel-Buffering", "no"), ("Transfer-Encoding", "chunked"),
    ])
    if !keepAlive { headers.add(name: "Connection", value: "close") }
    write(.head(HTTPResponseHead(version: .http1_1, status: .ok, headers: headers)), flush: true)
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
    let promise = context.eventLoop.makePromise(of: Void.self)
    if let written {
      promise.futureResult.whenComplete { result in
        // A write that failed may still have reached the peer: only what was never written counts as not written.
        if case .success = result { written(true) }
      }
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
    if keepAlive {
      arm(timeouts.idle)
    } else {
      machine.close()
      let channel = context.channel
      promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
    }
  }

  func abort() {
    machine.close()
    current = 0
    // A reset rather than an orderly end: a cut answer must never look complete.
    context?.close(promise: nil)
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
