/// Operators of language.md §3.1 to §3.7.
enum Operators {
  private static let maximumDepth = 64

  // MARK: equality

  static func equal(_ a: VQLValue, _ b: VQLValue, depth: Int = 0) -> Bool {
    guard depth < maximumDepth else { return false }
    switch (a, b) {
    case (.int(let x), .int(let y)): return x == y
    case (.bytes(let x), .bytes(let y)): return x == y
    case (.null, _): return b.isNull
    case (.lazy(let thunk), _): return equal(thunk.value, b, depth: depth)
    case (_, .lazy(let thunk)): return equal(a, thunk.value, depth: depth)
    case (.int, _), (.integer, _):
      if let x = a.integer, let y = b.integer { return x == y }
      if let x = a.integer, case .bool(let y) = b { return x == (y ? 1 : 0) }
      if let x = a.number, case .double(let y) = b { return x == y }
      return objectEqual(a, b)
    case (.bool(let x), .bool(let y)): return x == y
    case (.bool(let x), .bytes(let y)):
      let truths = ["Y", "y", "TRUE", "True"]
      return x == truths.contains(String(decoding: y, as: UTF8.self))
    case (.bool(let x), _):
      if case .double(let y) = b { return VQLValue.truncate(y) == (x ? 1 : 0) }
      return b.integer.map { $0 == (x ? 1 : 0) } ?? false
    case (.double(let x), _): return b.number.map { x == $0 } ?? false
    case (.time(let x), .time(let y)): return x.compare(y) == 0
    case (.time(let x), _):
      if let y = b.integer { return x.seconds == y && x.nanoseconds == 0 }
      if case .double(let y) = b { return x.asDouble == y }
      return false
    case (.array(let x), .array(let y)):
      return x.count == y.count && zip(x, y).allSatisfy { equal($0, $1, depth: depth + 1) }
    case (.dict(let x), .dict(let y)):
      guard x.count == y.count else { return false }
      return x.keys.allSatisfy { name in
        guard let left = x[name], let right = y[name] else { return false }
        return equal(left, right, depth: depth + 1)
      }
    case (.path(let x), .path(let y)): return x.components == y.components && x.text == y.text
    default: return objectEqual(a, b)
    }
  }

  private static func objectEqual(_ a: VQLValue, _ b: VQLValue) -> Bool {
    if case .object(let object) = a { return object.compare(b) == 0 }
    if case .object(let object) = b { return object.compare(a) == 0 }
    return false
  }

  // MARK: ordering

  static func less(_ a: VQLValue, _ b: VQLValue, depth: Int = 0) -> Bool {
    guard depth < maximumDepth else { return false }
    switch (a, b) {
    case (.int(let x), .int(let y)): return x < y
    case (.bytes(let x), .bytes(let y)): return x.lexicographicallyPrecedes(y)
    case (.null, _), (_, .null): return false
    case (.lazy(let thunk), _): return less(thunk.value, b, depth: depth)
    case (_, .lazy(let thunk)): return less(a, thunk.value, depth: depth)
    case (.time(let x), _): return timeOrder(x, b).map { $0 < 0 } ?? false
    case (_, .time(let y)): return timeOrder(y, a).map { $0 > 0 } ?? false
    case (.array(let x), .array(let y)):
      guard let first = x.first else { return !y.isEmpty }
      guard let second = y.first else { return false }
      return less(first, second, depth: depth + 1)
    case (.dict(let x), .dict(let y)): return x.count < y.count
    case (.path(let x), .path(let y)): return x.text.lexicographicallyPrecedes(y.text)
    default: return oddLess(a, b)
    }
  }

  private static func oddLess(_ a: VQLValue, _ b: VQLValue) -> Bool {
    if let x = a.integer, let y = b.integer { return x < y }
    if let x = a.number, let y = b.number { return x < y }
    if case .object(let object) = a, let order = object.compare(b) { return order < 0 }
    if case .object(let object) = b, let order = object.compare(a) { return order > 0 }
    return b.integer != nil
  }

