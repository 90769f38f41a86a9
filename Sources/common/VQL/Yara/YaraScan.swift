/// Where the strings of rules stand in some content, and whether the conditions hold.
struct YaraScan {
  struct Match {
    let offset: Int64
    let length: Int
  }
  /// Matches kept of one string.
  private static let maximumMatches = 10_000
  /// A match may be this long: so much of a window waits for what comes behind it.
  static let lookahead = 32 << 10

  let rules: [YaraRule]
  /// By rule and string.
  private(set) var matches: [[[Match]]]
  /// Matches that begin before this place were found in the window before.
  private var scanned = Int64.min

  init(_ rules: [YaraRule]) {
    self.rules = rules
    matches = rules.map { $0.strings.map { _ in [] } }
  }

  /// Looks for all strings in a window of the content; windows come in order.
  ///
  /// - Parameters:
  ///   - offset: where the window begins.
  ///   - isLast: nothing follows that belongs to it.
  /// - Returns: how many bytes at the window's end the next one has to begin with.
  @discardableResult
  mutating func scan(_ window: [UInt8], at offset: Int64, isLast: Bool, _ context: Context) -> Int {
    let border = isLast ? window.count : max(0, window.count - Self.lookahead)
    for rule in rules.indices {
      for (place, string) in rules[rule].strings.enumerated() {
        if context.isStopped { return 0 }
        var found = matches[rule][place]
        var places: Set<Int64> = []
        for pattern in string.patterns {
          Self.each(pattern, in: window) { start, end in
            let start64 = offset + Int64(start)
            guard found.count < Self.maximumMatches, start < border else { return false }
            if start64 < scanned || (string.isFullWord && !Self.isWhole(window, start, end)) { return true }
            if places.insert(start64).inserted { found.append(Match(offset: start64, length: end - start)) }
            return true
          }
        }
        found.sort { $0.offset < $1.offset }
        matches[rule][place] = found
      }
    }
    scanned = offset + Int64(border)
    // One byte more, as words look at what stands before them.
    return isLast ? 0 : min(window.count, window.count - border + 1)
  }

  private static func isWhole(_ data: [UInt8], _ start: Int, _ end: Int) -> Bool {
    func isLetter(_ place: Int) -> Bool {
      data.indices.contains(place) && (CharacterRanges.word.contains(UInt32(data[place])) && data[place] != 0x5F)
    }
    return !isLetter(start - 1) && !isLetter(end)
  }

  /// Calls the body with each place where a pattern stands, also where they overlap, until it answers false.
  private static func each(_ pattern: YaraPattern, in data: [UInt8], _ body: (Int, Int) -> Bool) {
    switch pattern {
    case .literal(let bytes):
      var place = 0
      while let found = Bytes.search(bytes, in: data, from: place) {
        guard body(found, found + bytes.count) else { return }
        place = found + 1
      }
    case .hidden(let bytes, let keys):
      for key in keys { each(.literal(bytes.map { $0 ^ key }), in: data, body) }
    case .expression(let regex):
      var place = 0
      while let match = regex.firstMatch(data, from: place), match[1] > match[0] {
        guard body(match[0], match[1]) else { return }
        place = match[0] + 1
      }
    }
  }
}

/// Decides conditions.
struct YaraConditions {
  private static let maximumSteps = 1_000_000
  let scan: YaraScan
  /// NULL where the content has no size, as in the memory of a process.
  let size: Int64?
  let variables: VQLDict
  let read: (Int64, Int) -> [UInt8]
  let context: Context
  private var results: [String: Bool] = [:]
  private var loops: [String: Int64] = [:]
  private var current: Int?
  private var rule = 0
  private var steps = 0

  init(
    _ scan: YaraScan, size: Int64?, variables: VQLDict, _ context: Context, read: @escaping (Int64, Int) -> [UInt8]
  ) {
    self.scan = scan
    self.size = size
    self.variables = variables
    self.context = context
    self.read = read
  }

  /// The places of the rules that hold, private ones left out.
  mutating func matching() -> [Int] {
    var found: [Int] = []
    var globalsHold = true
    for (place, rule) in scan.rules.enumerated() {
      self.rule = place
      let holds = isTrue(rule.condition)
      results[rule.name] = holds
      if rule.isGlobal && !holds { globalsHold = false }
      if holds && !rule.isPrivate { found.append(place) }
    }
    return globalsHold ? found : []
  }

