/// Date layouts written by example: `2006-01-02 15:04:05` (builtins.md §5).
enum GoLayout {
  static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
  ]
  static let days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

  static let named: [String: String] = [
    "ANSIC": "Mon Jan _2 15:04:05 2006", "UnixDate": "Mon Jan _2 15:04:05 MST 2006",
    "RubyDate": "Mon Jan 02 15:04:05 -0700 2006", "RFC822": "02 Jan 06 15:04 MST",
    "RFC822Z": "02 Jan 06 15:04 -0700", "RFC850": "Monday, 02-Jan-06 15:04:05 MST",
    "RFC1123": "Mon, 02 Jan 2006 15:04:05 MST", "RFC1123Z": "Mon, 02 Jan 2006 15:04:05 -0700",
    "RFC3339": "2006-01-02T15:04:05Z07:00", "RFC3339Nano": "2006-01-02T15:04:05.999999999Z07:00",
    "Kitchen": "3:04PM", "Stamp": "Jan _2 15:04:05", "StampMilli": "Jan _2 15:04:05.000",
    "StampMicro": "Jan _2 15:04:05.000000", "StampNano": "Jan _2 15:04:05.000000000",
    "DateTime": "2006-01-02 15:04:05", "DateOnly": "2006-01-02", "TimeOnly": "15:04:05",
  ]

  enum Token: Equatable {
    case text(String)
    case field(String)
    case fraction(digits: Int, trim: Bool)
  }

  private static let fields = [
    "2006", "January", "Monday", "Z07:00", "Z0700", "-07:00", "-0700", "-07", "Jan", "Mon", "MST", "01", "02", "03",
    "04", "05", "06", "15", "_2", "002", "PM", "pm", "1", "2", "3", "4", "5",
  ]

  static func tokens(_ layout: String) -> [Token] {
    var result: [Token] = []
    var text = ""
    var rest = Substring(layout)
    outer: while let first = rest.first {
      if first == "." || first == "," {
        let digits = rest.dropFirst().prefix { $0 == rest.dropFirst().first && ($0 == "0" || $0 == "9") }
        let after = rest.dropFirst(1 + digits.count).first
        if !digits.isEmpty, !(after?.isNumber ?? false) {
          if !text.isEmpty { result.append(.text(text)) }
          text = ""
          result.append(.fraction(digits: digits.count, trim: digits.first == "9"))
          rest = rest.dropFirst(1 + digits.count)
          continue
        }
      }
      for field in fields where rest.hasPrefix(field) {
        if !text.isEmpty { result.append(.text(text)) }
        text = ""
        result.append(.field(field))
        rest = rest.dropFirst(field.count)
        continue outer
      }
      text.append(first)
      rest = rest.dropFirst()
    }
    if !text.isEmpty { result.append(.text(text)) }
    return result
  }

  private static func pad(_ value: Int, _ width: Int = 2, with fill: String = "0") -> String {
    let text = String(value)
    return String(repeating: fill, count: max(0, width - text.count)) + text
  }

  static func format(_ time: CivilTime, _ layout: String) -> String {
    var out = ""
    for token in tokens(layout) {
      switch token {
      case .text(let text): out += text
      case .fraction(let digits, let trim):
        var text = String(pad(Int(time.nanoseconds), 9).prefix(digits))
        if trim { while text.hasSuffix("0") { text.removeLast() } }
        if !text.isEmpty { out += "." + text }
      case .field(let field): out += format(time, field: field)
      }
    }
    return out
  }

  private static func format(_ time: CivilTime, field: String) -> String {
    let twelve = time.hour % 12 == 0 ? 12 : time.hour % 12
    switch field {
    case "2006":
      let year = time.year < 0 ? "-" + pad(Int(-time.year), 4) : pad(Int(time.year), 4)
      return year
    case "06": return pad(Int(abs(time.year % 100)))
    case "January": return months[time.month - 1]
    case "Jan": return String(months[time.month - 1].prefix(3))
    case "01": return pad(time.month)
    case "1": return String(time.month)
    case "02": return pad(time.day)
    case "2": return String(time.day)
    case "_2": return pad(time.day, with: " ")
    case "002": return pad(time.yearDay, 3)
    case "Monday": return days[time.weekday]
    case "Mon": return String(days[time.weekday].prefix(3))
    case "15": return pad(time.hour)
    case "03": return pad(twelve)
    case "3": return String(twelve)
    case "04": return pad(time.minute)
    case "4": return String(time.minute)
    case "05": return pad(time.second)
    case "5": return String(time.second)
    case "PM": return time.hour < 12 ? "AM" : "PM"
    case "pm": return time.hour < 12 ? "am" : "pm"
    case "MST": return time.zoneName
    default: return offset(time, field)
    }
  }

  private static func offset(_ time: CivilTime, _ field: String) -> String {
    if field.hasPrefix("Z") && time.offset == 0 { return "Z" }
    let minutes = abs(time.offset) / 60
    let sign = time.offset < 0 ? "-" : "+"
    if field == "-07" { return sign + pad(minutes / 60) }
    return sign + pad(minutes / 60) + (field.contains(":") ? ":" : "") + pad(minutes % 60)
  }
}
