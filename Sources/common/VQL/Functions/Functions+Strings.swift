extension Functions {
  static let strings: [FunctionSpec] = [
    FunctionSpec("format", "format*: string, args: any", "Formats values as printf does.", failsAsNull: false) { call in
      let format = try call.required("format")
      return .bytes(Printf.format(format, call.materialized("args").map(Printf.operands) ?? []))
    },
    FunctionSpec("upcase", "string*: string", "Upper case.") { call in
      .bytes(mapCase(try call.required("string"), upper: true))
    },
    FunctionSpec("lowcase", "string*: string", "Lower case.") { call in
      .bytes(mapCase(try call.required("string"), upper: false))
    },
    FunctionSpec("split", "string*: string, sep: string, sep_string: string", "Splits text into an array.") { call in
      let text = try call.required("string")
      if let pattern = call.string("sep"), !pattern.isEmpty {
        return .array(try Regex.cached(pattern, call).split(text).map { .bytes($0) })
      }
      guard let separator = call.string("sep_string"), !separator.isEmpty else {
        throw CallError("requires either sep or sep_string")
      }
      var parts: [VQLValue] = []
      var place = 0
      while let found = Bytes.find(separator, in: text, from: place) {
        parts.append(.bytes(Array(text[place..<found])))
        place = found + separator.count
      }
      return .array(parts + [.bytes(Array(text[place...]))])
    },
    FunctionSpec(
      "strip", "string*: string, prefix: string, suffix: string", "Removes a prefix, a suffix or outer white space.",
      failsAsNull: false
    ) { call in
      var text = try call.required("string")
      let prefix = call.string("prefix") ?? []
      let suffix = call.string("suffix") ?? []
      if prefix.isEmpty && suffix.isEmpty { return .bytes(Bytes.trim(text)) }
      if !prefix.isEmpty, text.starts(with: prefix) { text.removeFirst(prefix.count) }
      if !suffix.isEmpty, text.count >= suffix.count, text.suffix(suffix.count).elementsEqual(suffix) {
        text.removeLast(suffix.count)
      }
      return .bytes(text)
    },
    FunctionSpec("substr", "str*: string, start: int, end: int", "Part of a text, by characters.") { call in
      let scalars = Array(String(decoding: try call.required("str"), as: UTF8.self).unicodeScalars)
      let start = try call.int("start") ?? 0
      var end = try call.int("end") ?? 0
      guard start >= 0, end >= 0 else { throw CallError("Start and End values must be greater than 0") }
      if end == 0 { end = Int64(scalars.count) }
      guard start <= end else { throw CallError("Start must be less than End") }
      let from = Int(min(start, Int64(scalars.count)))
      let to = Int(min(end, Int64(scalars.count)))
      var part = String.UnicodeScalarView()
      part.append(contentsOf: scalars[from..<max(from, to)])
      return .string(String(part))
    },
    FunctionSpec("template", "template*: string, expansion*: dict, html: bool", "Fills a text template.") { call in
      let values = try call.dict("expansion") ?? VQLDict()
      return .bytes(
        try TemplateRunner.fill(try call.required("template"), values, isHTML: call.bool("html"), call.scope))
    },
    FunctionSpec("humanize", "bytes: int, ibytes: int, time: time, comma: int", "Numbers for people.") { call in
      try humanize(call)
    },
    FunctionSpec("commandline_split", "command*: string, bash_style: bool", "Splits a command line.") { call in
      let text = try call.required("command")
      let words = call.bool("bash_style") ? CommandLine.shell(text) : CommandLine.windows(text)
      return .array(words.map { .bytes($0) })
    },
  ]

  private static func mapCase(_ text: [UInt8], upper: Bool) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    var place = 0
    while place < text.count {
      let byte = text[place]
      if byte < 128 {
        let isLower = (97...122).contains(byte)
        let isUpper = (65...90).contains(byte)
        out.append(upper && isLower ? byte - 32 : !upper && isUpper ? byte + 32 : byte)
        place += 1
        continue
      }
      let (scalar, length) = UTF8Text.decode(text, at: place)
      if let scalar, let value = Unicode.Scalar(scalar) {
        out.append(contentsOf: simpleMapping(value, upper: upper).utf8)
      } else {
        out.append(contentsOf: [0xEF, 0xBF, 0xBD])
      }
      place += length
    }
    return out
  }

  /// The mapping to one character; where the full mapping gives several, the title case may have one.
  private static func simpleMapping(_ scalar: Unicode.Scalar, upper: Bool) -> String {
    let full = upper ? scalar.properties.uppercaseMapping : scalar.properties.lowercaseMapping
    if full.unicodeScalars.count == 1 { return full }
    if !upper { return scalar.value == 0x130 ? "i" : String(scalar) }
    let title = scalar.properties.titlecaseMapping
    return title.unicodeScalars.count == 1 ? title : String(scalar)
  }

  private static func humanize(_ call: Call) throws -> VQLValue {
    if let value = call.value("time"), let time = TimeParser.convert(value, call.scope), !time.isZero {
      return .string(Humanize.age(time))
    }
    if let comma = try call.int("comma"), comma != 0 { return .string(Humanize.commas(comma)) }
    if let bytes = try call.int("bytes"), bytes != 0 {
      return .string(Humanize.size(bytes, base: 1000, units: ["B", "kB", "MB", "GB", "TB", "PB", "EB"]))
    }
    if let bytes = try call.int("ibytes"), bytes != 0 {
      return .string(Humanize.size(bytes, base: 1024, units: ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]))
    }
    return .null
  }
}