  private mutating func isTrue(_ expression: YaraExpression) -> Bool {
    switch value(expression) {
    case .bool(let bool): bool
    case .null: false
    case .bytes(let text): !text.isEmpty
    case let other: other.integer != 0
    }
  }

  private mutating func integer(_ expression: YaraExpression) -> Int64? { value(expression).integer }

  private func places(_ name: String?) -> [Int] {
    guard let name else { return current.map { [$0] } ?? [] }
    return scan.rules[rule].strings.indices.filter { scan.rules[rule].strings[$0].name == name }
  }

  private mutating func found(_ name: String?, _ place: YaraPlace) -> [YaraScan.Match] {
    found(places(name), place)
  }

  private mutating func found(_ strings: [Int], _ place: YaraPlace) -> [YaraScan.Match] {
    let all = strings.flatMap { scan.matches[rule][$0] }
    switch place {
    case .anywhere: return all
    case .at(let expression):
      guard let offset = integer(expression) else { return [] }
      return all.filter { $0.offset == offset }
    case .inside(let range):
      guard let low = integer(range.low), let high = integer(range.high), low <= high else { return [] }
      return all.filter { (low...high).contains($0.offset) }
    }
  }

  private mutating func value(_ expression: YaraExpression) -> VQLValue {
    steps += 1
    guard steps < Self.maximumSteps, !context.isStopped else { return .null }
    switch expression {
    case .constant(let value): return value
    case .fileSize: return size.map { .int($0) } ?? .null
    case .variable(let name): return loops[name].map { .int($0) } ?? variables[name] ?? .null
    case .rule(let name): return .bool(results[name] ?? false)
    case .occurs(let name, let place): return .bool(!found(name, place).isEmpty)
    case .count(let name, let place): return .int(Int64(found(name, place).count))
    case .offset(let name, let index): return match(name, index).map { .int($0.offset) } ?? .null
    case .length(let name, let index): return match(name, index).map { .int(Int64($0.length)) } ?? .null
    case .integer(let width, let isSigned, let isBig, let offset): return number(width, isSigned, isBig, offset)
    case .not(let inner): return .bool(!isTrue(inner))
    case .defined(let inner): return .bool(!value(inner).isNull)
    case .negative(let inner): return integer(inner).map { .int(0 &- $0) } ?? .null
    case .complement(let inner): return integer(inner).map { .int(~$0) } ?? .null
    case .and(let items):
      for item in items where !isTrue(item) { return .bool(false) }
      return .bool(true)
    case .or(let items):
      for item in items where isTrue(item) { return .bool(true) }
      return .bool(false)
    case .binary(let symbol, let left, let right): return binary(symbol, value(left), value(right))
    case .of(let quantity, let references, let place): return of(quantity, references, place)
    case .forStrings(let quantity, let references, let body): return each(quantity, references, body)
    case .forNumbers(let quantity, let name, let numbers, let range, let body):
      return each(quantity, name, numbers, range, body)
    }
  }

  private mutating func match(_ name: String?, _ index: YaraExpression) -> YaraScan.Match? {
    guard let place = integer(index), place >= 1 else { return nil }
    let all = found(name, .anywhere)
    return place <= Int64(all.count) ? all[Int(place) - 1] : nil
  }

  private mutating func number(_ width: Int, _ isSigned: Bool, _ isBig: Bool, _ offset: YaraExpression) -> VQLValue {
    guard let place = integer(offset), place >= 0 else { return .null }
    let bytes = read(place, width)
    guard bytes.count == width else { return .null }
    let bits = (isBig ? bytes : bytes.reversed()).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let shift = UInt64(64 - width * 8)
    return .int(isSigned ? Int64(bitPattern: bits << shift) >> Int64(shift) : Int64(bits))
  }

