import Glibc

/// `format()`: printf with the verbs and error texts of the reference (builtins.md §3).
enum Printf {
  static func operands(_ value: VQLValue) -> [VQLValue] {
    if case .array(let elements) = value { return elements.map(\.resolved) }
    return [value]
  }

  fileprivate struct Spec {
    var plus = false
    var minus = false
    var sharp = false
    var space = false
    var zero = false
    var width: Int?
    var precision: Int?
  }

  /// Widths and precisions above this are cut, as they cost memory.
  fileprivate static let maximumWidth = 10_000

  static func format(_ format: [UInt8], _ operands: [VQLValue]) -> [UInt8] {
    var reader = FormatReader(format, operands)
    return reader.run()
  }

  /// Goes through a format, one directive after the other.
  private struct FormatReader {
    private let format: [UInt8]
    private let operands: [VQLValue]
    private var place = 0
    private var next = 0
    private var reordered = false
    private var out: [UInt8] = []

    init(_ format: [UInt8], _ operands: [VQLValue]) {
      self.format = format
      self.operands = operands
    }

    mutating func run() -> [UInt8] {
      while place < format.count {
        let byte = format[place]
        place += 1
        if byte == UInt8(ascii: "%") { directive() } else { out.append(byte) }
      }
      if !reordered && next < operands.count { Printf.extra(operands[next...], &out) }
      return out
    }

    private func sees(_ character: Unicode.Scalar) -> Bool {
      place < format.count && UInt32(format[place]) == character.value
    }

    private mutating func number() -> Int? {
      var value: Int?
      while place < format.count, (48...57).contains(format[place]) {
        value = min((value ?? 0) * 10 + Int(format[place] - 48), Printf.maximumWidth)
        place += 1
      }
      return value
    }

    /// `[n]`: the operand that comes next.
    private mutating func index() {
      guard sees("[") else { return }
      place += 1
      if let wanted = number() {
        next = wanted - 1
        reordered = true
      }
      if sees("]") { place += 1 }
    }

    /// A width or precision; one that `*` takes from an operand that is no integer is reported as `problem`.
    private mutating func starOrNumber(problem: StaticString) -> Int? {
      index()
      guard sees("*") else { return number() }
      place += 1
      defer { next += 1 }
      guard operands.indices.contains(next), let value = operands[next].integer else {
        out.append(contentsOf: "%!(\(problem))".utf8)
        return nil
      }
      return Int(max(-Int64(Printf.maximumWidth), min(value, Int64(Printf.maximumWidth))))
    }

    private mutating func flags() -> Spec {
      var spec = Spec()
      while place < format.count {
        switch format[place] {
        case UInt8(ascii: "+"): spec.plus = true
        case UInt8(ascii: "-"): spec.minus = true
        case UInt8(ascii: "#"): spec.sharp = true
        case UInt8(ascii: " "): spec.space = true
        case UInt8(ascii: "0"): spec.zero = true
        default: return spec
        }
        place += 1
      }
      return spec
    }

    private mutating func directive() {
      var spec = flags()
      spec.width = starOrNumber(problem: "BADWIDTH")
      if let width = spec.width, width < 0 {
        spec.minus = true
        spec.width = -width
      }
      if sees(".") {
        place += 1
        spec.precision = max(0, starOrNumber(problem: "BADPREC") ?? 0)
      }
      index()
      guard place < format.count else { return out.append(contentsOf: "%!(NOVERB)".utf8) }
      let verb = UTF8Text.decode(format, at: place)
      let letter = Character(Unicode.Scalar(verb.scalar ?? 0xFFFD) ?? "?")
      place += verb.length
      if letter == "%" { return out.append(UInt8(ascii: "%")) }
      if operands.indices.contains(next) {
        Printf.write(operands[next], letter, spec, &out)
      } else {
        out.append(contentsOf: "%!\(letter)(\(reordered ? "BADINDEX" : "MISSING"))".utf8)
      }
      next += 1
    }
  }

  fileprivate static func extra(_ operands: ArraySlice<VQLValue>, _ out: inout [UInt8]) {
    out.append(contentsOf: "%!(EXTRA ".utf8)
    for (count, operand) in operands.enumerated() {
      if count > 0 { out.append(contentsOf: ", ".utf8) }
      out.append(contentsOf: "\(operand.typeName)=".utf8)
      operand.appendText(to: &out, rfcTimes: true)
    }
    out.append(UInt8(ascii: ")"))
  }

