import Synchronization

/// Whether an answer has begun and ended; each question changes it.
final class AnswerProgress: Sendable {
  enum Tick {
    case ended
    case first
    case next
  }

  private let state = Mutex((began: false, ended: false))

  /// A pad is due.
  func tick() -> Tick {
    state.withLock { state in
      if state.ended { return .ended }
      defer { state.began = true }
      return state.began ? .next : .first
    }
  }

  /// - Returns: whether the answer had begun.
  func end() -> Bool {
    state.withLock { state in
      state.ended = true
      return state.began
    }
  }
}
