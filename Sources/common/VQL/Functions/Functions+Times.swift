extension Functions {
  static let times: [FunctionSpec] = [
    FunctionSpec(
      "timestamp",
      "epoch: any, cocoatime: int, mactime: int, winfiletime: int, string: string, format: string",
      "A time from a number or a text."
    ) { call in
      try timestamp(call)
    },
    FunctionSpec("timestamp_format", "time*: any, format: string", "A time as text.") { call in
      guard let time = TimeParser.convert(call.value("time") ?? .null, call.scope) else { return .null }
      let name = call.text("format") ?? "RFC3339"
      let layout = GoLayout.named[name] ?? (name.isEmpty ? "2006-01-02T15:04:05Z07:00" : name)
      return .string(GoLayout.format(time.civil(in: TimeParser.zone("TZ", call.scope)), layout))
    },
    FunctionSpec("now", "ns: bool", "Seconds since the epoch, or nanoseconds.") { call in
      .int(call.bool("ns") ? Clock.nanoseconds : Clock.seconds)
    },
  ]

  private static func timestamp(_ call: Call) throws -> VQLValue {
    let format = call.text("format") ?? ""
    if let value = try call.int("cocoatime"), value > 0 {
      return .time(VQLTime(seconds: value &+ 978_307_200))
    }
    if let value = try call.int("mactime"), value > 0 {
      return .time(VQLTime(seconds: value &- 2_082_844_800))
    }
    if let value = try call.int("winfiletime"), value > 0 {
      return .time(
        VQLTime(seconds: value / 10_000_000 &- 11_644_473_600, nanoseconds: Int32(value % 10_000_000 * 100)))
    }
    let name = call.has("string") ? "string" : "epoch"
    guard let value = call.value(name), !value.isNull else { return .null }
    if !format.isEmpty, case .bytes(let text) = value {
      let layout = GoLayout.named[format] ?? format
      return TimeParser.parse(
        String(decoding: text, as: UTF8.self), layout: layout, zone: TimeParser.defaultZone(call.scope)
      )
      .map { .time($0) } ?? .null
    }
    return TimeParser.convert(value, call.scope).map { .time($0) } ?? .null
  }
}

/// Reads times from numbers and from text in many forms (builtins.md §5).
enum TimeParser {
  static func zone(_ variable: String, _ scope: Scope) -> VQLZone? {
    guard case .bytes(let name)? = scope.variable(variable) else { return nil }
    return VQLZone(named: String(decoding: name, as: UTF8.self))
  }

  /// The zone of text that names none.
  static func defaultZone(_ scope: Scope) -> VQLZone? { zone("PARSE_TZ", scope) ?? zone("TZ", scope) }

  static func convert(_ value: VQLValue, _ scope: Scope) -> VQLTime? {
    switch value {
    case .time(let time): return time
    case .double(let seconds): return VQLTime(seconds)
    case .int(let number): return epoch(number)
    case .integer(let number): return epoch(number.bits)
    case .bytes(let text):
      if let number = NumberText.parseDecimal(text) { return epoch(number) }
      if let number = NumberText.parseFloat(text) { return VQLTime(number) }
      return guess(String(decoding: text, as: UTF8.self), zone: defaultZone(scope))
    case .lazy(let thunk): return convert(thunk.value, scope)
    default: return nil
    }
  }

  /// Seconds, milliseconds, microseconds or nanoseconds, told apart by magnitude.
  static func epoch(_ value: Int64) -> VQLTime {
    if value == 0 { return VQLTime(seconds: VQLTime.zeroSeconds) }
    if value > 20_000_000_000_000_000 { return VQLTime(nanosecondsSinceEpoch: value) }
    if value > 20_000_000_000_000 {
      return VQLTime(seconds: value / 1_000_000, nanoseconds: Int32(value % 1_000_000 * 1000))
    }
    if value > 20_000_000_000 { return VQLTime(seconds: value / 1000, nanoseconds: Int32(value % 1000 * 1_000_000)) }
    return VQLTime(seconds: value)
  }

  static func guess(_ text: String, zone: VQLZone?) -> VQLTime? { DateGuess.parse(text, zone: zone) }

  /// Parses text written by a layout; seconds may carry a fraction that the layout does not mention.
  static func parse(_ text: String, layout: String, zone: VQLZone?) -> VQLTime? {
    var reader = LayoutReader(text)
    for token in GoLayout.tokens(layout) {
      switch token {
      case .text(let literal): guard reader.literal(literal) else { return nil }
      case .fraction: _ = reader.fraction(required: false)
      case .field(let field): guard reader.field(field) else { return nil }
      }
    }
    guard reader.isAtEnd else { return nil }
    return reader.time(zone: zone)
  }
}

/// Reads the fields of a date by a layout.
private struct LayoutReader {
  private let text: [UInt8]
  private var place = 0
  private var fields = DateFields()
  private var isPM: Bool?

  init(_ text: String) { self.text = Array(text.utf8) }

  var isAtEnd: Bool { place == text.count }

