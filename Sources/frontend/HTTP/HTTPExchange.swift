import NIOCore
import NIOHTTP1

/// One request, and the means to answer it from anywhere. Writes hop to the connection's event loop; after the peer has
/// gone they do nothing.
final class HTTPExchange: Sendable {
  let path: String
  let isUrgent: Bool
  let userAgent: String
  let remoteAddress: String
  let isWebSocket: Bool
  let eventLoop: any EventLoop
  private let handler: NIOLoopBound<ExchangeHandler>
  /// Which request of the connection this is: a late answer must not reach the next one.
  private let number: UInt64

  init(head: HTTPRequestHead, path: String, remoteAddress: String, number: UInt64, handler: ExchangeHandler, on loop: any EventLoop) {
    self.path = path
    self.remoteAddress = remoteAddress
    self.number = number
    eventLoop = loop
    isUrgent = head.headers.first(name: "X-Priority").map { $0.lowercased() == "urgent" } ?? false
    userAgent = String((head.headers.first(name: "User-Agent") ?? "").prefix(256))
    isWebSocket = head.headers[canonicalForm: "Upgrade"].contains { $0.lowercased() == "websocket" }
    self.handler = NIOLoopBound(handler, eventLoop: loop)
  }

  /// Writes a whole answer. A text ends in a line feed and goes with `nosniff`, as peers know it (http.md §4).
  func respond(_ status: HTTPResponseStatus, text: String? = nil, headers: [(String, String)] = []) {
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

  /// Writes the head of a streamed 200 (http.md §4 step 8) and flushes it.
  func startStream() {
    run { $0.startStream() }
  }

  /// Writes and flushes a part of a streamed answer.
  func write(_ bytes: [UInt8]) {
    run { $0.writePart(bytes) }
  }

  /// Writes the last part and ends the answer.
  /// - Parameter written: told true when the connection took the bytes, false when it certainly never got any; not
  ///   called when it broke while they were on their way.
  func finish(_ bytes: [UInt8], written: (@Sendable (Bool) -> Void)? = nil) {
    onLoop { [self] in
      let handler = handler.value
      if handler.current == number { handler.finish(bytes, written) } else { written?(false) }
    }
  }

  /// Cuts the connection: the peer must not take what it has for a complete answer (http.md §6).
  func abort() {
    run { $0.abort() }
  }

  /// Calls back when the connection has gone, at once if it has; replaced by the next call.
  func onClose(_ callback: @escaping @Sendable () -> Void) {
    onLoop { [self] in
      let handler = handler.value
      if handler.current == number { handler.onClose = callback } else { callback() }
    }
  }

  private func run(_ body: @escaping @Sendable (ExchangeHandler) -> Void) {
    onLoop { [self] in
      let handler = handler.value
      if handler.current == number { body(handler) }
    }
  }

  /// At once when already there: what a callback of the loop decides must not be overtaken by another thread's call.
  private func onLoop(_ body: @escaping @Sendable () -> Void) {
    if eventLoop.inEventLoop { body() } else { eventLoop.execute(body) }
  }
}
