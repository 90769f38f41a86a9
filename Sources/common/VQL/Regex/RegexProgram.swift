/// A pattern as instructions over character classes.
struct RegexProgram {
  enum Instruction {
    /// Consumes a character whose class is in the set of this number.
    case characters(Int)
    case split(preferred: Int, other: Int)
    case jump(Int)
    case save(Int)
    case assertion(RegexNode.Assertion)
    case match
  }
  static let maximumLength = 50_000

  private(set) var code: [Instruction] = []
  private var sets: [CharacterRanges] = []
  /// First code point of each class; code points of one class are treated alike by the whole pattern.
  private(set) var classStarts: [UInt32] = [0]
  /// The class of each byte that is a character of its own.
  private var byteClasses: [UInt16] = []
  /// Each byte is a character, whatever its value; otherwise the input is UTF-8.
  private let isBinary: Bool
  /// Per set, whether each class is in it.
  private(set) var members: [[Bool]] = []
  private(set) var newlineClass = 0
  private(set) var wordClasses: [Bool] = []

  var classCount: Int { classStarts.count }

  init(_ node: RegexNode, pattern: String, isBinary: Bool = false) throws {
    self.isBinary = isBinary
    try emit(.capture(node, 0), pattern)
    code.append(.match)
    buildClasses()
  }

  private mutating func emit(_ node: RegexNode, _ pattern: String) throws {
    guard code.count < Self.maximumLength else {
      throw RegexError(reason: "expression too large", excerpt: pattern)
    }
    switch node {
    case .empty: break
    case .set(let set):
      sets.append(set)
      code.append(.characters(sets.count - 1))
    case .sequence(let items): for item in items { try emit(item, pattern) }
    case .capture(let inner, let index):
      code.append(.save(index * 2))
      try emit(inner, pattern)
      code.append(.save(index * 2 + 1))
    case .assertion(let assertion): code.append(.assertion(assertion))
    case .alternatives(let branches): try emit(alternatives: branches, pattern)
    case .repetition(let inner, let minimum, let maximum, let greedy):
      try emit(repeating: inner, minimum, maximum, greedy, pattern)
    }
  }

  private mutating func emit(alternatives branches: [RegexNode], _ pattern: String) throws {
    var exits: [Int] = []
    for (place, branch) in branches.enumerated() {
      guard place < branches.count - 1 else {
        try emit(branch, pattern)
        break
      }
      let split = code.count
      code.append(.jump(0))
      try emit(branch, pattern)
      exits.append(code.count)
      code.append(.jump(0))
      code[split] = .split(preferred: split + 1, other: code.count)
    }
    for exit in exits { code[exit] = .jump(code.count) }
  }

  private mutating func emit(
    repeating inner: RegexNode, _ minimum: Int, _ maximum: Int?, _ greedy: Bool, _ pattern: String
  ) throws {
    func split(_ body: Int, _ exit: Int) -> Instruction {
      greedy ? .split(preferred: body, other: exit) : .split(preferred: exit, other: body)
    }
    for _ in 0..<minimum { try emit(inner, pattern) }
    guard let maximum else {
      let start = code.count
      code.append(.jump(0))
      try emit(inner, pattern)
      code.append(.jump(start))
      code[start] = split(start + 1, code.count)
      return
    }
    var splits: [Int] = []
    for _ in 0..<max(0, maximum - minimum) {
      splits.append(code.count)
      code.append(.jump(0))
      try emit(inner, pattern)
    }
    for place in splits { code[place] = split(place + 1, code.count) }
  }

  private mutating func buildClasses() {
    var starts: Set<UInt32> = [0, 10, 11, 48, 58, 65, 91, 95, 96, 97, 123]
    for set in sets {
      for range in set.ranges {
        starts.insert(range.lowerBound)
        if range.upperBound < CharacterRanges.last { starts.insert(range.upperBound + 1) }
      }
    }
    classStarts = starts.sorted()
    byteClasses = (0..<256).map { UInt16(searchClass($0)) }
    members = sets.map { set in
      var flags = [Bool](repeating: false, count: classStarts.count)
      for range in set.ranges {
        var place = searchClass(range.lowerBound)
        while place < classStarts.count, classStarts[place] <= range.upperBound {
          flags[place] = true
          place += 1
        }
      }
      return flags
    }
    newlineClass = searchClass(10)
    wordClasses = classStarts.map { CharacterRanges.word.contains($0) }
  }

  private func searchClass(_ scalar: UInt32) -> Int {
    var low = 0
    var high = classStarts.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if classStarts[middle] <= scalar { low = middle } else { high = middle }
    }
    return low
  }

  @inline(__always)
  func classOf(_ scalar: UInt32) -> Int {
    scalar < 128 ? Int(byteClasses[Int(scalar)]) : searchClass(scalar)
  }

  /// The class of the character at a place and its length; a bad byte is U+FFFD.
  @inline(__always)
  func classAt(_ input: UnsafeBufferPointer<UInt8>, _ place: Int) -> (Int, Int) {
    let byte = input[place]
    if byte < 128 || isBinary { return (Int(byteClasses[Int(byte)]), 1) }
    let (scalar, length) = UTF8Text.decode(input, at: place)
    return (searchClass(scalar ?? 0xFFFD), length)
  }
}
