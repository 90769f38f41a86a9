extension Functions {
  static let encodings: [FunctionSpec] = [
    FunctionSpec("base64encode", "string*: string", "Base64, padded.") { call in
      .bytes(Base64.encode(try call.required("string"), padded: true))
    },
    FunctionSpec("base64decode", "string*: string", "Decodes padded base64; NULL for bad input.") { call in
      Base64.decode(try call.required("string")).map { .bytes($0) } ?? .null
    },
    FunctionSpec("base85decode", "string*: string", "Decodes ASCII85.") { call in
      Base64.decode85(try call.required("string")).map { .bytes($0) } ?? .null
    },
    FunctionSpec("unhex", "string: string", "Decodes hexadecimal text.") { call in
      var text = Array((call.string("string") ?? []).filter { $0 != 0x20 })
      if text.starts(with: "0x".utf8) { text.removeFirst(2) }
      var out: [UInt8] = []
      var place = 0
      while place + 1 < text.count, let high = Hex.digit(text[place]), let low = Hex.digit(text[place + 1]) {
        out.append(high << 4 | low)
        place += 2
      }
      return .bytes(out)
    },
    FunctionSpec("xor", "string*: string, key*: string", "Exclusive or with a repeated key.") { call in
      let key = try call.required("key")
      let text = try call.required("string")
      guard !key.isEmpty else { return .bytes(text) }
      return .bytes(text.enumerated().map { $1 ^ key[$0 % key.count] })
    },
    FunctionSpec("rot13", "string: string", "Rotates letters by thirteen.") { call in
      .bytes(
        (call.string("string") ?? []).map { byte in
          switch byte {
          case 65...90: (byte - 65 + 13) % 26 + 65
          case 97...122: (byte - 97 + 13) % 26 + 97
          default: byte
          }
        })
    },
    FunctionSpec("entropy", "string*: string", "Shannon entropy in bits per byte.") { call in
      let text = try call.required("string")
      guard !text.isEmpty else { return .double(0) }
      var counts = [Int](repeating: 0, count: 256)
      for byte in text { counts[Int(byte)] += 1 }
      let total = Double(text.count)
      let bits = counts.reduce(0.0) { sum, count in
        count == 0 ? sum : sum - Double(count) / total * Numeric.log2(Double(count) / total)
      }
      return .double((bits * 100).rounded(.down) / 100)
    },
    FunctionSpec("utf16", "string*: string", "Text of little-endian UTF-16 bytes.") { call in
      let bytes = try call.required("string")
      var units: [UInt16] = []
      for place in stride(from: 0, to: bytes.count - bytes.count % 2, by: 2) {
        units.append(UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8)
      }
      return .string(String(decoding: units, as: UTF16.self))
    },
    FunctionSpec("utf16_encode", "string*: string", "Little-endian UTF-16 bytes of a text.") { call in
      let text = String(decoding: try call.required("string"), as: UTF8.self)
      var out: [UInt8] = []
      for unit in text.utf16 {
        out.append(UInt8(truncatingIfNeeded: unit))
        out.append(UInt8(truncatingIfNeeded: unit >> 8))
      }
      return .bytes(out)
    },
    FunctionSpec("gunzip", "string*: string, max_bytes: int", "Unpacks gzip data.", failsAsNull: false) { call in
      let limit = try call.int("max_bytes") ?? 100_000_000
      return .bytes(
        try Inflate.all(try call.required("string"), format: .gzip, limit: Int(max(0, min(limit, 1 << 30)))))
    },
    FunctionSpec("encode", "string*: any, type*: string", "Encodes a value as text.") { call in
      try encode(call, call.materialized("string") ?? .null, call.text("type") ?? "")
    },
    FunctionSpec("serialize", "item*: any, format: string", "Encodes a value as text.") { call in
      try encode(call, call.materialized("item") ?? .null, call.text("format") ?? "json")
    },
  ]

  private static func encode(_ call: Call, _ value: VQLValue, _ format: String) throws -> VQLValue {
    let value = Output.value(value, call.scope, depth: 0)
    var out: [UInt8] = []
    switch format.isEmpty ? "json" : format {
    case "json": JSONWriter.pretty(value, zone: nil, to: &out)
    case "jsonl":
      for row in Printf.operands(value) {
        row.appendJSON(to: &out)
        out.append(10)
      }
    case "yaml": YAMLWriter.write(value, to: &out)
    case "csv": CSVWriter.write(Printf.operands(value), to: &out)
    case "hex": out = Hex.encode(Call.string(value))
    case "base64": out = Base64.encode(Call.string(value), padded: false)
    case "string": out = Call.string(value)
    default: throw CallError("Unknown format \(format)")
    }
    return .bytes(out)
  }
}

