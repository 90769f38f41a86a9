import Glibc

/// Text forms of numbers: shortest digits that round-trip, laid out by the rules of language.md §3.9 and §6.
enum NumberText {
  /// The shortest decimal digits of a finite number and its decimal exponent in scientific notation.
  static func digits(_ value: Double) -> (negative: Bool, digits: [UInt8], exponent: Int) {
    if value == 0 { return (value.sign == .minus, [UInt8(ascii: "0")], 0) }
    var digits: [UInt8] = []
    var pointAt: Int?
    var exponent = 0
    var negative = false
    var text = Array(value.description.utf8)[...]
    if text.first == UInt8(ascii: "-") {
      negative = true
      text = text.dropFirst()
    }
    if let e = text.firstIndex(where: { $0 == UInt8(ascii: "e") || $0 == UInt8(ascii: "E") }) {
      exponent = Int(String(decoding: text[(e + 1)...], as: UTF8.self)) ?? 0
      text = text[..<e]
    }
    for byte in text {
      if byte == UInt8(ascii: ".") { pointAt = digits.count } else { digits.append(byte) }
    }
    var point = pointAt ?? digits.count
    while digits.count > 1, digits.first == UInt8(ascii: "0") {
      digits.removeFirst()
      point -= 1
    }
    while digits.count > 1, digits.last == UInt8(ascii: "0") { digits.removeLast() }
    return (negative, digits, point - 1 + exponent)
  }

  private static func append(_ value: Double, plainFrom low: Int, to high: Int, twoDigits: Bool, _ out: inout [UInt8]) {
    let (negative, digits, exponent) = digits(value)
    if negative { out.append(UInt8(ascii: "-")) }
    if exponent < low || exponent > high {
      out.append(digits[0])
      if digits.count > 1 {
        out.append(UInt8(ascii: "."))
        out.append(contentsOf: digits.dropFirst())
      }
      out.append(UInt8(ascii: "e"))
      out.append(UInt8(ascii: exponent < 0 ? "-" : "+"))
      if twoDigits && abs(exponent) < 10 { out.append(UInt8(ascii: "0")) }
      out.append(contentsOf: String(abs(exponent)).utf8)
    } else if exponent < 0 {
      out.append(contentsOf: "0.".utf8)
      out.append(contentsOf: [UInt8](repeating: UInt8(ascii: "0"), count: -exponent - 1))
      out.append(contentsOf: digits)
    } else {
      let whole = exponent + 1
      out.append(contentsOf: digits.prefix(whole))
      if digits.count <= whole {
        out.append(contentsOf: [UInt8](repeating: UInt8(ascii: "0"), count: whole - digits.count))
      } else {
        out.append(UInt8(ascii: "."))
        out.append(contentsOf: digits.dropFirst(whole))
      }
    }
  }

  /// As `%v` writes it: plain for exponents -4 to 5.
  static func appendText(_ value: Double, to out: inout [UInt8]) {
    if value.isNaN { return out.append(contentsOf: "NaN".utf8) }
    if value.isInfinite { return out.append(contentsOf: (value < 0 ? "-Inf" : "+Inf").utf8) }
    append(value, plainFrom: -4, to: 5, twoDigits: true, &out)
  }

  /// As JSON writes it: plain from 1e-6 up to below 1e21; non-finite values as null.
  static func appendJSON(_ value: Double, to out: inout [UInt8]) {
    guard value.isFinite else { return out.append(contentsOf: "null".utf8) }
    append(value, plainFrom: -6, to: 20, twoDigits: false, &out)
  }

  static func appendInteger(_ value: Int64, to out: inout [UInt8]) {
    if value >= 0 && value < 10 {
      out.append(48 + UInt8(value))
      return
    }
    if value < 0 { out.append(UInt8(ascii: "-")) }
    var rest = value.magnitude
    let start = out.count
    while rest > 0 {
      out.append(48 + UInt8(rest % 10))
      rest /= 10
    }
    out[start...].reverse()
  }

