import FoundationEssentials
import NIOCore
import NIOWebSocket

/// What a server says over a websocket: JSON that plays the part of an HTTP answer; absent members mean 0 or empty
/// (http.md §7).
struct WebSocketAnswer: Decodable, Equatable {
  var code: Int?
  var err: String?
  /// The body, in base64.
  var data: String?

  /// - Returns: nil when the bytes are no such answer.
  static func answer(from bytes: ByteBuffer) -> TransportAnswer? {
    guard let parsed = try? JSONDecoder().decode(WebSocketAnswer.self, from: Data(bytes.readableBytesView)) else {
      return nil
    }
    var body: [UInt8] = []
    if let text = parsed.data, !text.isEmpty {
      guard let data = Data(base64Encoded: text) else { return nil }
      body = [UInt8](data)
    }
    let status = parsed.code ?? 0
    if status != 200, body.isEmpty { body = Array((parsed.err ?? "").utf8) }
    return TransportAnswer(status: status, body: body, isMessage: true)
  }
}

/// The agent's end of one websocket (http.md §7), as a value: a request is a message, the next message its answer.
struct WebSocketDialogue {
  enum Input {
    case request([UInt8])
    /// A whole message or a control frame.
    case frame(WebSocketFrame)
    case closed
    case failed(String)
    /// Nothing was heard for 1.1 pings.
    case silent
    /// The answer takes too long.
    case timedOut
    case cancelled
  }

  enum Action: Equatable {
    /// Send one binary message.
    case send([UInt8])
    case pong(ByteBuffer)
    case answer(TransportAnswer)
    case broken(String, beforeResponse: Bool)
    /// Close the connection, after a close frame with this code if there is one.
    case close(WebSocketErrorCode?)
  }

  private enum State: Equatable {
    case idle
    /// A request waits for its answer.
    case waiting(hasHeard: Bool)
    case over
  }

  /// A stock server closes on longer messages, sometimes so early that its reason is lost.
  static let requestLimit = 10_485_760
  /// Bytes of tasks that may wait for the next polls.
  static let queueLimit = 64 << 20

  /// Only a reader is told things it did not ask for just now.
  private let isReader: Bool
  private var state = State.idle
  private var queued: [TransportAnswer] = []
  private var queuedBytes = 0

  init(isReader: Bool) {
    self.isReader = isReader
  }

  mutating func handle(_ input: Input) -> [Action] {
    if state == .over {
      guard case .request = input else { return [] }
      return [.broken("the websocket was closed before the request", beforeResponse: true)]
    }
    switch input {
    case .request(let body): return request(body)
    case .frame(let frame): return take(frame)
    case .closed: return end("the websocket was closed without a word", close: nil)
    case .failed(let reason): return end(reason, close: nil)
    case .silent: return end("the server was not heard, nor did it ping", close: .some(.goingAway))
    case .timedOut: return end("no answer in time", close: .some(.goingAway))
    case .cancelled: return end("cancelled", close: .some(.goingAway))
    }
  }

  private mutating func request(_ body: [UInt8]) -> [Action] {
    guard state == .idle else { return [.broken("another request is under way", beforeResponse: false)] }
    // Tasks that came since the last poll. The server would throw this check-in away (http.md §7).
    if !queued.isEmpty {
      let answer = queued.removeFirst()
      queuedBytes -= answer.body.count
      return [.answer(answer)]
    }
    guard body.count <= Self.requestLimit else {
      return [.answer(TransportAnswer(status: 413, body: [], isMessage: true))]
    }
    state = .waiting(hasHeard: false)
    return [.send(body)]
  }

  private mutating func take(_ frame: WebSocketFrame) -> [Action] {
    if case .waiting = state { state = .waiting(hasHeard: true) }
    guard frame.maskKey == nil, !frame.rsv1, !frame.rsv2, !frame.rsv3 else { return protocolError() }
    switch frame.opcode {
    case .binary, .text: return message(frame.unmaskedData)
    case .ping: return [.pong(frame.unmaskedData)]
    case .pong: return []
    case .connectionClose: return closing(frame.unmaskedData)
    default: return protocolError()
    }
  }

  private mutating func message(_ data: ByteBuffer) -> [Action] {
    guard let answer = WebSocketAnswer.answer(from: data) else {
      return end("the server's message is not an answer of this protocol", close: .some(.unacceptableData))
    }
    if state == .idle {
      guard isReader, answer.status == 200, queuedBytes + answer.body.count <= Self.queueLimit else {
        return end("the server sent what nobody asked for", close: .some(.protocolError))
      }
      queued.append(answer)
      queuedBytes += answer.body.count
      return []
    }
    guard answer.status == 200 else {
      state = .over
      return [.answer(answer), .close(.goingAway)]
    }
    state = .idle
    return [.answer(answer)]
  }

  private mutating func closing(_ data: ByteBuffer) -> [Action] {
    var data = data
    let code = data.readInteger(as: UInt16.self)
    if code == 1009, case .waiting = state {
      state = .over
      return [.answer(TransportAnswer(status: 413, body: [], isMessage: true)), .close(nil)]
    }
    let words = data.readString(length: data.readableBytes) ?? ""
    let reason = [code.map(String.init) ?? "no code", words].filter { !$0.isEmpty }.joined(separator: " ")
    return end("the server closed the websocket (\(reason.prefix(130)))", close: .some(.normalClosure))
  }

  private mutating func protocolError() -> [Action] {
    end("the server does not keep to the websocket protocol", close: .some(.protocolError))
  }

  private mutating func end(_ reason: String, close: WebSocketErrorCode?) -> [Action] {
    defer { state = .over }
    guard case .waiting(let hasHeard) = state else { return [.close(close)] }
    // A sender's connection may have died while it was idle; a reader's wait that ends is the server's doing.
    return [.broken(reason, beforeResponse: !isReader && !hasHeard), .close(close)]
  }
}
