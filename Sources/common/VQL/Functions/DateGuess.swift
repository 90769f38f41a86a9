/// Reads a date that a person or a log wrote, in whatever form (builtins.md §5).
///
/// The parts are read one after the other: a day of the week, a date, a time, a zone, and a year that may stand last.
struct DateGuess {
  private let text: [UInt8]
  private var place = 0
  private var fields = DateFields()
  private var hasDay = false
  private var hasYear = false

  static func parse(_ text: String, zone: VQLZone?) -> VQLTime? {
    let trimmed = Bytes.trim(Array(text.utf8))
    guard trimmed.count >= 4, trimmed.count < 80 else { return nil }
    var guess = DateGuess(text: trimmed)
    guard guess.run() else { return nil }
    return guess.fields.time(zone: zone)
  }

  private init(text: [UInt8]) { self.text = text }

  private mutating func run() -> Bool {
    let start = place
    if let word = word(), Self.index(of: word, in: GoLayout.days) != nil {
      skip(" ,")
    } else {
      place = start
    }
    guard date(), hasDay || hasYear else { return false }
    skipToTime()
    if time() {
      skip(" ")
      guard zones() else { return false }
      if !hasYear, let number = number(4, 4) {
        setYear(number)
        skip(" ")
        guard zones() else { return false }
      }
    } else {
      guard zones() else { return false }
    }
    return place == text.count
  }

  // MARK: scanning