  mutating func literal(_ literal: String) -> Bool {
    for byte in literal.utf8 {
      if byte == 0x20 {
        // A space stands for any run of spaces, as in padded days.
        guard place < text.count, text[place] == 0x20 else { return false }
        while place < text.count, text[place] == 0x20 { place += 1 }
        continue
      }
      guard place < text.count, text[place] | 0x20 == byte | 0x20 else { return false }
      place += 1
    }
    return true
  }

  private mutating func digits(_ least: Int, _ most: Int) -> Int? {
    var value = 0
    var count = 0
    while count < most, place < text.count, (48...57).contains(text[place]) {
      value = value * 10 + Int(text[place] - 48)
      place += 1
      count += 1
    }
    return count >= least ? value : nil
  }

  private mutating func name(_ names: [String], short: Bool) -> Int? {
    for (index, name) in names.enumerated() {
      let wanted = Array((short ? String(name.prefix(3)) : name).lowercased().utf8)
      guard place + wanted.count <= text.count else { continue }
      if text[place..<place + wanted.count].map({ $0 | 0x20 }) == wanted {
        place += wanted.count
        return index
      }
    }
    return nil
  }

  mutating func fraction(required: Bool) -> Bool {
    guard place + 1 < text.count, text[place] == 0x2E || text[place] == 0x2C, (48...57).contains(text[place + 1]) else {
      return !required
    }
    place += 1
    var value: Int32 = 0
    var count = 0
    while place < text.count, (48...57).contains(text[place]) {
      if count < 9 {
        value = value * 10 + Int32(text[place] - 48)
        count += 1
      }
      place += 1
    }
    for _ in count..<9 { value *= 10 }
    fields.nanoseconds = value
    return true
  }

  private mutating func store(_ value: Int?, _ range: ClosedRange<Int>, _ path: WritableKeyPath<DateFields, Int>)
    -> Bool
  {
    guard let value, range.contains(value) else { return false }
    fields[keyPath: path] = value
    return true
  }

  mutating func field(_ field: String) -> Bool {
    switch field {
    case "2006":
      guard let value = digits(4, 4) else { return false }
      fields.year = Int64(value)
      return true
    case "06":
      guard let value = digits(2, 2) else { return false }
      fields.year = Int64(value < 69 ? 2000 + value : 1900 + value)
      return true
    case "January": return store(name(GoLayout.months, short: false).map { $0 + 1 }, 1...12, \.month)
    case "Jan": return store(name(GoLayout.months, short: true).map { $0 + 1 }, 1...12, \.month)
    case "Monday": return name(GoLayout.days, short: false) != nil
    case "Mon": return name(GoLayout.days, short: true) != nil
    case "01": return store(digits(2, 2), 1...12, \.month)
    case "1": return store(digits(1, 2), 1...12, \.month)
    case "02": return store(digits(2, 2), 1...31, \.day)
    case "2": return store(digits(1, 2), 1...31, \.day)
    case "_2":
      while place < text.count, text[place] == 0x20 { place += 1 }
      return store(digits(1, 2), 1...31, \.day)
    case "15": return store(digits(1, 2), 0...24, \.hour)
    case "03", "3": return store(digits(1, 2), 0...12, \.hour)
    case "04", "4": return store(digits(1, 2), 0...59, \.minute)
    case "05", "5": return store(digits(1, 2), 0...60, \.second) && fraction(required: false)
    case "PM", "pm":
      guard place + 1 < text.count, text[place + 1] | 0x20 == 0x6D else { return false }
      isPM = text[place] | 0x20 == 0x70
      guard isPM == true || text[place] | 0x20 == 0x61 else { return false }
      place += 2
      return true
    case "MST": return zoneName()
    default: return zoneOffset(allowsZ: field.hasPrefix("Z"))
    }
  }

  private mutating func zoneName() -> Bool {
    let start = place
    while place < text.count, (65...90).contains(text[place]) { place += 1 }
    guard place - start >= 2 else { return false }
    let name = String(decoding: text[start..<place], as: UTF8.self)
    if name == "UTC" || name == "GMT" { fields.offset = fields.offset ?? 0 } else { fields.zoneName = name }
    return true
  }

  private mutating func zoneOffset(allowsZ: Bool) -> Bool {
    guard place < text.count else { return false }
    if allowsZ, text[place] | 0x20 == 0x7A {
      place += 1
      fields.offset = 0
      return true
    }
    guard text[place] == 0x2B || text[place] == 0x2D else { return false }
    let sign = text[place] == 0x2D ? -1 : 1
    place += 1
    guard let hours = digits(2, 2) else { return false }
    if place < text.count, text[place] == 0x3A { place += 1 }
    let minutes = digits(2, 2) ?? 0
    fields.offset = sign * (hours * 3600 + minutes * 60)
    return true
  }

  func time(zone: VQLZone?) -> VQLTime? {
    var fields = fields
    if let isPM { fields.hour = fields.hour % 12 + (isPM ? 12 : 0) }
    return fields.time(zone: zone)
  }
}
