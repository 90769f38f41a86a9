/// Something that takes bytes from outside and must not crash, hang or grow without bound, whatever they are.
struct FuzzTarget: Sendable {
  let name: String
  let abstract: String
  /// Inputs in good order to begin with.
  let samples: @Sendable () throws -> [[UInt8]]
  /// Ends by itself for any input; what it finds wrong is a trap.
  let run: @Sendable ([UInt8]) -> Void

  /// All that can be chosen.
  static let all: [FuzzTarget] = [.scan, .opener, .frames, .lists, .snapshot]
}

/// A property that has to hold for every input.
func require(_ condition: Bool, _ what: String) {
  // A trap is what fuzzers notice.
  precondition(condition, what)
}