  private func binary(_ symbol: String, _ left: VQLValue, _ right: VQLValue) -> VQLValue {
    if let a = left.stringBytes, let b = right.stringBytes { return textual(symbol, a, b) }
    guard let a = left.integer, let b = right.integer else { return .null }
    switch symbol {
    case "==": return .bool(a == b)
    case "!=": return .bool(a != b)
    case "<": return .bool(a < b)
    case "<=": return .bool(a <= b)
    case ">": return .bool(a > b)
    case ">=": return .bool(a >= b)
    case "+": return .int(a &+ b)
    case "-": return .int(a &- b)
    case "*": return .int(a &* b)
    case "\\", "%":
      guard b != 0, !(a == .min && b == -1) else { return .null }
      return .int(symbol == "%" ? a % b : a / b)
    case "&": return .int(a & b)
    case "|": return .int(a | b)
    case "^": return .int(a ^ b)
    case "<<": return b >= 0 ? .int(b < 64 ? a << b : 0) : .null
    case ">>": return b >= 0 ? .int(b < 64 ? a >> b : 0) : .null
    default: return .null
    }
  }

  private func textual(_ symbol: String, _ a: [UInt8], _ b: [UInt8]) -> VQLValue {
    if symbol == "matches" { return .bool(context.regex(b, ignoreCase: false)?.matches(a) ?? false) }
    let folds = symbol.first == "i"
    let (left, right) = folds ? (GlobComponent.lower(a), GlobComponent.lower(b)) : (a, b)
    switch symbol {
    case "==", "iequals": return .bool(left == right)
    case "!=": return .bool(left != right)
    case "contains", "icontains": return .bool(Bytes.find(right, in: left) != nil)
    case "startswith", "istartswith": return .bool(left.starts(with: right))
    case "endswith", "iendswith":
      return .bool(left.suffix(right.count).elementsEqual(right) && left.count >= right.count)
    case "<": return .bool(left.lexicographicallyPrecedes(right))
    case ">": return .bool(right.lexicographicallyPrecedes(left))
    default: return .null
    }
  }

  // MARK: several strings

  /// Whether so many of a number hold.
  private mutating func suffices(_ quantity: YaraQuantity, _ holding: Int, of total: Int) -> Bool {
    switch quantity {
    case .all: return holding == total && total > 0
    case .any: return holding > 0
    case .none: return holding == 0
    case .number(let expression): return integer(expression).map { Int64(holding) >= $0 } ?? false
    case .percent(let expression):
      guard let percent = integer(expression) else { return false }
      return Double(holding) >= (Double(total) * Double(percent) / 100).rounded(.up)
    }
  }

  private mutating func of(_ quantity: YaraQuantity, _ references: [YaraReference], _ place: YaraPlace) -> VQLValue {
    var holding = 0
    var total = 0
    for (index, string) in scan.rules[rule].strings.enumerated()
    where references.contains(where: { $0.fits(string.name) }) {
      total += 1
      if !found([index], place).isEmpty { holding += 1 }
    }
    for (name, holds) in results where references.contains(where: { !$0.name.hasPrefix("$") && $0.fits(name) }) {
      total += 1
      if holds { holding += 1 }
    }
    return .bool(suffices(quantity, holding, of: total))
  }

  private mutating func each(
    _ quantity: YaraQuantity, _ references: [YaraReference], _ body: YaraExpression
  ) -> VQLValue {
    let saved = current
    defer { current = saved }
    var holding = 0
    var total = 0
    for (index, string) in scan.rules[rule].strings.enumerated()
    where references.contains(where: { $0.fits(string.name) }) {
      total += 1
      current = index
      if isTrue(body) { holding += 1 }
    }
    return .bool(suffices(quantity, holding, of: total))
  }

  private mutating func each(
    _ quantity: YaraQuantity, _ name: String, _ numbers: [YaraExpression], _ range: YaraRange?, _ body: YaraExpression
  ) -> VQLValue {
    var values = numbers.compactMap { integer($0) }
    if let range {
      guard let low = integer(range.low), let high = integer(range.high), low <= high, high - low < 1_000_000 else {
        return .bool(false)
      }
      values = Array(low...high)
    }
    let saved = loops[name]
    defer { loops[name] = saved }
    var holding = 0
    for value in values {
      loops[name] = value
      if isTrue(body) { holding += 1 }
      if case .any = quantity, holding > 0 { break }
    }
    return .bool(suffices(quantity, holding, of: values.count))
  }
}
