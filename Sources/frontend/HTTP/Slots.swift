import Dispatch
import Synchronization

/// Places for bodies that are worked on at a time (http.md §4 step 3). Waiting is in order of arrival and ends after a
/// while; urgent bodies do not ask.
final class Slots: Sendable {
  /// The right to be worked on; to be given back once.
  struct Ticket: Sendable, Equatable {
    fileprivate let number: UInt64
  }

  /// A ticket, or none yet: then the callback of `acquire` will be called.
  struct Waiting {
    let ticket: Ticket?
  }

  private struct State {
    var free: Int
    var next: UInt64 = 0
    var queue: [(number: UInt64, granted: @Sendable (Ticket?) -> Void)] = []
  }

  private let state: Mutex<State>
  private let timeout: DispatchTimeInterval

  /// - Parameter timeout: seconds that a body waits.
  init(count: Int, timeout: Int) {
    state = Mutex(State(free: max(1, count)))
    self.timeout = .seconds(timeout)
  }

  /// - Parameter granted: called later with a ticket, or with nil when the time is over; not called when a ticket is
  ///   returned at once.
  func acquire(_ granted: @escaping @Sendable (Ticket?) -> Void) -> Waiting {
    let (ticket, number) = state.withLock { state -> (Ticket?, UInt64) in
      state.next += 1
      if state.free > 0 {
        state.free -= 1
        return (Ticket(number: state.next), state.next)
      }
      state.queue.append((state.next, granted))
      return (nil, state.next)
    }
    if ticket == nil {
      DispatchQueue.global().asyncAfter(deadline: .now() + timeout) { [weak self] in self?.expire(number) }
    }
    return Waiting(ticket: ticket)
  }

  func release(_ ticket: Ticket) {
    let next = state.withLock { state -> (@Sendable (Ticket?) -> Void)? in
      if state.queue.isEmpty {
        state.free += 1
        return nil
      }
      return state.queue.removeFirst().granted
    }
    next?(ticket)
  }

  /// Places that nobody has.
  var free: Int { state.withLock { $0.free } }

  /// Bodies that wait for a place.
  var waiting: Int { state.withLock { $0.queue.count } }

  private func expire(_ number: UInt64) {
    let expired = state.withLock { state -> (@Sendable (Ticket?) -> Void)? in
      guard let index = state.queue.firstIndex(where: { $0.number == number }) else { return nil }
      return state.queue.remove(at: index).granted
    }
    expired?(nil)
  }
}
