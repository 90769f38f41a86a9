/// Simulates all ways through a program at once, in order of preference, keeping group positions.
///
/// A structure, so that its parts are reached without the run-time checks that members of objects need.
struct ThreadMachine {
  private struct Threads {
    var order: [Int32] = []
    var captures: [Int] = []
    var marks: [Int32]

    init(_ count: Int) { marks = [Int32](repeating: 0, count: count) }

    mutating func clear() {
      order.removeAll(keepingCapacity: true)
      captures.removeAll(keepingCapacity: true)
    }
  }
  private enum Work {
    case visit(Int)
    case restore(slot: Int, value: Int)
  }

  private let program: RegexProgram
  private let slots: Int
  private var current: Threads
  private var next: Threads
  private var generation: Int32 = 0
  private var work: [Work] = []
  private let starts: [Bool]?

  init(_ program: RegexProgram, slots: Int) {
    self.program = program
    self.slots = slots
    current = Threads(program.code.count)
    next = Threads(program.code.count)
    starts = Self.startBytes(program)
  }

  /// The bytes with which a match can begin; nil when an empty match or an assertion may come first.
  private static func startBytes(_ program: RegexProgram) -> [Bool]? {
    var bytes = [Bool](repeating: false, count: 128) + [Bool](repeating: true, count: 128)
    var seen: Set<Int> = []
    var pending = [0]
    while let pc = pending.popLast() {
      guard seen.insert(pc).inserted else { continue }
      switch program.code[pc] {
      case .match, .assertion: return nil
      case .jump(let target): pending.append(target)
      case .save: pending.append(pc + 1)
      case .split(let first, let second): pending += [first, second]
      case .characters(let set):
        for byte in 0..<128 where program.members[set][program.classOf(UInt32(byte))] { bytes[byte] = true }
      }
    }
    return bytes
  }

  /// The leftmost match, alternatives in order of preference.
  mutating func search(_ input: UnsafeBufferPointer<UInt8>, from start: Int) -> [Int]? {
    current.clear()
    generation &+= 1
    var best = [Int](repeating: -1, count: slots)
    var found = false
    var place = start
    var scratch = [Int](repeating: -1, count: slots)
    while place <= input.count {
      if !found && current.order.isEmpty, let starts {
        // Nothing is under way: go on to the next byte with which a match can begin.
        while place < input.count, !starts[Int(input[place])] { place += 1 }
        if place == input.count { break }
      }
      if !found {
        for slot in scratch.indices { scratch[slot] = -1 }
        add(0, &scratch, input, place, toCurrent: true, generation)
      } else if current.order.isEmpty {
        break
      }
      let atEnd = place == input.count
      let (column, length) = atEnd ? (0, 1) : program.classAt(input, place)
      next.clear()
      let nextGeneration = generation &+ 1
      threads: for number in current.order.indices {
        let pc = Int(current.order[number])
        switch program.code[pc] {
        case .characters(let set):
          guard !atEnd, program.members[set][column] else { continue }
          for slot in 0..<slots { scratch[slot] = current.captures[number * slots + slot] }
          add(pc + 1, &scratch, input, place + length, toCurrent: false, nextGeneration)
        case .match:
          for slot in 0..<slots { best[slot] = current.captures[number * slots + slot] }
          found = true
          break threads
        default: continue
        }
      }
      generation = nextGeneration
      swap(&current, &next)
      place += length
    }
    return found ? best : nil
  }

  private func isWord(_ input: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    guard place >= 0, place < input.count, input[place] < 128 else { return false }
    return program.wordClasses[program.classOf(UInt32(input[place]))]
  }

  private func holds(_ assertion: RegexNode.Assertion, _ input: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    switch assertion {
    case .beginText: place == 0
    case .endText: place == input.count
    case .beginLine: place == 0 || input[place - 1] == 10
    case .endLine: place == input.count || input[place] == 10
    case .wordBoundary: isWord(input, place - 1) != isWord(input, place)
    case .notWordBoundary: isWord(input, place - 1) == isWord(input, place)
    }
  }

  private mutating func add(
    _ start: Int, _ captures: inout [Int], _ input: UnsafeBufferPointer<UInt8>, _ place: Int,
    toCurrent: Bool, _ generation: Int32
  ) {
    work.removeAll(keepingCapacity: true)
    work.append(.visit(start))
    while let item = work.popLast() {
      guard case .visit(let pc) = item else {
        if case .restore(let slot, let value) = item { captures[slot] = value }
        continue
      }
      if toCurrent {
        if current.marks[pc] == generation { continue }
        current.marks[pc] = generation
      } else {
        if next.marks[pc] == generation { continue }
        next.marks[pc] = generation
      }
      switch program.code[pc] {
      case .jump(let target): work.append(.visit(target))
      case .split(let preferred, let other):
        work.append(.visit(other))
        work.append(.visit(preferred))
      case .save(let slot):
        if slot < captures.count {
          work.append(.restore(slot: slot, value: captures[slot]))
          captures[slot] = place
        }
        work.append(.visit(pc + 1))
      case .assertion(let assertion):
        if holds(assertion, input, place) { work.append(.visit(pc + 1)) }
      case .characters, .match:
        if toCurrent {
          current.order.append(Int32(pc))
          current.captures.append(contentsOf: captures)
        } else {
          next.order.append(Int32(pc))
          next.captures.append(contentsOf: captures)
        }
      }
    }
  }
}
