extension Plugins {
  private static let recordBuffer = 64 << 10

  static let parsers: [PluginSpec] = [
    PluginSpec("parse_lines", "filename*: path[], accessor: string, buffer_size: int", "Lines of text files.") {
      call, emit in
      let limit = Int(max(1, min(try call.int("buffer_size") ?? Int64(recordBuffer), 64 << 20)))
      let shape = Shape(["Line"])
      try eachFile(call, "filename") { source, _ in
        let reader = try LineReader.text(source, limit: limit)
        while let line = try reader.next() {
          guard emit(.dict(VQLDict(shape: shape, values: [.bytes(line)]))) else { return false }
        }
        return true
      }
    },
    PluginSpec("parse_jsonl", "filename*: path, accessor: string", "JSON lines.") { call, emit in
      let accessor = try Accessors.find(call.accessor)
      let reader = LineReader(try accessor.open(try call.path("filename"), call.scope), limit: 64 << 20)
      let memory = JSONReader.NameMemory()
      var bad: [UInt8] = []
      while let parsed = try reader.next({ line -> VQLValue? in
        if let value = JSONReader.value(line, memory: memory) { return value }
        bad = Array(line.prefix(100))
        return nil
      }) {
        guard let value = parsed else {
          if !bad.allSatisfy(Bytes.isSpace), call.shouldLog(Array("bad line".utf8), seconds: 60) {
            call.log("Invalid JSON line: \(String(decoding: bad, as: UTF8.self))")
          }
          continue
        }
        guard emit(RowIteration.row(value)) else { return }
      }
    },
    PluginSpec(
      "parse_csv",
      "filename*: path[], accessor: string, auto_headers: bool, separator: string, comment: string, "
        + "columns: string[]", "Rows of CSV files."
    ) { call, emit in
      let separator = call.string("separator")?.first ?? UInt8(ascii: ",")
      let comment = call.string("comment")?.first
      let columns = call.strings("columns").map { String(decoding: $0, as: UTF8.self) }
      let numbered = call.bool("auto_headers")
      try eachFile(call, "filename") { source, _ in
        var table = CSVReader(source, separator: separator, comment: comment)
        return try csv(&table, columns, numbered, emit)
      }
    },
    PluginSpec(
      "split_records",
      "filenames*: path[], accessor: string, regex: string, columns: string[], first_row_is_headers: bool, count: int, "
        + "record_regex: string, buffer_size: int", "Records and fields by pattern."
    ) { call, emit in
      try splitRecords(call, emit)
    },
    PluginSpec(
      "parse_records_with_regex", "file*: path[], regex*: string[], accessor: string, buffer_size: int",
      "Records that match patterns."
    ) { call, emit in
      let regexes = try call.strings("regex").map { try Regex.cached($0, call, ignoreCase: true) }
      var names = ["FullPath"]
      for (name, _) in regexes.flatMap(\.namedGroups) where !names.contains(name) { names.append(name) }
      let shape = Shape(names)
      let size = Int(max(1, min(try call.int("buffer_size") ?? Int64(recordBuffer), 64 << 20)))
      try eachFile(call, "file") { source, path in
        var window = RecordWindow(source, size: size)
        while try window.fill(), !call.context.isStopped {
          guard let (regex, match) = firstMatch(regexes, window.content), match[1] > 0 else {
            if window.isAtEnd { break }
            window.drop(window.content.count)
            continue
          }
          var values = [VQLValue](repeating: .bytes([]), count: names.count)
          values[0] = .path(path)
          for (name, number) in regex.namedGroups {
            guard let place = names.firstIndex(of: name) else { continue }
            values[place] = .bytes(Regex.group(number, of: match, in: window.content) ?? [])
          }
          guard emit(.dict(VQLDict(shape: shape, values: values))) else { return false }
          window.drop(match[1])
        }
        return true
      }
    },
  ]

  private static func firstMatch(_ regexes: [Regex], _ content: [UInt8]) -> (Regex, [Int])? {
    for regex in regexes { if let match = regex.firstMatch(content) { return (regex, match) } }
    return nil
  }

  /// Opens each file in turn; one that cannot be read is logged and skipped.
  private static func eachFile(
    _ call: Call, _ argument: String, _ body: (ByteSource, VQLPath) throws -> Bool
  ) throws {
    let accessor = try Accessors.find(call.accessor)
    for path in try call.paths(argument) {
      if call.context.isStopped { return }
      do {
        guard try body(try accessor.open(path, call.scope), path) else { return }
      } catch {
        call.log("\(String(decoding: path.text.prefix(300), as: UTF8.self)): \(error)")
      }
    }
  }

  private static func csv(
    _ table: inout CSVReader, _ columns: [String], _ numbered: Bool, _ emit: RowSink
  ) throws -> Bool {
    var names = columns
    if names.isEmpty && !numbered {
      guard let header = try table.next() else { return true }
      names = header.map { String(decoding: $0, as: UTF8.self) }
    }
    var shape: Shape?
    while let fields = try table.next() {
      if shape == nil {
        if numbered && columns.isEmpty { names = fields.indices.map { "Col\($0)" } }
        names = unique(names)
        shape = Shape(names)
      }
      var values = fields.prefix(names.count).map(CSVReader.value)
      while values.count < names.count { values.append(.bytes([])) }
      guard emit(.dict(VQLDict(shape: shape ?? Shape(names), values: values))) else { return false }
    }
    return true
  }

