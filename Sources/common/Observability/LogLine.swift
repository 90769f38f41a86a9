import Glibc
import Logging

/// A wall-clock time in UTC with milliseconds.
package struct LogTime: Sendable {
  /// Seconds since 1970-01-01.
  package let seconds: Int
  /// 0 to 999.
  package let milliseconds: Int

  package init(seconds: Int, milliseconds: Int) {
    self.seconds = seconds
    self.milliseconds = milliseconds
  }

  package static func now() -> LogTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return LogTime(seconds: time.tv_sec, milliseconds: time.tv_nsec / 1_000_000)
  }

  /// RFC 3339, for example `2026-11-23T14:58:45.123Z`.
  package var text: String {
    var clock = time_t(seconds)
    var parts = tm()
    gmtime_r(&clock, &parts)
    let date = "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
    let hour = "\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
    return "\(date)T\(hour).\(padded(Int32(milliseconds), 3))Z"
  }

  private func padded(_ value: Int32, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}

/// One event, ready to be rendered.
struct LogLine {
  let time: LogTime
  let level: Logger.Level
  let label: String
  let message: String
  let pairs: [(String, Logger.MetadataValue)]

  /// `time LEVEL label: message key=value …` with a line feed at the end.
  var text: String {
    var line = "\(time.text) \(level.rawValue.uppercased()) \(LogEscape.bare(label)): \(LogEscape.bare(message))"
    for (key, value) in pairs {
      line += " \(LogEscape.bare(key))=\(LogEscape.value(value.description))"
    }
    return line + "\n"
  }

  /// One JSON object with `time`, `level`, `label`, `message` and the pairs, with a line feed at the end.
  ///
  /// A pair whose key is one of these four names gets a `_` before it.
  var json: String {
    var fields = [
      ("time", time.text), ("level", level.rawValue), ("label", label), ("message", message),
    ].map { "\"\($0.0)\":\(LogEscape.jsonString($0.1))" }
    for (key, value) in pairs {
      let name = ["time", "level", "label", "message"].contains(key) ? "_\(key)" : key
      fields.append("\(LogEscape.jsonString(name)):\(LogEscape.json(value))")
    }
    return "{\(fields.joined(separator: ","))}\n"
  }
}

/// Escaping for log lines.
enum LogEscape {
  /// Keeps a message readable, but never lets it end the line or drive a terminal.
  static func bare(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return text.unicodeScalars.reduce(into: "") { out, scalar in
      out += isControl(scalar) ? escape(scalar) : String(scalar)
    }
  }

  /// A value, in quotes when it is empty or has spaces, quotes, `=` or control characters.
  static func value(_ text: String) -> String {
    let plain = !text.isEmpty && !text.unicodeScalars.contains { isControl($0) || $0 == " " || $0 == "\"" || $0 == "=" }
    return plain ? text : jsonString(text)
  }

  static func json(_ value: Logger.MetadataValue) -> String {
    switch value {
    case .string(let text): return jsonString(text)
    case .stringConvertible(let number as any BinaryInteger): return String(describing: number)
    case .stringConvertible(let flag as Bool): return flag ? "true" : "false"
    case .stringConvertible(let other): return jsonString(other.description)
    case .array(let values): return "[\(values.map(json).joined(separator: ","))]"
    case .dictionary(let pairs):
      let fields = pairs.sorted { $0.key < $1.key }.map { "\(jsonString($0.key)):\(json($0.value))" }
      return "{\(fields.joined(separator: ","))}"
    @unknown default: return jsonString(value.description)
    }
  }

  /// A JSON string with its quotes.
  static func jsonString(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      default: out += isControl(scalar) ? escape(scalar) : String(scalar)
      }
    }
    return out + "\""
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || scalar.value == 0x2028 || scalar.value == 0x2029
  }

  private static func escape(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\n": return "\\n"
    case "\r": return "\\r"
    case "\t": return "\\t"
    default:
      let digits = String(scalar.value, radix: 16)
      return "\\u" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
  }
}