enum Base64 {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  private static let values: [UInt8] = {
    var table = [UInt8](repeating: 255, count: 256)
    for (value, letter) in alphabet.enumerated() { table[Int(letter)] = UInt8(value) }
    return table
  }()

  static func encode(_ bytes: [UInt8], padded: Bool) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count * 4 / 3 + 4)
    var place = 0
    while place < bytes.count {
      let left = bytes.count - place
      let second = left > 1 ? UInt32(bytes[place + 1]) : 0
      let third = left > 2 ? UInt32(bytes[place + 2]) : 0
      let group = UInt32(bytes[place]) << 16 | second << 8 | third
      for index in 0..<4 {
        if index <= left {
          out.append(alphabet[Int(group >> (18 - 6 * UInt32(index)) & 63)])
        } else if padded {
          out.append(UInt8(ascii: "="))
        }
      }
      place += 3
    }
    return out
  }

  static func decode(_ text: [UInt8]) -> [UInt8]? {
    let clean = text.filter { $0 != 10 && $0 != 13 }
    guard clean.count % 4 == 0 else { return nil }
    var out: [UInt8] = []
    var place = 0
    while place < clean.count {
      let group = clean[place..<place + 4]
      let padding = group.reversed().prefix { $0 == UInt8(ascii: "=") }.count
      guard padding <= 2, padding == 0 || place + 4 == clean.count else { return nil }
      var bits: UInt32 = 0
      for letter in group.prefix(4 - padding) {
        guard values[Int(letter)] < 64 else { return nil }
        bits = bits << 6 | UInt32(values[Int(letter)])
      }
      bits <<= UInt32(6 * padding)
      out.append(contentsOf: [UInt8(bits >> 16 & 255), UInt8(bits >> 8 & 255), UInt8(bits & 255)].prefix(3 - padding))
      place += 4
    }
    return out
  }

  static func decode85(_ text: [UInt8]) -> [UInt8]? {
    var out: [UInt8] = []
    var group: [UInt32] = []
    func flush(_ count: Int) {
      let value = group.reduce(UInt64(0)) { ($0 &* 85) &+ UInt64($1) }
      let bytes = [UInt8(value >> 24 & 255), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)]
      out.append(contentsOf: bytes.prefix(count))
      group = []
    }
    for byte in text where !Bytes.isSpace(byte) {
      if byte == UInt8(ascii: "z"), group.isEmpty {
        out.append(contentsOf: [0, 0, 0, 0])
        continue
      }
      guard (33...117).contains(byte) else { return nil }
      group.append(UInt32(byte) - 33)
      if group.count == 5 { flush(4) }
    }
    if group.count == 1 { return nil }
    if !group.isEmpty {
      let count = group.count - 1
      while group.count < 5 { group.append(84) }
      flush(count)
    }
    return out
  }
}

enum CSVWriter {
  static func field(_ value: VQLValue) -> [UInt8] {
    var text: [UInt8] = []
    switch value.resolved {
    case .null: break
    case .array, .dict: value.appendJSON(to: &text)
    default: value.appendText(to: &text, rfcTimes: true)
    }
    let special = text.contains { $0 == 0x2C || $0 == 0x22 || $0 == 10 || $0 == 13 } || text.first == 0x20
    guard special else { return text }
    var out: [UInt8] = [0x22]
    for byte in text {
      if byte == 0x22 { out.append(0x22) }
      out.append(byte)
    }
    return out + [0x22]
  }

  static func row(_ values: [VQLValue], to out: inout [UInt8]) {
    out.append(contentsOf: values.map(field).joined(separator: [0x2C]))
    out.append(10)
  }

  /// A header from the first row, then one line per row.
  static func write(_ rows: [VQLValue], to out: inout [UInt8]) {
    guard case .dict(let first)? = rows.first else { return }
    row(first.keys.map { .string($0) }, to: &out)
    for case .dict(let dict) in rows { row(first.keys.map { dict[$0] ?? .null }, to: &out) }
  }
}