  private static func pad(_ text: [UInt8], _ spec: Spec, numeric: Bool, _ out: inout [UInt8]) {
    let length = text.count { $0 & 0xC0 != 0x80 }
    let missing = max(0, (spec.width ?? 0) - length)
    if spec.minus {
      out.append(contentsOf: text)
      out.append(contentsOf: [UInt8](repeating: 0x20, count: missing))
    } else if spec.zero {
      let signed = numeric && (text.first == UInt8(ascii: "-") || text.first == UInt8(ascii: "+"))
      if signed { out.append(text[0]) }
      out.append(contentsOf: [UInt8](repeating: 0x30, count: missing))
      out.append(contentsOf: text.dropFirst(signed ? 1 : 0))
    } else {
      out.append(contentsOf: [UInt8](repeating: 0x20, count: missing))
      out.append(contentsOf: text)
    }
  }

  fileprivate static func write(_ value: VQLValue, _ verb: Character, _ spec: Spec, _ out: inout [UInt8]) {
    switch verb {
    case "T": return pad(Array(value.typeName.utf8), spec, numeric: false, &out)
    case "v": return general(value, spec, &out)
    default: break
    }
    if let integer = value.integer, let text = integerText(integer, verb, spec) {
      return pad(text, spec, numeric: true, &out)
    }
    switch value {
    case .array(let elements): return list(elements, verb, spec, &out)
    case .double(let number) where "eEfFgG".contains(verb):
      return pad(floatText(number, verb, spec), spec, numeric: true, &out)
    case .bool(let bool) where verb == "t":
      return pad(Array((bool ? "true" : "false").utf8), spec, numeric: false, &out)
    case .int, .integer, .double, .bool: break
    default:
      if let text = stringText(value, verb, spec) { return pad(text, spec, numeric: false, &out) }
    }
    out.append(contentsOf: "%!\(verb)(\(value.typeName)=".utf8)
    value.appendText(to: &out, rfcTimes: true)
    out.append(UInt8(ascii: ")"))
  }

  /// `%v`: with `#`, strings as they are written in a program; `+` changes nothing here.
  private static func general(_ value: VQLValue, _ given: Spec, _ out: inout [UInt8]) {
    var spec = given
    spec.plus = false
    if case .array(let elements) = value, spec.width != nil { return list(elements, "v", spec, &out) }
    var text: [UInt8] = []
    value.appendText(to: &text, rfcTimes: true)
    if case .double(let number) = value, spec.precision != nil { text = floatText(number, "g", spec) }
    if case .bytes(let bytes) = value {
      if let precision = spec.precision { text = prefix(bytes, precision) }
      if spec.sharp { text = quoted(text, onlyASCII: false) }
    }
    pad(text, spec, numeric: value.number != nil, &out)
  }

  /// The verb applied to each element.
  private static func list(_ elements: [VQLValue], _ verb: Character, _ spec: Spec, _ out: inout [UInt8]) {
    out.append(UInt8(ascii: "["))
    for (place, element) in elements.prefix(100_000).enumerated() {
      if place > 0 { out.append(0x20) }
      write(element.resolved, verb, spec, &out)
    }
    out.append(UInt8(ascii: "]"))
  }

  private static func prefix(_ text: [UInt8], _ count: Int) -> [UInt8] {
    Array(String(String(decoding: text, as: UTF8.self).unicodeScalars.prefix(count)).utf8)
  }

  private static func integerText(_ value: Int64, _ verb: Character, _ spec: Spec) -> [UInt8]? {
    let digits: String
    switch verb {
    case "d": digits = String(value.magnitude)
    case "x": digits = (spec.sharp ? "0x" : "") + String(value.magnitude, radix: 16)
    case "X": digits = (spec.sharp ? "0X" : "") + String(value.magnitude, radix: 16).uppercased()
    case "o": digits = (spec.sharp ? "0" : "") + String(value.magnitude, radix: 8)
    case "O": digits = "0o" + String(value.magnitude, radix: 8)
    case "b": digits = (spec.sharp ? "0b" : "") + String(value.magnitude, radix: 2)
    case "c", "q":
      var bytes: [UInt8] = []
      UTF8Text.append(UInt32(clamping: value), to: &bytes)
      return verb == "q" ? [0x27] + bytes + [0x27] : bytes
    case "U":
      let hex = String(value.magnitude, radix: 16).uppercased()
      return Array(("U+" + String(repeating: "0", count: max(0, 4 - hex.count)) + hex).utf8)
    default: return nil
    }
    let sign = value < 0 ? "-" : spec.plus ? "+" : spec.space ? " " : ""
    var padded = digits
    if let precision = spec.precision, padded.utf8.count < precision {
      padded = String(repeating: "0", count: precision - padded.utf8.count) + padded
    }
    return Array((sign + padded).utf8)
  }

