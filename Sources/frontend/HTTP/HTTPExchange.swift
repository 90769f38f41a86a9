import NIOCore
import NIOHTTP1
import Wire

/// One HTTP request. Calls hop to the connection's event loop.
final class HTTPExchange: NumberedExchange {
  let userAgent: String
  let remoteAddress: String
  let isWebSocket: Bool
  let eventLoop: any EventLoop
  let connection: Connection
  let staysOpen = false
  let handler: NIOLoopBound<ExchangeHandler>
  /// Which request of the connection this is: a late answer must not reach the next one.
  let number: UInt64

  init(
    head: HTTPRequestHead, remoteAddress: String, number: UInt64, connection: Connection, handler: ExchangeHandler,
    on loop: any EventLoop
  ) {
    self.remoteAddress = remoteAddress
    self.number = number
    self.connection = connection
    eventLoop = loop
    userAgent = String((head.headers.first(name: "User-Agent") ?? "").prefix(256))
    isWebSocket = head.headers[canonicalForm: "Upgrade"].contains { $0.lowercased() == "websocket" }
    self.handler = NIOLoopBound(handler, eventLoop: loop)
  }

  /// A text ends in a line feed and goes with `nosniff`, as peers know it (http.md §4).
  func respond(_ status: HTTPResponseStatus, text: String?, headers: [(String, String)]) {
    var all = headers
    var bytes: [UInt8] = []
    if let text {
      bytes = Array((text + "\n").utf8)
      all.append(("X-Content-Type-Options", "nosniff"))
    }
    all.append(("Content-Type", "text/plain; charset=utf-8"))
    respond(status, bytes: bytes, headers: all)
  }

  func respond(_ status: HTTPResponseStatus, bytes: [UInt8], headers: [(String, String)]) {
    run { $0.respond(status, headers, bytes) }
  }

  func complete(_ bytes: [UInt8]) {
    run { $0.respond(.ok, ExchangeHandler.answerHeaders, bytes) }
  }

  func startStream() {
    run { $0.startStream() }
  }

  func writePad() { writePart(envelopePad) }

  /// Writes and flushes a part of a streamed answer.
  func writePart(_ bytes: [UInt8]) {
    run { $0.writePart(bytes) }
  }

  /// An HTTP answer carries one envelope.
  func deliver(_ bytes: [UInt8], written: @escaping @Sendable (Bool) -> Void) { finish(bytes, written: written) }

  func finish(_ bytes: [UInt8], written: (@Sendable (Bool) -> Void)?) {
    onLoop { [self] in
      let handler = handler.value
      if handler.current == number { handler.finish(bytes, written) } else { written?(false) }
    }
  }

  func abort() {
    run { $0.abort() }
  }
}