  private var current: UInt8 { place < text.count ? text[place] : 0 }
  private func byte(_ offset: Int) -> UInt8 { place + offset < text.count ? text[place + offset] : 0 }
  private static func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }
  private static func isLetter(_ byte: UInt8) -> Bool { (97...122).contains(byte | 0x20) }

  private mutating func skip(_ letters: StaticString) {
    while place < text.count, Self.holds(letters, text[place]) { place += 1 }
  }

  private static func holds(_ letters: StaticString, _ byte: UInt8) -> Bool {
    (0..<letters.utf8CodeUnitCount).contains { letters.utf8Start[$0] == byte }
  }

  private mutating func accept(_ character: Unicode.Scalar) -> Bool {
    guard UInt32(current) == character.value, place < text.count else { return false }
    place += 1
    return true
  }

  private mutating func number(_ least: Int, _ most: Int) -> Int? {
    let digits = text[place...].prefix(most).prefix(while: Self.isDigit)
    guard digits.count >= least, !Self.isDigit(byte(digits.count)) else { return nil }
    place += digits.count
    return Int(String(decoding: digits, as: UTF8.self))
  }

  private mutating func word() -> String? {
    let letters = text[place...].prefix(while: Self.isLetter)
    place += letters.count
    return letters.isEmpty ? nil : String(decoding: letters, as: UTF8.self).lowercased()
  }

  /// The place of a name that is written in full or by its first letters.
  private static func index(of word: String, in names: [String]) -> Int? {
    guard word.utf8.count >= 3 else { return nil }
    return names.firstIndex { name in
      let name = name.lowercased()
      return name == word || String(name.prefix(3)) == word || (word == "sept" && name == "september")
        || (["tues", "thur", "thurs"].contains(word) && name.hasPrefix(word))
    }
  }

  private mutating func month() -> Int? {
    let start = place
    if let word = word(), let index = Self.index(of: word, in: GoLayout.months) {
      _ = accept(".")
      return index + 1
    }
    place = start
    return nil
  }

  private mutating func setYear(_ year: Int) {
    fields.year = Int64(year)
    hasYear = true
  }

  /// A year of four digits, or of two with or without an apostrophe.
  private mutating func year() -> Bool {
    if let value = number(4, 4) {
      setYear(value)
      return true
    }
    _ = accept("'")
    guard let value = number(2, 2) else { return false }
    setYear(value < 69 ? 2000 + value : 1900 + value)
    return true
  }

  private mutating func store(month: Int?, day: Int?) -> Bool {
    guard let month, (1...12).contains(month), let day, (1...31).contains(day) else { return false }
    fields.month = month
    fields.day = day
    hasDay = true
    return true
  }

  // MARK: date

  private mutating func date() -> Bool {
    if let month = month() { return dayThenYear(month) }
    let digits = text[place...].prefix(while: Self.isDigit).count
    switch digits {
    case 4: return yearFirst()
    case 8: return compact()
    case 1, 2: return dayOrMonthFirst()
    default: return false
    }
  }

  /// `May 8, 2009`, `Feb  3 04:05:06`, `oct 7, '70`, `July 2009`.
  private mutating func dayThenYear(_ month: Int) -> Bool {
    skip(" -/")
    if let year = number(4, 4) {
      setYear(year)
      fields.month = month
      return true
    }
    guard let day = number(1, 2) else { return false }
    ordinal()
    guard store(month: month, day: day) else { return false }
    let start = place
    skip(" ,-/")
    // What follows is a time when a colon comes after its first number.
    if byte(1) == 0x3A || byte(2) == 0x3A || !year() || current == 0x3A {
      place = start
      hasYear = false
      fields.year = 0
    }
    return true
  }

  private mutating func ordinal() {
    let start = place
    if let word = word(), ["st", "nd", "rd", "th"].contains(word) { return }
    place = start
  }

  /// `2021-03-04`, `2021/3/4`, `2021.03.04`, `2014-04`, `2013 May 2`, `2013-Feb-03`, `2014年04月08日`.
  private mutating func yearFirst() -> Bool {
    guard let year = number(4, 4) else { return false }
    setYear(year)
    if skipCharacter("年") {
      guard let month = number(1, 2), skipCharacter("月"), let day = number(1, 2) else { return false }
      _ = skipCharacter("日")
      return store(month: month, day: day)
    }
    let separator = current
    guard "-/. :".utf8.contains(separator) else { return false }
    place += 1
    if let named = month() {
      guard current == separator else { return false }
      place += 1
      return store(month: named, day: number(1, 2))
    }
    guard separator != 0x20, let month = number(1, 2), (1...12).contains(month) else { return false }
    fields.month = month
    guard current == separator else { return place == text.count }
    place += 1
    return store(month: month, day: number(1, 2))
  }

  private mutating func skipCharacter(_ character: String) -> Bool {
    guard text[place...].starts(with: character.utf8) else { return false }
    place += character.utf8.count
    return true
  }

  /// `20210304T050607Z`.
  private mutating func compact() -> Bool {
    guard let all = number(8, 8) else { return false }
    setYear(all / 10_000)
    return store(month: all / 100 % 100, day: all % 100)
  }

  /// `02/03/2021` (the month first), `3.31.2014`, `7 oct 1970`, `04/Mar/2021:05:06:07`.
  private mutating func dayOrMonthFirst() -> Bool {
    guard let first = number(1, 2) else { return false }
    ordinal()
    let separator = current
    guard Self.holds("/-. ", separator) else { return false }
    place += 1
    skip(" ")
    if let named = month() {
      guard store(month: named, day: first) else { return false }
      skip(" ,-/")
      return year()
    }
    guard separator != 0x20, let second = number(1, 2), current == separator else { return false }
    place += 1
    guard store(month: first, day: second) else { return false }
    return year()
  }

  // MARK: time

  private mutating func skipToTime() {
    if text[place...].starts(with: " at ".utf8) { place += 4 }
    if current | 0x20 == 0x74, Self.isDigit(byte(1)) {
      place += 1
    } else if current == 0x3A, Self.isDigit(byte(1)) {
      place += 1
    } else {
      skip(" ,")
    }
  }

  private mutating func time() -> Bool {
    let start = place
    if let compact = number(6, 6) {
      fields.hour = compact / 10_000
      fields.minute = compact / 100 % 100
      fields.second = compact % 100
      fraction()
      return fields.hour < 25 && fields.minute < 60 && fields.second < 61
    }
    if let compact = number(4, 4), place == text.count || current | 0x20 == 0x7A, compact / 100 < 24, compact % 100 < 60
    {
      fields.hour = compact / 100
      fields.minute = compact % 100
      return true
    }
    place = start
    guard let hour = number(1, 2), hour < 25 else {
      place = start
      return false
    }
    fields.hour = hour
    if accept(":") {
      guard let minute = number(2, 2), minute < 60 else { return false }
      fields.minute = minute
      if accept(":") {
        guard let second = number(2, 2), second < 61 else { return false }
        fields.second = second
        fraction()
      }
      _ = half()
      return true
    }
    if half() { return true }
    place = start
    fields.hour = 0
    return false
  }

  private mutating func fraction() {
    guard current == 0x2E || current == 0x2C || current == 0x3A, Self.isDigit(byte(1)) else { return }
    place += 1
    var value: Int32 = 0
    var count = 0
    while Self.isDigit(current) {
      if count < 9 {
        value = value * 10 + Int32(current - 48)
        count += 1
      }
      place += 1
    }
    while count < 9 {
      value *= 10
      count += 1
    }
    fields.nanoseconds = value
  }

  /// AM or PM.
  private mutating func half() -> Bool {
    let start = place
    skip(" ")
    if let word = word(), word == "am" || word == "pm", fields.hour <= 12 {
      fields.hour = fields.hour % 12 + (word == "pm" ? 12 : 0)
      return true
    }
    place = start
    return false
  }

  // MARK: zone

  /// Offsets and names until the end or a year; false when there is something else.
  private mutating func zones() -> Bool {
    while place < text.count {
      skip(" ")
      if current == UInt8(ascii: "(") {
        guard let close = text[place...].firstIndex(of: UInt8(ascii: ")")) else { return false }
        place = close + 1
      } else if current == UInt8(ascii: "m"), byte(1) == UInt8(ascii: "=") {
        place = text.count
      } else if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") {
        guard offset() else { return false }
      } else if Self.isLetter(current) {
        guard let word = word()?.uppercased(), (1...5).contains(word.utf8.count) else { return false }
        if word == "Z" || word == "UTC" || word == "GMT" {
          fields.offset = fields.offset ?? 0
          if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { fields.offset = nil }
        } else if word.utf8.count >= 3 {
          fields.zoneName = word
        } else {
          return false
        }
      } else {
        return place == text.count || Self.isDigit(current)
      }
    }
    return true
  }

  private mutating func offset() -> Bool {
    let sign = current == UInt8(ascii: "-") ? -1 : 1
    place += 1
    let digits = text[place...].prefix(4).prefix(while: Self.isDigit).count
    var seconds = 0
    if digits == 4, let value = number(4, 4) {
      seconds = value / 100 * 3600 + value % 100 * 60
    } else if let hours = number(1, 2) {
      seconds = hours * 3600
      if accept(":") {
        guard let minutes = number(2, 2) else { return false }
        seconds += minutes * 60
      }
    } else {
      return false
    }
    guard seconds < 86400 else { return false }
    fields.offset = sign * seconds
    return true
  }
}