  /// How a time stands to another value: negative when earlier, nil when they cannot be compared.
  private static func timeOrder(_ time: VQLTime, _ other: VQLValue) -> Int? {
    switch other {
    case .time(let second): return time.compare(second)
    case .int(let seconds): return time.compare(VQLTime(seconds: seconds))
    case .integer(let seconds): return time.compare(VQLTime(seconds: seconds.bits))
    case .double(let seconds): return time.asDouble < seconds ? -1 : time.asDouble > seconds ? 1 : 0
    case .bytes(let text):
      return TimeParser.guess(String(decoding: text, as: UTF8.self), zone: nil).map { time.compare($0) }
    default: return nil
    }
  }

  static func greater(_ a: VQLValue, _ b: VQLValue) -> Bool {
    if a.isNull || b.isNull { return false }
    if b.integer != nil, a.number == nil {
      switch a {
      case .time, .object: break
      default: return true
      }
    }
    if a.integer != nil, b.number == nil {
      switch b {
      case .time, .object: break
      default: return false
      }
    }
    return less(b, a)
  }

  // MARK: comparison

  static func compare(_ a: VQLValue, _ op: Comparison, _ b: VQLValue, _ scope: Scope) -> Bool {
    switch op {
    case .equal: equal(a, b)
    case .notEqual: !equal(a, b)
    case .lessOrGreater: false
    case .less: less(a, b)
    case .lessOrEqual: less(a, b) || equal(a, b)
    case .greater: greater(a, b)
    case .greaterOrEqual: greater(a, b) || equal(a, b)
    case .matches: matches(a, b, scope)
    case .isIn: contains(a, in: b)
    }
  }

  private static func contains(_ a: VQLValue, in b: VQLValue) -> Bool {
    switch (a, b) {
    case (.bytes(let name), .dict(let dict)): return dict.shape.find(String(decoding: name, as: UTF8.self)) != nil
    case (.bytes(let part), .bytes(let whole)): return Bytes.find(part, in: whole) != nil
    case (_, .array(let elements)): return elements.contains { equal($0.resolved, a) }
    default: return false
    }
  }

  static func matches(_ target: VQLValue, _ pattern: VQLValue, _ scope: Scope) -> Bool {
    guard case .bytes(let text) = pattern else { return false }
    if text.isEmpty || text == [0x2E] || text == [0x2E, 0x2A] { return true }
    guard let regex = scope.context.regex(text, ignoreCase: true) else { return false }
    return matches(target, regex, depth: 0)
  }

  static func matches(_ target: VQLValue, _ regex: Regex, depth: Int = 0) -> Bool {
    switch target {
    case .bytes(let bytes): return regex.matches(bytes)
    case .null, .bool, .query: return false
    case .lazy(let thunk): return matches(thunk.value, regex, depth: depth)
    case .array(let elements):
      return depth < maximumDepth && elements.contains { matches($0.resolved, regex, depth: depth + 1) }
    default:
      var text: [UInt8] = []
      target.appendText(to: &text, rfcTimes: true)
      return regex.matches(text)
    }
  }

  // MARK: arithmetic

  static func arithmetic(_ a: VQLValue, _ op: Arithmetic, _ b: VQLValue, _ scope: Scope) -> VQLValue {
    switch op {
    case .add: add(a, b, scope)
    case .subtract: subtract(a, b)
    case .multiply: multiply(a, b, scope)
    case .divide: divide(a, b)
    }
  }

  private static func add(_ a: VQLValue, _ b: VQLValue, _ scope: Scope) -> VQLValue {
    switch (a, b) {
    case (.int(let x), .int(let y)): return .int(x &+ y)
    case (.bytes(let x), .bytes(let y)):
      guard x.count + y.count <= Context.maximumLength else {
        scope.context.log(.none, "Add Str exceeded memory limits.")
        return .null
      }
      return .bytes(x + y)
    case (.path(let path), _): return path.appending(b).map { .path($0) } ?? .null
    case (.array(let x), .array(let y)): return .array(x + y)
    case (.array(let x), _): return .array(x + [b])
    case (_, .array(let y)): return .array([a] + y)
    case (.dict(let x), .dict(let y)):
      let result = x.copy()
      y.eachMember { result.set($0, $1) }
      return .dict(result)
    case (.query(let x), .query(let y)): return .array(x.collect(scope) + y.collect(scope))
    case (.double(let x), _): return b.number.map { .double(x + $0) } ?? .null
    default:
      if let x = a.integer, let y = b.integer { return .int(x &+ y) }
      if a.integer != nil, case .double(let y) = b, let x = a.number { return .double(x + y) }
      return .null
    }
  }

