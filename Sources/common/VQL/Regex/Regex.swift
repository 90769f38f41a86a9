/// A compiled regular expression: RE2 syntax and semantics, time linear in the input.
///
/// Holds caches that grow while matching, so one object belongs to one thread.
final class Regex {
  private let program: RegexProgram
  /// Names of the groups by number; entry 0 is the whole match.
  let groupNames: [String?]
  private var automaton: LazyAutomaton
  private var machine: ThreadMachine
  init(_ pattern: [UInt8], ignoreCase: Bool) throws {
    var parser = RegexParser(pattern, ignoreCase: ignoreCase)
    let node = try parser.parse()
    let text = (ignoreCase ? "(?i)" : "") + String(decoding: pattern, as: UTF8.self)
    program = try RegexProgram(node, pattern: text)
    groupNames = parser.groupNames
    automaton = LazyAutomaton(program)
    machine = ThreadMachine(program, slots: parser.groupNames.count * 2)
  }

  /// A pattern over bytes, from a tree: each byte is a character.
  init(binary node: RegexNode, text: String) throws {
    program = try RegexProgram(node, pattern: text, isBinary: true)
    groupNames = [nil]
    automaton = LazyAutomaton(program)
    machine = ThreadMachine(program, slots: 2)
  }

  var groupCount: Int { groupNames.count - 1 }

  /// Whether the pattern matches anywhere.
  func matches(_ input: [UInt8]) -> Bool {
    input.withUnsafeBufferPointer { automaton.matches($0, from: 0) }
  }

  /// The leftmost match at or after a place: start and end of the whole and of each group, -1 for absent ones.
  func firstMatch(_ input: [UInt8], from start: Int = 0) -> [Int]? {
    guard start <= input.count else { return nil }
    return input.withUnsafeBufferPointer { buffer in
      guard automaton.matches(buffer, from: start) else { return nil }
      return machine.search(buffer, from: start)
    }
  }

  /// All matches that do not overlap; an empty one directly after another match is skipped.
  func allMatches(_ input: [UInt8], limit: Int = .max) -> [[Int]] {
    var found: [[Int]] = []
    var place = 0
    var lastEnd = -1
    while place <= input.count, found.count < limit, let match = firstMatch(input, from: place) {
      let empty = match[0] == match[1]
      if !(empty && match[0] == lastEnd) { found.append(match) }
      lastEnd = match[1]
      place = match[1]
      if empty { place += place < input.count ? UTF8Text.decode(input, at: place).length : 1 }
    }
    return found
  }

  /// The text of a group, nil when it took no part.
  static func group(_ number: Int, of match: [Int], in input: [UInt8]) -> [UInt8]? {
    guard number * 2 + 1 < match.count, match[number * 2] >= 0, match[number * 2 + 1] >= match[number * 2] else {
      return nil
    }
    return Array(input[match[number * 2]..<match[number * 2 + 1]])
  }

  /// The text with all matches replaced.
  func replaceAll(_ input: [UInt8], _ replacement: ([Int]) -> [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    var place = 0
    for match in allMatches(input) {
      out.append(contentsOf: input[place..<match[0]])
      out.append(contentsOf: replacement(match))
      place = match[1]
    }
    out.append(contentsOf: input[place...])
    return out
  }

  /// Fills `$1`, `${name}` and `$$` of a template; a group that does not exist is empty.
  func expand(_ template: [UInt8], _ match: [Int], in input: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    var place = 0
    while place < template.count {
      guard template[place] == UInt8(ascii: "$"), place + 1 < template.count else {
        out.append(template[place])
        place += 1
        continue
      }
      if template[place + 1] == UInt8(ascii: "$") {
        out.append(UInt8(ascii: "$"))
        place += 2
        continue
      }
      let braced = template[place + 1] == UInt8(ascii: "{")
      var end = place + (braced ? 2 : 1)
      let from = end
      while end < template.count, CharacterRanges.word.contains(UInt32(template[end])) { end += 1 }
      guard end > from, !braced || (end < template.count && template[end] == UInt8(ascii: "}")) else {
        out.append(template[place])
        place += 1
        continue
      }
      let name = String(decoding: template[from..<end], as: UTF8.self)
      let number = Int(name) ?? groupNames.firstIndex(of: name) ?? -1
      if number >= 0, let text = Self.group(number, of: match, in: input) { out.append(contentsOf: text) }
      place = braced ? end + 1 : end
    }
    return out
  }

  /// Splits text at the matches; empty fields are kept.
  func split(_ input: [UInt8], limit: Int = .max) -> [[UInt8]] {
    if input.isEmpty { return [[]] }
    var fields: [[UInt8]] = []
    var place = 0
    var end = 0
    for match in allMatches(input) {
      if fields.count >= limit - 1 { break }
      end = match[0]
      if match[1] != 0 { fields.append(Array(input[place..<end])) }
      place = match[1]
    }
    if end != input.count { fields.append(Array(input[min(place, input.count)...])) }
    return fields
  }
}