/// The fields of a date as it was written.
struct DateFields {
  var year: Int64 = 0
  var month = 1
  var day = 1
  var hour = 0
  var minute = 0
  var second = 0
  var nanoseconds: Int32 = 0
  /// Seconds east of UTC, when the text says so.
  var offset: Int?
  /// An abbreviation such as EST: it means something only in a zone that uses it.
  var zoneName: String?

  /// The instant, nil when there is no such day.
  /// - Parameter zone: where text without a zone was written.
  func time(zone: VQLZone?) -> VQLTime? {
    let next =
      month == 12
      ? CivilTime.days(year: year + 1, month: 1, day: 1) : CivilTime.days(year: year, month: month + 1, day: 1)
    let date = CivilTime.days(year: year, month: month, day: day)
    guard date < next else { return nil }
    let local = date * 86400 + Int64(hour * 3600 + minute * 60 + second)
    var seconds = local
    if let offset {
      seconds -= Int64(offset)
    } else if let zoneName {
      seconds -= Int64(zone?.offset(ofAbbreviation: zoneName, near: local) ?? 0)
    } else if let zone {
      seconds -= Int64(zone.offset(at: local).seconds)
      seconds = local - Int64(zone.offset(at: seconds).seconds)
    }
    return VQLTime(seconds: seconds, nanoseconds: nanoseconds)
  }
}
