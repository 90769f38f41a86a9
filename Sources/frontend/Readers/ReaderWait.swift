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
  /// The answer goes on after tasks were written, and has no padding (http.md §7).
  private let staysOpen: Bool
  /// The deadline passed while the store was being asked.
  private var isLate = false

  init(staysOpen: Bool = false) {
    self.staysOpen = staysOpen
  }

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

  /// The store gave tasks: the answer ends with them, unless it goes on; then `delivered` follows.
  /// - Returns: false when the reader has gone and the tasks must be given back.
  mutating func foundTasks() -> Bool {
    guard case .looking = state else { return false }
    if !staysOpen { state = .ended }
    return true
  }

  /// The tasks were written to an answer that goes on: there may be more.
  mutating func delivered() -> Action {
    guard staysOpen, case .looking = state else { return .none }
    if isLate {
      state = .ended
      return .endWithPad
    }
    state = .looking(again: false)
    return .lookForTasks
  }

  mutating func padIsDue() -> Action {
    if staysOpen { return state == .ended ? .none : signalled() }
    return state == .ended ? .none : .writePad
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

  /// A newer reader has the seat: tasks that are being fetched are for that one.
  mutating func displaced() -> Action {
    guard state != .ended else { return .none }
    state = .ended
    return .endWithPad
  }

  mutating func closed() { state = .ended }
}