  private static func subtract(_ a: VQLValue, _ b: VQLValue) -> VQLValue {
    if case .dict(let x) = a, case .dict(let y) = b {
      return .dict(x.filtered { y.shape.find($0) == nil })
    }
    if let x = whole(a), let y = whole(b) { return .int(x &- y) }
    if let x = a.number, let y = b.number { return .double(x - y) }
    return .null
  }

  /// Integers and bools as an integer.
  private static func whole(_ value: VQLValue) -> Int64? {
    if case .bool(let bool) = value { return bool ? 1 : 0 }
    return value.integer
  }

  private static func multiply(_ a: VQLValue, _ b: VQLValue, _ scope: Scope) -> VQLValue {
    if case .dict(let x) = a, case .dict(let y) = b {
      return .dict(x.filtered { y.shape.find($0) != nil })
    }
    if case .bytes(let text) = a {
      let number: Int64?
      if case .double(let double) = b { number = VQLValue.truncate(double) } else { number = whole(b) }
      guard let times = number else { return .null }
      let total = Int64(text.count).multipliedReportingOverflow(by: times)
      guard times >= 0, !total.overflow, total.partialValue <= Int64(Context.maximumLength) else {
        let product = UInt64(bitPattern: Int64(text.count) &* times)
        scope.context.log(
          .none,
          "Multiply Str x Int exceeded memory limits. Len Str \(text.count) * Count \(times) = \(product)")
        return .null
      }
      var out: [UInt8] = []
      out.reserveCapacity(Int(total.partialValue))
      if !text.isEmpty { for _ in 0..<times { out.append(contentsOf: text) } }
      return .bytes(out)
    }
    if let x = whole(a), let y = whole(b) { return .int(x &* y) }
    if let x = a.number, let y = b.number { return .double(x * y) }
    return .null
  }

  private static func divide(_ a: VQLValue, _ b: VQLValue) -> VQLValue {
    guard let x = a.number, let y = b.number, y != 0 else { return .null }
    if whole(a) == 0, case .double = b { return .null }
    return .double(x / y)
  }
}

extension VQLValue {
  /// Truth as WHERE, AND, OR, NOT and `if` see it (language.md §3.1).
  func isTrue(_ scope: Scope) -> Bool {
    switch self {
    case .null: false
    case .bool(let value): value
    case .int(let value): value > 0
    case .integer(let value): value.kind == .uint64 ? value.bits != 0 : value.bits > 0
    case .double(let value): value > 0
    case .bytes(let bytes): !bytes.isEmpty
    case .array(let elements): !elements.isEmpty
    case .dict(let dict): dict.count > 0
    case .time(let time): time.seconds > 0
    case .path(let path): !path.components.isEmpty || path.delegate != nil
    case .query(let query): query.hasRow(scope)
    case .lazy(let thunk): thunk.value.isTrue(scope)
    case .object(let object): object.isTrue
    }
  }
}

enum Bytes {
  /// Where a byte string occurs in another.
  static func find(_ part: [UInt8], in whole: [UInt8], from start: Int = 0) -> Int? {
    guard let first = part.first else { return start <= whole.count ? start : nil }
    guard whole.count >= part.count else { return nil }
    var place = max(start, 0)
    let last = whole.count - part.count
    while place <= last {
      if whole[place] == first, whole[place..<(place + part.count)].elementsEqual(part) { return place }
      place += 1
    }
    return nil
  }

  static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  static func trim(_ bytes: some BidirectionalCollection<UInt8>) -> [UInt8] {
    guard let first = bytes.firstIndex(where: { !isSpace($0) }),
      let last = bytes.lastIndex(where: { !isSpace($0) })
    else { return [] }
    return Array(bytes[first...last])
  }

  static func lines(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
    bytes.split(separator: 10, omittingEmptySubsequences: false)
  }
}
