/// A deterministic automaton built while it is used: answers whether there is a match at all.
///
/// A state is the set of instructions reached before assertions are decided, with what kind of character came last;
/// assertions are decided when the next character is known.
struct LazyAutomaton {
  private enum Previous: Int {
    case none = 0
    case newline, word, other
  }
  private struct Key: Hashable {
    let threads: [Int32]
    let previous: Int
  }
  private static let unknown: Int32 = -1
  private static let accepting: Int32 = -2
  /// States kept before the automaton is thrown away and built anew.
  private static let maximumStates = 3000

  private let program: RegexProgram
  private let columns: Int
  private var keys: [Key] = []
  private var places: [Key: Int32] = [:]
  private var table: [Int32] = []
  private var marks: [Int32]
  private var generation: Int32 = 0
  private var stack: [Int32] = []

  init(_ program: RegexProgram) {
    self.program = program
    columns = program.classCount + 1
    marks = [Int32](repeating: 0, count: program.code.count)
  }

  private mutating func state(_ key: Key) -> Int32 {
    if let known = places[key] { return known }
    if keys.count >= Self.maximumStates {
      keys = []
      places = [:]
      table = []
    }
    let made = Int32(keys.count)
    keys.append(key)
    places[key] = made
    table.append(contentsOf: repeatElement(Self.unknown, count: columns))
    return made
  }

  private func previous(_ input: UnsafeBufferPointer<UInt8>, _ place: Int) -> Previous {
    guard place > 0 else { return .none }
    let byte = input[place - 1]
    if byte == 10 { return .newline }
    return byte < 128 && program.wordClasses[program.classOf(UInt32(byte))] ? .word : .other
  }

  mutating func matches(_ input: UnsafeBufferPointer<UInt8>, from start: Int) -> Bool {
    var current = state(Key(threads: [0], previous: previous(input, start).rawValue))
    var place = start
    while place < input.count {
      let (column, length) = program.classAt(input, place)
      var next = table[Int(current) * columns + column]
      if next == Self.unknown { next = step(current, column) }
      if next == Self.accepting { return true }
      current = next
      place += length
    }
    var last = table[Int(current) * columns + columns - 1]
    if last == Self.unknown { last = step(current, columns - 1) }
    return last == Self.accepting
  }

  /// Works out a transition; the last column stands for the end of the text.
  private mutating func step(_ from: Int32, _ column: Int) -> Int32 {
    let key = keys[Int(from)]
    let atEnd = column == columns - 1
    let before = Previous(rawValue: key.previous) ?? .none
    let nextIsWord = !atEnd && program.wordClasses[column]
    let nextIsNewline = !atEnd && column == program.newlineClass
    generation &+= 1
    var reached: [Int32] = [0]
    var found = false
    stack.removeAll(keepingCapacity: true)
    stack.append(contentsOf: key.threads)
    while let thread = stack.popLast() {
      let pc = Int(thread)
      if marks[pc] == generation { continue }
      marks[pc] = generation
      switch program.code[pc] {
      case .match: found = true
      case .jump(let target): stack.append(Int32(target))
      case .save: stack.append(Int32(pc + 1))
      case .split(let first, let second):
        stack.append(Int32(first))
        stack.append(Int32(second))
      case .characters(let set):
        if !atEnd && program.members[set][column] { reached.append(Int32(pc + 1)) }
      case .assertion(let assertion):
        let holds =
          switch assertion {
          case .beginText: before == .none
          case .beginLine: before == .none || before == .newline
          case .endText: atEnd
          case .endLine: atEnd || nextIsNewline
          case .wordBoundary: (before == .word) != nextIsWord
          case .notWordBoundary: (before == .word) == nextIsWord
          }
        if holds { stack.append(Int32(pc + 1)) }
      }
      if found { break }
    }
    var result = Self.accepting
    if !found {
      let after: Previous = nextIsNewline ? .newline : nextIsWord ? .word : .other
      reached.sort()
      let states = keys.count
      result = state(Key(threads: reached, previous: after.rawValue))
      // The table was thrown away: the old state has no row to note the transition in.
      if keys.count < states { return result }
    }
    table[Int(from) * columns + column] = result
    return result
  }
}
