/// YAML output of `serialize()`: two spaces per level, lists not indented, keys in order.
enum YAMLWriter {
  static func write(_ value: VQLValue, to out: inout [UInt8]) {
    if isBlock(value) {
      block(value, indent: 0, to: &out)
    } else {
      scalar(value, indent: 0, to: &out)
      out.append(10)
    }
  }

  private static func isBlock(_ value: VQLValue) -> Bool {
    switch value {
    case .dict(let dict): dict.count > 0
    case .array(let elements): !elements.isEmpty
    default: false
    }
  }

  private static func block(_ value: VQLValue, indent: Int, to out: inout [UInt8]) {
    let pad = [UInt8](repeating: 0x20, count: indent)
    if case .dict(let dict) = value {
      for name in dict.keys {
        let member = dict[name] ?? .null
        out.append(contentsOf: pad)
        scalar(.string(name), indent: indent, to: &out)
        out.append(UInt8(ascii: ":"))
        guard isBlock(member) else {
          out.append(0x20)
          scalar(member, indent: indent, to: &out)
          out.append(10)
          continue
        }
        out.append(10)
        if case .array = member {
          block(member, indent: indent, to: &out)
        } else {
          block(member, indent: indent + 2, to: &out)
        }
      }
    } else if case .array(let elements) = value {
      for element in elements {
        out.append(contentsOf: pad + Array("- ".utf8))
        if isBlock(element) {
          var inner: [UInt8] = []
          block(element, indent: indent + 2, to: &inner)
          out.append(contentsOf: inner.dropFirst(indent + 2))
        } else {
          scalar(element, indent: indent, to: &out)
          out.append(10)
        }
      }
    }
  }

  private static let reserved: Set<String> = [
    "true", "false", "null", "yes", "no", "on", "off", "~", "y", "n", ".inf", "-.inf", ".nan",
  ]

  private static func scalar(_ value: VQLValue, indent: Int, to out: inout [UInt8]) {
    switch value {
    case .null: out.append(contentsOf: "null".utf8)
    case .array: out.append(contentsOf: "[]".utf8)
    case .dict: out.append(contentsOf: "{}".utf8)
    case .bytes(let text): string(text, indent: indent, to: &out)
    default: value.appendText(to: &out, rfcTimes: true)
    }
  }

  /// Plain where that reads back as the same text; else the lightest quoting that does.
  private static func string(_ text: [UInt8], indent: Int, to out: inout [UInt8]) {
    let plain = String(decoding: text, as: UTF8.self)
    let isPrintable = !text.contains { ($0 < 32 && $0 != 10 && $0 != 9) || $0 == 127 }
    if text.contains(10), isPrintable, !Bytes.isSpace(text[0]) { return literal(text, indent: indent, to: &out) }
    let looksTyped =
      text.isEmpty || reserved.contains(plain.lowercased()) || NumberText.parseFloat(text) != nil
      || NumberText.parseInteger(text) != nil
    if looksTyped || !isPrintable || text.contains(10) { return JSONWriter.string(text, to: &out) }
    let first = text.first ?? 0x20
    let next = text.count > 1 ? text[1] : 0x20
    let startsOddly =
      ",[]{}#&*!|>'\"%@`".utf8.contains(first) || ("-?:".utf8.contains(first) && Bytes.isSpace(next))
    let needsQuotes =
      startsOddly || Bytes.isSpace(first) || Bytes.isSpace(text.last ?? 0x20) || plain.contains(": ")
      || plain.contains(" #") || plain.hasSuffix(":")
    guard needsQuotes else { return out.append(contentsOf: text) }
    out.append(contentsOf: ("'" + plain.replacing("'", with: "''") + "'").utf8)
  }

  private static func literal(_ text: [UInt8], indent: Int, to out: inout [UInt8]) {
    var lines = Bytes.lines(text)
    out.append(UInt8(ascii: "|"))
    if lines.last?.isEmpty == true {
      lines.removeLast()
      if lines.last?.isEmpty == true { out.append(UInt8(ascii: "+")) }
    } else {
      out.append(UInt8(ascii: "-"))
    }
    for line in lines {
      out.append(10)
      if !line.isEmpty { out.append(contentsOf: [UInt8](repeating: 0x20, count: indent + 2) + line) }
    }
  }
}
