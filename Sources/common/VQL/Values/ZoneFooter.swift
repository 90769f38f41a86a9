/// The rule for times after a zone file's table: a POSIX TZ text such as `CET-1CEST,M3.5.0,M10.5.0/3`.
struct ZoneFooter: Sendable {
  /// When in a year clocks change.
  private struct Change: Sendable {
    enum Day: Sendable {
      /// Month 1-12, week 1-5 (5 is the last), weekday from Sunday 0.
      case weekday(month: Int, week: Int, day: Int)
      /// Day 1-365; 29 February is never counted.
      case julian(Int)
      /// Day 0-365; 29 February is counted.
      case ordinal(Int)
    }

    var day: Day
    /// Seconds after local midnight.
    var time: Int

    /// Local seconds since 1970.
    func seconds(in year: Int) -> Int64 {
      let start = Self.days(year, 1, 1)
      let days: Int
      switch day {
      case .julian(let number):
        let leap = Self.days(year, 3, 1) - start == 60 && number >= 60
        days = start + number - 1 + (leap ? 1 : 0)
      case .ordinal(let number): days = start + number
      case .weekday(let month, let week, let weekday):
        let first = Self.days(year, month, 1)
        // 1 January 1970 was a Thursday.
        let offset = ((weekday - (first + 4)) % 7 + 7) % 7
        let next = month == 12 ? Self.days(year + 1, 1, 1) : Self.days(year, month + 1, 1)
        var found = first + offset + (week - 1) * 7
        while found >= next { found -= 7 }
        days = found
      }
      return Int64(days) * 86_400 + Int64(time)
    }

    /// Days since 1970 of a date in the Gregorian calendar.
    static func days(_ year: Int, _ month: Int, _ day: Int) -> Int {
      let shifted = month <= 2 ? year - 1 : year
      let era = (shifted >= 0 ? shifted : shifted - 399) / 400
      let yearOfEra = shifted - era * 400
      let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
      return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
  }

  private let standard: ZoneFile.Rule
  private let daylight: (rule: ZoneFile.Rule, start: Change, end: Change)?

  /// - Returns: nil for an empty or unreadable text.
  init?(_ text: [UInt8]) {
    var scanner = Scanner(text[...])
    guard let name = scanner.name(), let west = scanner.time() else { return nil }
    standard = ZoneFile.Rule(offset: -west, name: name, isDaylight: false)
    guard let daylightName = scanner.name() else {
      daylight = nil
      return
    }
    let offset = scanner.isAtComma ? standard.offset + 3600 : scanner.time().map { -$0 }
    guard let offset, let start = scanner.change(), let end = scanner.change() else { return nil }
    daylight = (ZoneFile.Rule(offset: offset, name: daylightName, isDaylight: true), start, end)
  }

  func rule(at seconds: Int64) -> ZoneFile.Rule {
    guard let daylight else { return standard }
    // Far away the year is not worth its arithmetic.
    let near = min(max(seconds, -1 << 40), 1 << 40)
    let year = Self.year(of: near + Int64(standard.offset))
    let start = daylight.start.seconds(in: year) - Int64(standard.offset)
    let end = daylight.end.seconds(in: year) - Int64(daylight.rule.offset)
    let isDaylight = start < end ? (start..<end).contains(near) : !(end..<start).contains(near)
    return isDaylight ? daylight.rule : standard
  }

  private static func year(of seconds: Int64) -> Int {
    let days = Int((Double(seconds) / 86_400).rounded(.down)) + 719_468
    let era = (days >= 0 ? days : days - 146_096) / 146_097
    let dayOfEra = days - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    return yearOfEra + era * 400 + (dayOfYear >= 306 ? 1 : 0)
  }

  private struct Scanner {
    private var rest: ArraySlice<UInt8>

    init(_ text: ArraySlice<UInt8>) { rest = text }

    var isAtComma: Bool { rest.first == UInt8(ascii: ",") }

    private mutating func take(_ character: Character) -> Bool {
      guard let byte = character.asciiValue, rest.first == byte else { return false }
      rest.removeFirst()
      return true
    }

    mutating func name() -> String? {
      if take("<") {
        let name = rest.prefix { $0 != UInt8(ascii: ">") }
        rest = rest.dropFirst(name.count + 1)
        return String(decoding: name, as: UTF8.self)
      }
      let name = rest.prefix { (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) }
      guard !name.isEmpty else { return nil }
      rest = rest.dropFirst(name.count)
      return String(decoding: name, as: UTF8.self)
    }

    private mutating func number() -> Int? {
      let digits = rest.prefix { (0x30...0x39).contains($0) }
      guard (1...4).contains(digits.count) else { return nil }
      rest = rest.dropFirst(digits.count)
      return digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    }

    /// `[+-]hh[:mm[:ss]]` in seconds.
    mutating func time() -> Int? {
      let sign = take("-") ? -1 : 1
      if sign == 1 { _ = take("+") }
      guard var seconds = number().map({ $0 * 3600 }) else { return nil }
      for unit in [60, 1] where take(":") {
        guard let value = number() else { return nil }
        seconds += value * unit
      }
      return sign * seconds
    }

    mutating func change() -> Change? {
      guard take(","), let day = day() else { return nil }
      guard take("/") else { return Change(day: day, time: 7200) }
      return time().map { Change(day: day, time: $0) }
    }

    private mutating func day() -> Change.Day? {
      if take("M") {
        guard let month = number(), take("."), let week = number(), take("."), let day = number(),
          (1...12).contains(month), (1...5).contains(week), (0...6).contains(day)
        else { return nil }
        return .weekday(month: month, week: week, day: day)
      }
      if take("J") { return number().flatMap { (1...365).contains($0) ? .julian($0) : nil } }
      return number().flatMap { (0...365).contains($0) ? .ordinal($0) : nil }
    }
  }
}
