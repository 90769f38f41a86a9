import NIOCore

/// A deadline that is moved with every request and hardly ever reached. Its timer is left running while the deadline
/// moves away from it, and set again when it fires early: a timer for each request would cost more than the request's
/// parsing.
struct MovingDeadline {
  enum Alarm: Equatable {
    /// Set a timer for this moment, in place of the one before.
    case set(NIODeadline)
    case keep
  }

  enum Fired: Equatable {
    case reached
    case set(NIODeadline)
    case none
  }

  private var deadline: NIODeadline?
  /// When the timer fires; nil when none is set.
  private var alarm: NIODeadline?

  mutating func move(to new: NIODeadline) -> Alarm {
    deadline = new
    if let alarm, alarm <= new { return .keep }
    alarm = new
    return .set(new)
  }

  /// Nothing is waited for.
  mutating func stop() { deadline = nil }

  /// The timer fired.
  mutating func fired(now: NIODeadline) -> Fired {
    alarm = nil
    guard let deadline else { return .none }
    if now >= deadline {
      self.deadline = nil
      return .reached
    }
    alarm = deadline
    return .set(deadline)
  }
}