  private static func floatText(_ value: Double, _ verb: Character, _ spec: Spec) -> [UInt8] {
    guard value.isFinite else {
      var text: [UInt8] = []
      NumberText.appendText(value, to: &text)
      return text
    }
    if "gG".contains(verb) && spec.precision == nil {
      var text: [UInt8] = []
      NumberText.appendText(value, to: &text)
      return verb == "G" ? text.map { $0 == UInt8(ascii: "e") ? UInt8(ascii: "E") : $0 } : text
    }
    let flags = (spec.plus ? "+" : "") + (spec.space ? " " : "") + (spec.sharp ? "#" : "")
    let pattern = "%\(flags).\(spec.precision ?? 6)\(verb)"
    var buffer = [CChar](repeating: 0, count: 400 + (spec.precision ?? 6))
    let count = buffer.count
    let written = withVaList([value]) { vsnprintf(&buffer, count, pattern, $0) }
    return buffer.prefix(max(0, min(Int(written), count - 1))).map { UInt8(bitPattern: $0) }
  }

  private static func stringText(_ value: VQLValue, _ verb: Character, _ spec: Spec) -> [UInt8]? {
    guard "sqxX".contains(verb) else { return nil }
    var text: [UInt8] = []
    value.appendText(to: &text, rfcTimes: true)
    if let precision = spec.precision, verb == "s" || verb == "q" {
      text = prefix(text, precision)
    }
    switch verb {
    case "x", "X": return hexadecimal(text, upper: verb == "X", spec)
    case "q":
      let isRaw = spec.sharp && !text.contains { $0 == UInt8(ascii: "`") || ($0 < 32 && $0 != 9) || $0 == 127 }
      return isRaw ? [UInt8(ascii: "`")] + text + [UInt8(ascii: "`")] : quoted(text, onlyASCII: spec.plus)
    default: return text
    }
  }

  /// The bytes in hexadecimal; a space flag parts them, `#` puts 0x in front.
  private static func hexadecimal(_ text: [UInt8], upper: Bool, _ spec: Spec) -> [UInt8] {
    let prefix = spec.sharp ? (upper ? "0X" : "0x") : ""
    var pieces = [Hex.encode(text.prefix(spec.precision ?? text.count))]
    if spec.space { pieces = text.prefix(spec.precision ?? text.count).map { Hex.encode([$0]) } }
    let parts = pieces.map { piece in
      let digits = String(decoding: piece, as: UTF8.self)
      return prefix + (upper ? digits.uppercased() : digits)
    }
    return text.isEmpty ? [] : Array(parts.joined(separator: " ").utf8)
  }

  private static func quoted(_ text: [UInt8], onlyASCII: Bool) -> [UInt8] {
    var out: [UInt8] = [0x22]
    var place = 0
    while place < text.count {
      let (scalar, length) = UTF8Text.decode(text, at: place)
      switch scalar {
      case nil: out.append(contentsOf: Array("\\x".utf8) + Hex.encode([text[place]]))
      case 0x22, 0x5C: out.append(contentsOf: [0x5C, text[place]])
      case 10: out.append(contentsOf: "\\n".utf8)
      case 13: out.append(contentsOf: "\\r".utf8)
      case 9: out.append(contentsOf: "\\t".utf8)
      case 7, 8, 11, 12:
        let letters: [UInt32: String] = [7: "\\a", 8: "\\b", 11: "\\v", 12: "\\f"]
        out.append(contentsOf: (letters[scalar ?? 0] ?? "").utf8)
      case .some(let value) where value < 32 || value == 127:
        out.append(contentsOf: Array("\\x".utf8) + Hex.encode([text[place]]))
      case .some(let value) where onlyASCII && value > 127:
        let digits = String(value, radix: 16)
        let width = value > 0xFFFF ? 8 : 4
        let zeros = String(repeating: "0", count: max(0, width - digits.count))
        out.append(contentsOf: ((width == 8 ? "\\U" : "\\u") + zeros + digits).utf8)
      default: out.append(contentsOf: text[place..<place + length])
      }
      place += length
    }
    return out + [0x22]
  }
}
