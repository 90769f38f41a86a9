import Synchronization

@testable import AgentCore

/// Time that a test moves by hand.
final class ManualClock: AgentClock {
  private struct Sleeper {
    var id: Int
    var deadline: Instant
    var continuation: CheckedContinuation<Void, any Error>
  }

  private struct State {
    var now: Instant
    var nextID = 0
    var sleepers: [Sleeper] = []
    /// Sleeps that were cancelled before they began.
    var cancelled: Set<Int> = []
    var watchers: [CheckedContinuation<Void, Never>] = []
    var isFree = false
  }

  let start = ContinuousClock.now
  private let state: Mutex<State>

  init() { state = Mutex(State(now: start)) }

  var now: Instant { state.withLock { $0.now } }
  /// Since the beginning.
  var passed: Duration { now - start }

  func sleep(until deadline: Instant) async throws {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        let (watchers, result) = state.withLock {
          state -> ([CheckedContinuation<Void, Never>], Result<Void, any Error>?) in
          if state.cancelled.remove(id) != nil { return ([], .failure(CancellationError())) }
          if state.isFree { state.now = max(state.now, deadline) }
          if deadline <= state.now { return ([], .success(())) }
          state.sleepers.append(Sleeper(id: id, deadline: deadline, continuation: continuation))
          defer { state.watchers = [] }
          return (state.watchers, nil)
        }
        for watcher in watchers { watcher.resume() }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      let sleeper = state.withLock { state -> Sleeper? in
        guard let index = state.sleepers.firstIndex(where: { $0.id == id }) else {
          state.cancelled.insert(id)
          return nil
        }
        return state.sleepers.remove(at: index)
      }
      sleeper?.continuation.resume(throwing: CancellationError())
    }
  }

  /// Waits until somebody sleeps, and returns the earliest deadline.
  func nextDeadline() async -> Instant {
    while true {
      if let earliest = state.withLock({ $0.sleepers.map(\.deadline).min() }) { return earliest }
      await withCheckedContinuation { continuation in
        let isThere = state.withLock { state in
          if state.sleepers.isEmpty { state.watchers.append(continuation) }
          return !state.sleepers.isEmpty
        }
        if isThere { continuation.resume() }
      }
    }
  }

  /// From now on each sleep ends at once and moves the time.
  func runFreely() {
    let last = state.withLock { state in
      state.isFree = true
      return state.sleepers.map(\.deadline).max()
    }
    if let last { advance(to: last) }
  }

  /// Moves the time and wakes who is due.
  func advance(to instant: Instant) {
    let due = state.withLock { state in
      state.now = max(state.now, instant)
      let due = state.sleepers.filter { $0.deadline <= state.now }
      state.sleepers.removeAll { $0.deadline <= state.now }
      return due
    }
    for sleeper in due { sleeper.continuation.resume() }
  }
}
