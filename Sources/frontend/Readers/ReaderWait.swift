/// One waiting reader as a value: when to look for tasks, when to send padding, when to end (http.md §5 steps 7 to 10).
struct ReaderWait: Equatable {
  enum Action: Equatable {
    /// Ask the store for tasks.
    case lookForTasks
    case writePad
    /// One pad, then the end of the answer.
    case endWithPad
    case none
  }

  enum State: Equatable {
    /// The store is being asked; `again` when a signal came meanwhile.
    case looking(again: Bool)
    case waiting
    case ended
  }

  private(set) var state = State.looking(again: false)
  /// The deadline passed while the store was being asked.
  private var isLate = false

  /// A task may be there.
  mutating func signalled() -> Action {
    switch state {
    case .looking:
      state = .looking(again: true)
      return .none
    case .waiting:
      state = .looking(again: false)
      return .lookForTasks
    case .ended: return .none
    }
  }

  /// The store had nothing.
  mutating func foundNothing() -> Action {
    switch state {
    case .looking(let again):
      if again {
        state = .looking(again: false)
        return .lookForTasks
      }
      if isLate {
        state = .ended
        return .endWithPad
      }
      state = .waiting
      return .none
    case .waiting, .ended: return .none
    }
  }

  /// The store gave tasks: the answer ends with them.
  /// - Returns: false when the reader has gone and the tasks must be given back.
  mutating func foundTasks() -> Bool {
    guard case .looking = state else { return false }
    state = .ended
    return true
  }

  mutating func padIsDue() -> Action {
    switch state {
    case .ended: .none
    case .looking, .waiting: .writePad
    }
  }

  mutating func deadlinePassed() -> Action {
    switch state {
    case .looking:
      isLate = true
      return .none
    case .waiting:
      state = .ended
      return .endWithPad
    case .ended: return .none
    }
  }

  mutating func closed() { state = .ended }
}
