/// One HTTP/1.1 connection's requests, as a value: what to do with each part that arrives, in what order answers may be
/// written, and when a connection is beyond repair (http.md §4, §5). No sockets, no clock.
struct ExchangeStateMachine {
  /// How a body is to be taken in.
  enum BodyRule: Equatable {
    /// The body does not matter: it is read and dropped.
    case discard
    /// Kept up to `limit` bytes; a longer one is reported as too large after it was read to its end.
    case collect(limit: Int)
  }

  enum Action: Equatable {
    /// The request is complete and fits.
    case process
    /// The body reached its limit; it was read to its end.
    case tooLarge
    /// Keep these bytes.
    case keep
    case none
    /// Give up on the connection at once.
    case close
  }

  private enum State {
    case idle
    case receiving(rule: BodyRule, received: Int)
    /// The request is with the service; no byte of the answer was written.
    case processing
    /// The head of the answer was written.
    case answering
    case closed
  }

  /// A body that is too large is read to its end, so that the peer sees the answer; but not without bound.
  private static let discardFactor = 4

  private var state = State.idle

  var isProcessing: Bool {
    switch state {
    case .processing, .answering: true
    case .idle, .receiving, .closed: false
    }
  }

  var isIdle: Bool { if case .idle = state { true } else { false } }

  mutating func head(_ rule: BodyRule) -> Action {
    guard case .idle = state else {
      state = .closed
      return .close
    }
    state = .receiving(rule: rule, received: 0)
    return .none
  }

  mutating func body(_ count: Int) -> Action {
    guard case .receiving(let rule, let before) = state else { return .none }
    let received = before + count
    state = .receiving(rule: rule, received: received)
    switch rule {
    case .discard:
      if received > 1 << 20 {
        state = .closed
        return .close
      }
      return .none
    case .collect(let limit):
      if received < limit { return .keep }
      if received / Self.discardFactor > limit {
        state = .closed
        return .close
      }
      return .none
    }
  }

  mutating func end() -> Action {
    guard case .receiving(let rule, let received) = state else { return .none }
    state = .processing
    if case .collect(let limit) = rule, received >= limit { return .tooLarge }
    return .process
  }

  /// - Returns: whether the head may be written now.
  mutating func answerHead() -> Bool {
    guard case .processing = state else { return false }
    state = .answering
    return true
  }

  var mayWriteBody: Bool { if case .answering = state { true } else { false } }

  /// The answer is complete.
  /// - Returns: whether the end may be written.
  mutating func answerEnd() -> Bool {
    guard case .answering = state else { return false }
    state = .idle
    return true
  }

  mutating func close() { state = .closed }
}