  /// Repeated names get a number.
  private static func unique(_ names: [String]) -> [String] {
    var seen: [String: Int] = [:]
    return names.map { name in
      seen[name, default: 0] += 1
      let count = seen[name] ?? 1
      return count == 1 ? name : "\(name)\(count - 1)"
    }
  }

  private static func splitRecords(_ call: Call, _ emit: RowSink) throws {
    let fieldPattern = call.string("regex").flatMap { $0.isEmpty ? nil : $0 } ?? Array("\\s+".utf8)
    let recordPattern = call.string("record_regex").flatMap { $0.isEmpty ? nil : $0 } ?? [10]
    let fieldRegex = try Regex.cached(fieldPattern, call)
    let recordRegex = try Regex.cached(recordPattern, call)
    let count = try call.int("count") ?? 0
    let limit = count > 0 ? Int(min(count, 10_000)) : Int.max
    let given = call.strings("columns").map { String(decoding: $0, as: UTF8.self) }
    let header = call.bool("first_row_is_headers")
    let size = Int(max(1, min(try call.int("buffer_size") ?? Int64(recordBuffer), 64 << 20)))
    try eachFile(call, "filenames") { source, _ in
      var names = given
      var shape: Shape?
      return try records(source, recordRegex, size: size) { record in
        let fields = fieldRegex.split(record, limit: limit)
        if shape == nil {
          if names.isEmpty && header {
            names = unique(
              fields.map { field in
                String(
                  decoding: field.map { CharacterRanges.word.contains(UInt32($0)) ? $0 : UInt8(ascii: "_") },
                  as: UTF8.self)
              })
            shape = Shape(names)
            return true
          }
          if names.isEmpty { names = fields.indices.map { "Column\($0)" } }
          shape = Shape(names)
        }
        var values = fields.prefix(names.count).map { VQLValue.bytes($0) }
        while values.count < names.count { values.append(.null) }
        return emit(.dict(VQLDict(shape: shape ?? Shape(names), values: values))) && !call.context.isStopped
      }
    }
  }

  /// Cuts a source into records; false when the consumer stopped.
  private static func records(
    _ source: ByteSource, _ regex: Regex, size: Int, _ body: ([UInt8]) -> Bool
  ) throws -> Bool {
    var window = RecordWindow(source, size: size)
    while try window.fill() {
      let content = window.content
      var place = 0
      while place < content.count, let match = regex.firstMatch(content, from: place), match[1] > match[0] {
        // A separator that touches the end of the buffer may be longer in the file.
        if match[1] == content.count && !window.isAtEnd { break }
        guard body(Array(content[place..<match[0]])) else { return false }
        place = match[1]
      }
      if window.isAtEnd {
        return place < content.count ? body(Array(content[place...])) : true
      }
      if place == 0 {
        guard body(content) else { return false }
        place = content.count
      }
      window.drop(place)
    }
    return true
  }
}

/// A piece of a source that moves forward.
struct RecordWindow {
  private let source: ByteSource
  private let size: Int
  private(set) var content: [UInt8] = []
  private(set) var isAtEnd = false

  init(_ source: ByteSource, size: Int) {
    self.source = source
    self.size = size
  }

  /// Reads until the window is full; false when nothing is left.
  mutating func fill() throws -> Bool {
    while !isAtEnd && content.count < size {
      guard let piece = try source.read(size - content.count) else {
        isAtEnd = true
        break
      }
      content.append(contentsOf: piece)
    }
    return !content.isEmpty
  }

  mutating func drop(_ count: Int) { content.removeFirst(min(count, content.count)) }
}

/// Lenient CSV (builtins.md §4).
struct CSVReader {
  private let reader: LineReader
  private let separator: UInt8
  private let comment: UInt8?

  init(_ source: ByteSource, separator: UInt8, comment: UInt8?) {
    reader = LineReader(source, limit: 16 << 20)
    self.separator = separator
    self.comment = comment
  }

  /// The fields of the next record.
  mutating func next() throws -> [[UInt8]]? {
    while let line = try reader.next() {
      if line.isEmpty || (comment != nil && line.first == comment) { continue }
      return try fields(line)
    }
    return nil
  }

  private func fields(_ first: [UInt8]) throws -> [[UInt8]] {
    var line = first
    var result: [[UInt8]] = []
    var field: [UInt8] = []
    var place = 0
    while true {
      while place < line.count, line[place] == 0x20 || (line[place] == 9 && separator != 9) { place += 1 }
      if place < line.count, line[place] == 0x22 {
        place += 1
        while true {
          guard place < line.count else {
            guard field.count < 16 << 20, let more = try reader.next() else { break }
            field.append(10)
            line = more
            place = 0
            continue
          }
          if line[place] == 0x22 {
            place += 1
            if place < line.count, line[place] == 0x22 {
              field.append(0x22)
              place += 1
              continue
            }
            if place == line.count || line[place] == separator { break }
            field.append(0x22)
            continue
          }
          field.append(line[place])
          place += 1
        }
      } else {
        while place < line.count, line[place] != separator {
          field.append(line[place])
          place += 1
        }
      }
      result.append(field)
      field = []
      guard place < line.count else { return result }
      place += 1
      if place == line.count { return result + [[]] }
    }
  }

  /// Fields that look like decimal numbers become numbers.
  static func value(_ field: [UInt8]) -> VQLValue {
    guard let first = field.first, (48...57).contains(first) || first == 0x2D || first == 0x2B || first == 0x2E else {
      return .bytes(field)
    }
    if let number = NumberText.parseDecimal(field) { return .int(number) }
    if let number = NumberText.parseFloat(field) { return .double(number) }
    return .bytes(field)
  }
}
