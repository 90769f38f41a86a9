/// How far a late answer has come, as a value (http.md §4 steps 8 to 11).
struct AnswerProgress {
  enum Tick: Equatable {
    /// The answer was given: no more ticks.
    case ended
    /// Write the head of a 200 and a pad.
    case first
    /// Write a pad.
    case next
    /// It took too long: cut the answer.
    case expired
  }

  enum End: Equatable {
    /// Nothing was written: any answer is possible.
    case fresh
    /// The head was written: only an end or a cut is possible.
    case begun
    /// It was cut.
    case over
  }

  private let mostTicks: Int
  private var ticks = 0
  private var isOver = false

  /// - Parameter mostTicks: ticks after which the answer is given up.
  init(mostTicks: Int) {
    self.mostTicks = mostTicks
  }

  /// A pad is due.
  mutating func tick() -> Tick {
    if isOver { return .ended }
    ticks += 1
    if ticks > mostTicks {
      isOver = true
      return .expired
    }
    return ticks == 1 ? .first : .next
  }

  /// The outcome is known.
  mutating func end() -> End {
    if isOver { return .over }
    isOver = true
    return ticks == 0 ? .fresh : .begun
  }
}
