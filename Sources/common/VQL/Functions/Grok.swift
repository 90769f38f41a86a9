/// Grok patterns: `%{NAME:field}` in a regular expression.
enum Grok {
  private static let maximumLength = 200_000

  /// Field names may hold characters that group names may not; they travel hex-encoded.
  private static func groupName(_ field: String, _ number: Int) -> String {
    "f\(number)_" + String(decoding: Hex.encode(Array(field.utf8)), as: UTF8.self)
  }

  static func name(of group: String) -> String {
    guard group.hasPrefix("f"), let mark = group.firstIndex(of: "_"),
      Int(group[group.index(after: group.startIndex)..<mark]) != nil
    else { return group }
    let digits = Array(group[group.index(after: mark)...].utf8)
    var bytes: [UInt8] = []
    for place in stride(from: 0, to: digits.count - 1, by: 2) {
      guard let high = Hex.digit(digits[place]), let low = Hex.digit(digits[place + 1]) else { return group }
      bytes.append(high << 4 | low)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  static func expand(_ pattern: String, _ extra: [String: String], allCaptures: Bool) throws -> String {
    var number = 0
    func replace(_ text: String, depth: Int) throws -> String {
      guard depth < 20 else { throw CallError("grok patterns are nested too deeply") }
      var out = ""
      var rest = Substring(text)
      while let open = rest.firstRange(of: "%{"), let close = rest[open.upperBound...].firstIndex(of: "}") {
        out += rest[..<open.lowerBound]
        let parts = rest[open.upperBound..<close].split(separator: ":", omittingEmptySubsequences: false).map(
          String.init)
        rest = rest[rest.index(after: close)...]
        guard let name = parts.first, let found = extra[name] ?? library[name] else {
          throw CallError("no pattern found for %{\(parts.first ?? "")}")
        }
        let inner = try replace(found, depth: depth + 1)
        let field = parts.count > 1 ? parts[1] : allCaptures ? name : ""
        if field.isEmpty {
          out += "(?:\(inner))"
        } else {
          number += 1
          out += "(?P<\(groupName(field, number))>\(inner))"
        }
        guard out.utf8.count < maximumLength else { throw CallError("grok pattern is too large") }
      }
      return out + rest
    }
    return try replace(pattern, depth: 0)
  }
}
