import NIOCore
import NIOHTTP1

/// One message of a websocket as a request, or a reader that stays open (http.md §7).
final class WebSocketExchange: NumberedExchange {
  let userAgent: String
  let remoteAddress: String
  let eventLoop: any EventLoop
  let connection: Connection
  let staysOpen: Bool
  let handler: NIOLoopBound<WebSocketHandler>
  let number: UInt64

  init(
    userAgent: String, remoteAddress: String, connection: Connection, staysOpen: Bool, number: UInt64,
    handler: WebSocketHandler, on loop: any EventLoop
  ) {
    self.userAgent = userAgent
    self.remoteAddress = remoteAddress
    self.connection = connection
    self.staysOpen = staysOpen
    self.number = number
    eventLoop = loop
    self.handler = NIOLoopBound(handler, eventLoop: loop)
  }

  func respond(_ status: HTTPResponseStatus, text: String?, headers: [(String, String)]) {
    run { $0.answer(WebSocketAnswer(code: Int(status.code), text: text)) }
  }

  func respond(_ status: HTTPResponseStatus, bytes: [UInt8], headers: [(String, String)]) {
    run { $0.answer(WebSocketAnswer(code: Int(status.code), body: bytes)) }
  }

  func complete(_ bytes: [UInt8]) { finish(bytes, written: nil) }

  /// There is no head to write: the code comes with the outcome.
  func startStream() {}

  /// Pings keep a websocket alive.
  func writePad() {
    run { $0.ping() }
  }

  func deliver(_ bytes: [UInt8], written: @escaping @Sendable (Bool) -> Void) {
    onLoop { [self] in
      let handler = handler.value
      guard handler.current == number else { return written(false) }
      handler.write(WebSocketAnswer(code: 200, body: bytes), written)
    }
  }

  /// A sender gets its code, without a body; a reader's end is the connection's.
  func finish(_ bytes: [UInt8], written: (@Sendable (Bool) -> Void)?) {
    onLoop { [self] in
      let handler = handler.value
      guard handler.current == number else {
        written?(false)
        return
      }
      if staysOpen { handler.endReader() } else { handler.answer(WebSocketAnswer(code: 200)) }
      written?(true)
    }
  }

  func abort() {
    run { $0.abort() }
  }
}
