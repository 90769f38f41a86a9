import NIOCore
import NIOHTTP1

/// One request and the means to answer it from anywhere, whatever carries it: HTTP/1.1, a stream of HTTP/2 (http.md §4,
/// §5) or a message of a websocket (http.md §7). After the peer has gone, writes do nothing.
protocol Exchange: AnyObject, Sendable {
  var userAgent: String { get }
  /// The client's address for display, see `TrustedProxies`.
  var remoteAddress: String { get }
  var eventLoop: any EventLoop { get }
  var connection: Connection { get }
  /// Whether a reader's answer goes on after tasks were written, as over websockets.
  var staysOpen: Bool { get }

  /// Writes a whole answer.
  func respond(_ status: HTTPResponseStatus, bytes: [UInt8], headers: [(String, String)])
  /// Writes a whole answer with a text, which may be empty.
  func respond(_ status: HTTPResponseStatus, text: String?, headers: [(String, String)])
  /// Writes a whole 200 with these bytes, where nothing was written before.
  func complete(_ bytes: [UInt8])
  /// Writes the head of a streamed 200 (http.md §4 step 8).
  func startStream()
  /// Writes padding, which tells the peer only that somebody is there.
  func writePad()
  /// Writes an envelope of an answer that goes on.
  /// - Parameter written: as for `finish`.
  func deliver(_ bytes: [UInt8], written: @escaping @Sendable (Bool) -> Void)
  /// Writes the last part and ends the answer.
  /// - Parameter written: told true when the connection took the bytes, false when it certainly never got any; not
  ///   called when it broke while they were on their way.
  func finish(_ bytes: [UInt8], written: (@Sendable (Bool) -> Void)?)
  /// Cuts the answer: the peer must not take what it has for a complete one (http.md §6).
  func abort()
  /// Calls back when the peer has gone, at once if it has; replaced by the next call.
  func onClose(_ callback: @escaping @Sendable () -> Void)
}

/// The handler of a connection whose requests come one after the other.
protocol NumberedRequests: AnyObject {
  /// The request that is worked on; a late answer must not reach the next one.
  var current: UInt64 { get }
  var onClose: (@Sendable () -> Void)? { get set }
}

/// An exchange that is one of its handler's requests.
protocol NumberedExchange: Exchange {
  associatedtype Handler: NumberedRequests
  var handler: NIOLoopBound<Handler> { get }
  var number: UInt64 { get }
}

extension NumberedExchange {
  /// Runs the body on the event loop, unless the handler has gone on to another request.
  func run(_ body: @escaping @Sendable (Handler) -> Void) {
    onLoop { [self] in
      let handler = handler.value
      if handler.current == number { body(handler) }
    }
  }

  func onClose(_ callback: @escaping @Sendable () -> Void) {
    onLoop { [self] in
      let handler = handler.value
      if handler.current == number { handler.onClose = callback } else { callback() }
    }
  }
}

extension Exchange {
  func respond(_ status: HTTPResponseStatus) { respond(status, text: nil, headers: []) }

  func respond(_ status: HTTPResponseStatus, text: String) { respond(status, text: text, headers: []) }

  func finish(_ bytes: [UInt8]) { finish(bytes, written: nil) }

  func complete(_ bytes: [UInt8]) {
    startStream()
    finish(bytes)
  }

  /// Runs on the exchange's loop, at once when already there: what a callback of the loop decides must not be overtaken by
  /// another thread's call.
  func onLoop(_ body: @escaping @Sendable () -> Void) {
    if eventLoop.inEventLoop { body() } else { eventLoop.execute(body) }
  }
}
