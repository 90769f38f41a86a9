import Synchronization

/// Wakes one waiting task. A ring while nobody waits is remembered, once.
final class Doorbell: Sendable {
  private struct State {
    var rung = false
    var waiter: CheckedContinuation<Void, Never>?
    var ticket = 0
  }

  private let state = Mutex(State())

  func ring() {
    let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard let waiter = state.waiter else {
        state.rung = true
        return nil
      }
      state.waiter = nil
      return waiter
    }
    waiter?.resume()
  }

  /// Returns at a ring, at `deadline`, or when the task is cancelled.
  func wait(until deadline: Instant?, clock: any AgentClock) async {
    let ticket = state.withLock { state in
      state.ticket += 1
      return state.ticket
    }
    let timer = deadline.map { deadline in
      Task { [weak self] in
        try? await clock.sleep(until: deadline)
        self?.expire(ticket)
      }
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let passed = state.withLock { state in
          if state.rung || Task.isCancelled {
            state.rung = false
            return true
          }
          state.waiter = continuation
          return false
        }
        if passed { continuation.resume() }
      }
    } onCancel: {
      expire(ticket)
    }
    timer?.cancel()
  }

  /// Ends the wait with this number, and only that one.
  private func expire(_ ticket: Int) {
    let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard state.ticket == ticket else { return nil }
      guard let waiter = state.waiter else {
        state.rung = true
        return nil
      }
      state.waiter = nil
      return waiter
    }
    waiter?.resume()
  }
}