enum Humanize {
  static func commas(_ value: Int64) -> String {
    let digits = Array(String(value.magnitude))
    var out = ""
    for (place, digit) in digits.enumerated() {
      if place > 0 && (digits.count - place) % 3 == 0 { out += "," }
      out.append(digit)
    }
    return (value < 0 ? "-" : "") + out
  }

  static func size(_ bytes: Int64, base: Double, units: [String]) -> String {
    let value = Double(UInt64(bitPattern: bytes))
    if value < 10 { return "\(Int(value)) B" }
    var unit = 0
    var scaled = value
    while scaled >= base && unit < units.count - 1 {
      scaled /= base
      unit += 1
    }
    scaled = (scaled * 10 + 0.5).rounded(.down) / 10
    let text =
      scaled < 10 && unit > 0
      ? Printf.format(Array("%.1f".utf8), [.double(scaled)])
      : Printf.format(Array("%.0f".utf8), [.double(scaled)])
    return String(decoding: text, as: UTF8.self) + " " + units[unit]
  }

  static func age(_ time: VQLTime) -> String {
    let difference = Clock.seconds - min(max(time.seconds, -1 << 50), 1 << 50)
    let seconds = abs(difference)
    let suffix = difference >= 0 ? "ago" : "from now"
    let steps: [(Int64, Int64, String)] = [
      (60, 1, "second"), (3600, 60, "minute"), (86_400, 3600, "hour"), (604_800, 86_400, "day"),
      (2_592_000, 604_800, "week"), (31_104_000, 2_592_000, "month"), (.max, 31_104_000, "year"),
    ]
    if seconds < 1 { return "now" }
    for (limit, unit, name) in steps where seconds < limit {
      let count = seconds / unit
      return "\(count) \(name)\(count == 1 ? "" : "s") \(suffix)"
    }
    return "a long while \(suffix)"
  }
}

enum CommandLine {
  /// POSIX shell words.
  static func shell(_ text: [UInt8]) -> [[UInt8]] {
    var words: [[UInt8]] = []
    var word: [UInt8]?
    var quote: UInt8?
    var place = 0
    while place < text.count {
      let byte = text[place]
      place += 1
      if let open = quote {
        if byte == open {
          quote = nil
        } else if byte == 0x5C, open == 0x22, place < text.count, [0x22, 0x5C, 0x24, 0x60].contains(text[place]) {
          word?.append(text[place])
          place += 1
        } else {
          word?.append(byte)
        }
      } else if byte == 0x22 || byte == 0x27 {
        quote = byte
        word = word ?? []
      } else if byte == 0x5C, place < text.count {
        word = (word ?? []) + [text[place]]
        place += 1
      } else if Bytes.isSpace(byte) {
        if let done = word { words.append(done) }
        word = nil
      } else {
        word = (word ?? []) + [byte]
      }
    }
    if let done = word { words.append(done) }
    return words
  }

  /// Words as Windows programs see them: backslashes are special only before a double quote.
  static func windows(_ text: [UInt8]) -> [[UInt8]] {
    var words: [[UInt8]] = []
    var word: [UInt8]?
    var quoted = false
    var slashes = 0
    func flush() {
      if slashes > 0 { word = (word ?? []) + [UInt8](repeating: 0x5C, count: slashes) }
      slashes = 0
    }
    for byte in text {
      if byte == 0x5C {
        slashes += 1
      } else if byte == 0x22 {
        let odd = slashes % 2 == 1
        slashes /= 2
        flush()
        word = word ?? []
        if odd { word?.append(byte) } else { quoted.toggle() }
      } else if (byte == 0x20 || byte == 9) && !quoted {
        flush()
        if let done = word { words.append(done) }
        word = nil
      } else {
        flush()
        word = (word ?? []) + [byte]
      }
    }
    flush()
    if let done = word { words.append(done) }
    return words
  }
}