  /// An integer with C prefixes (`0x`, leading 0 for octal); nil when there is anything else in the text.
  static func parseInteger(_ text: some Collection<UInt8>) -> Int64? {
    var digits = Array(text)[...]
    var negative = false
    if let sign = digits.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
      negative = sign == UInt8(ascii: "-")
      digits = digits.dropFirst()
    }
    guard !digits.isEmpty else { return nil }
    if digits.contains(UInt8(ascii: "_")) {
      guard let plain = withoutSeparators(digits) else { return nil }
      digits = plain[...]
    }
    var radix: UInt64 = 10
    if digits.count > 1, digits.first == UInt8(ascii: "0") {
      let second = digits[digits.startIndex + 1] | 0x20
      let prefixed: [UInt8: UInt64] = [UInt8(ascii: "x"): 16, UInt8(ascii: "b"): 2, UInt8(ascii: "o"): 8]
      if let base = prefixed[second] {
        radix = base
        digits = digits.dropFirst(2)
      } else {
        radix = 8
        digits = digits.dropFirst()
      }
      guard !digits.isEmpty else { return nil }
    }
    var value: UInt64 = 0
    for byte in digits {
      guard let digit = Hex.digit(byte), UInt64(digit) < radix else { return nil }
      let (product, overflow) = value.multipliedReportingOverflow(by: radix)
      let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
      if overflow || carry { return nil }
      value = sum
    }
    if negative { return value <= UInt64(Int64.max) + 1 ? Int64(truncatingIfNeeded: 0 &- value) : nil }
    return value <= UInt64(Int64.max) ? Int64(value) : nil
  }

  /// Underscores may part the digits of an integer, one at a time.
  private static func withoutSeparators(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    var out: [UInt8] = []
    var last: UInt8 = 0
    for byte in text {
      if byte == UInt8(ascii: "_") {
        guard Hex.digit(last) != nil || last | 0x20 == 0x78 || last | 0x20 == 0x6F else { return nil }
      } else {
        out.append(byte)
      }
      last = byte
    }
    return last == UInt8(ascii: "_") ? nil : out
  }

  /// A float as `parse_float()` reads it: infinities and not-a-number have names.
  static func parseNamedFloat(_ text: [UInt8]) -> Double? {
    if let value = parseFloat(text) { return value }
    let name = String(decoding: text, as: UTF8.self).lowercased()
    switch name {
    case "inf", "+inf", "infinity", "+infinity": return .infinity
    case "-inf", "-infinity": return -.infinity
    case "nan": return .nan
    default: return nil
    }
  }

  /// A decimal float; nil for anything that is not one, infinities included.
  static func parseFloat(_ text: some Collection<UInt8>) -> Double? {
    let allowed: (UInt8) -> Bool = { byte in
      (48...57).contains(byte) || byte == 43 || byte == 45 || byte == 46 || byte | 0x20 == 0x65
    }
    guard !text.isEmpty, text.allSatisfy(allowed), let value = Double(String(decoding: text, as: UTF8.self)),
      value.isFinite
    else { return nil }
    return value
  }
}

enum Hex {
  static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 48...57: byte - 48
    case 65...70: byte - 55
    case 97...102: byte - 87
    default: nil
    }
  }

  static func encode(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    var out: [UInt8] = []
    for byte in bytes {
      out.append(digits[Int(byte >> 4)])
      out.append(digits[Int(byte & 15)])
    }
    return out
  }
}

extension NumberText {
  /// A plain decimal integer.
  static func parseDecimal(_ text: [UInt8]) -> Int64? {
    let digits = text.first == UInt8(ascii: "-") ? text.dropFirst() : text[...]
    guard !digits.isEmpty, digits.allSatisfy({ (48...57).contains($0) }) else { return nil }
    return Int64(String(decoding: text, as: UTF8.self))
  }
}
