import NIOCore
import NIOHTTP1

/// Puts one response together (a value; `ExchangeHandler` does the I/O). Bytes are appended once, so that a million
/// pads cost a million appends and no more.
struct ResponseAssembler {
  enum Input {
    case part(HTTPClientResponsePart)
    case failed(String)
    case closed
    case timedOut
  }

  enum Action: Equatable {
    case none
    /// The headers are there.
    case headers(Int)
    /// Body bytes came: the idle timer begins anew.
    case progress
    case finished(TransportAnswer, keepAlive: Bool)
    /// - Parameter beforeResponse: nothing of the response had come, so a reused connection may be at fault.
    case broken(String, beforeResponse: Bool)
  }

  private enum State {
    case waiting
    case body(HTTPResponseHead, ByteBuffer)
    case done
  }

  private let limit: Int
  private var state = State.waiting

  init(limit: Int) {
    self.limit = limit
  }

  mutating func handle(_ input: Input) -> Action {
    switch (state, input) {
    case (.done, _): return .none
    case (.waiting, .part(.head(let head))):
      // 1xx announces another head.
      if (100..<200).contains(Int(head.status.code)) { return .none }
      state = .body(head, ByteBuffer())
      return .headers(Int(head.status.code))
    case (.body(let head, var buffer), .part(.body(var bytes))):
      state = .done
      guard buffer.readableBytes + bytes.readableBytes <= limit else {
        return .broken("the response is longer than \(limit) bytes", beforeResponse: false)
      }
      buffer.writeBuffer(&bytes)
      state = .body(head, buffer)
      return .progress
    case (.body(let head, let buffer), .part(.end)):
      state = .done
      return .finished(Self.answer(head, buffer), keepAlive: head.isKeepAlive)
    case (.waiting, .part):
      state = .done
      return .broken("the response is not HTTP", beforeResponse: false)
    case (.body, .part(.head)):
      state = .done
      return .broken("a second response began inside the first", beforeResponse: false)
    case (.waiting, .closed):
      state = .done
      return .broken("the connection was closed before an answer came", beforeResponse: true)
    case (.body, .closed):
      state = .done
      return .broken("the connection was closed inside the answer", beforeResponse: false)
    case (.waiting, .timedOut):
      state = .done
      return .broken("no answer in time", beforeResponse: false)
    case (.body, .timedOut):
      state = .done
      return .broken("the answer stopped in its middle", beforeResponse: false)
    case (.waiting, .failed(let reason)):
      state = .done
      return .broken(reason, beforeResponse: true)
    case (.body, .failed(let reason)):
      state = .done
      return .broken("the answer was cut: \(reason)", beforeResponse: false)
    }
  }

  private static func answer(_ head: HTTPResponseHead, _ body: ByteBuffer) -> TransportAnswer {
    TransportAnswer(
      status: Int(head.status.code), body: Array(body.readableBytesView),
      location: head.headers.first(name: "Location"),
      retryAfter: head.headers.first(name: "Retry-After").flatMap(retryAfter),
      date: head.headers.first(name: "Date"))
  }

  /// Delta seconds; dates and garbage are ignored.
  static func retryAfter(_ text: String) -> Duration? {
    UInt64(text.filter { $0 != " " }).map(Duration.clamped(seconds:))
  }
}
