/// An instant with nanoseconds and a zone.
package final class VQLTime {
  /// Seconds since the epoch.
  let seconds: Int64
  let nanoseconds: Int32
  /// The zone it is shown in when members such as Hour are asked for.
  let zone: VQLZone?

  init(seconds: Int64, nanoseconds: Int32 = 0, zone: VQLZone? = nil) {
    self.seconds = seconds
    self.nanoseconds = nanoseconds
    self.zone = zone
  }

  static let zeroSeconds: Int64 = -62_135_596_800

  convenience init(nanosecondsSinceEpoch value: Int64) {
    var seconds = value / 1_000_000_000
    var rest = value % 1_000_000_000
    if rest < 0 {
      rest += 1_000_000_000
      seconds -= 1
    }
    self.init(seconds: seconds, nanoseconds: Int32(rest))
  }

  convenience init(_ value: Double) {
    let floor = value.rounded(.down)
    let seconds = VQLValue.truncate(floor)
    let nanoseconds = min(max((value - floor) * 1e9, 0), 999_999_999)
    self.init(seconds: seconds, nanoseconds: Int32(nanoseconds))
  }

  var isZero: Bool { seconds == Self.zeroSeconds && nanoseconds == 0 }
  var unixNanoseconds: Int64 { seconds &* 1_000_000_000 &+ Int64(nanoseconds) }
  var asDouble: Double { Double(seconds) + Double(nanoseconds) / 1e9 }

  func compare(_ other: VQLTime) -> Int {
    if seconds != other.seconds { return seconds < other.seconds ? -1 : 1 }
    return nanoseconds == other.nanoseconds ? 0 : nanoseconds < other.nanoseconds ? -1 : 1
  }

  func civil(in zone: VQLZone?) -> CivilTime {
    let offset = zone?.offset(at: seconds) ?? (seconds: 0, name: "UTC")
    return CivilTime(seconds: seconds, nanoseconds: nanoseconds, offset: offset.seconds, zoneName: offset.name)
  }

  func rfc3339(in zone: VQLZone?) -> String { GoLayout.format(civil(in: zone), "2006-01-02T15:04:05.999999999Z07:00") }

  var plainText: String {
    let civil = civil(in: nil)
    return GoLayout.format(civil, "2006-01-02 15:04:05.999999999 -0700 MST")
  }

  func member(_ name: String) -> VQLValue? {
    switch name {
    case "Unix": return .int(seconds)
    case "UnixMilli": return .int(seconds &* 1000 &+ Int64(nanoseconds / 1_000_000))
    case "UnixMicro": return .int(seconds &* 1_000_000 &+ Int64(nanoseconds / 1000))
    case "UnixNano": return .int(unixNanoseconds)
    case "IsZero": return .bool(isZero)
    case "IsDST": return .bool(zone?.isDaylight(at: seconds) ?? false)
    case "UTC": return .time(VQLTime(seconds: seconds, nanoseconds: nanoseconds))
    case "String": return .string(GoLayout.format(civil(in: nil), "2006-01-02T15:04:05Z07:00"))
    case "Nanosecond": return .int(Int64(nanoseconds))
    default: break
    }
    let civil = civil(in: zone)
    switch name {
    case "Year": return .int(civil.year)
    case "Month": return .int(Int64(civil.month))
    case "Day": return .int(Int64(civil.day))
    case "Hour": return .int(Int64(civil.hour))
    case "Minute": return .int(Int64(civil.minute))
    case "Second": return .int(Int64(civil.second))
    case "Weekday": return .int(Int64(civil.weekday))
    case "YearDay": return .int(Int64(civil.yearDay))
    case "ISOWeek": return .int(civil.isoYear)
    case "Zone": return .string(civil.zoneName)
    default: return nil
    }
  }

  static let memberNames = [
    "Unix", "UnixMilli", "UnixMicro", "UnixNano", "Year", "Month", "Day", "Hour", "Minute", "Second", "Nanosecond",
    "Weekday", "YearDay", "ISOWeek", "Zone", "IsDST", "IsZero", "UTC", "String",
  ]
}

/// Calendar fields of an instant at an offset.
struct CivilTime {
  var year: Int64
  var month: Int
  var day: Int
  var hour: Int
  var minute: Int
  var second: Int
  var nanoseconds: Int32
  var weekday: Int
  var offset: Int
  var zoneName: String

  init(seconds: Int64, nanoseconds: Int32, offset: Int, zoneName: String) {
    // Far outside any calendar: clamp, so that the arithmetic below cannot overflow.
    let local = min(max(seconds, -1 << 55), 1 << 55) + Int64(offset)
    var days = local / 86400
    var rest = local % 86400
    if rest < 0 {
      rest += 86400
      days -= 1
    }
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    day = Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    month = Int(shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9)
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    hour = Int(rest / 3600)
    minute = Int(rest % 3600 / 60)
    second = Int(rest % 60)
    self.nanoseconds = nanoseconds
    weekday = Int(((days + 4) % 7 + 7) % 7)
    self.offset = offset
    self.zoneName = zoneName
  }

  /// Days from the epoch to a date of the Gregorian calendar.
  static func days(year: Int64, month: Int, day: Int) -> Int64 {
    let shiftedYear = month <= 2 ? year - 1 : year
    let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear - 399) / 400
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = Int64((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1)
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
  }

  var yearDay: Int {
    Int(Self.days(year: year, month: month, day: day) - Self.days(year: year, month: 1, day: 1)) + 1
  }

  /// The year that the ISO week of the date belongs to.
  var isoYear: Int64 {
    let thursday = Self.days(year: year, month: month, day: day) + Int64(3 - (weekday + 6) % 7)
    return CivilTime(seconds: thursday * 86400, nanoseconds: 0, offset: 0, zoneName: "UTC").year
  }
}
