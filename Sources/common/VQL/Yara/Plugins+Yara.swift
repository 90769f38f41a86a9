import Glibc

extension Plugins {
  static let yara: [PluginSpec] = [
    PluginSpec(
      "yara",
      "rules: string, files*: any[], accessor: string, context: int, start: uint, end: uint, number: int, "
        + "blocksize: uint, key: string, namespace: string, vars: dict, force_buffers: bool",
      "Files that match YARA rules, one row per matched string."
    ) { call, emit in
      guard let search = try YaraSearch(call) else { return }
      let accessor = try Accessors.find(call.accessor)
      let start = max(0, try call.int("start") ?? 0)
      let end = try call.int("end") ?? 0
      let block = Int(max(1 << 16, min(try call.int("blocksize") ?? 4 << 20, 64 << 20)))
      for file in Printf.operands(call.materialized("files") ?? .null) where !file.isNull {
        if call.context.isStopped { return }
        do {
          let path = try Accessors.path(file, accessor: call.accessor)
          let source = try accessor.open(path, call.scope)
          var content = YaraContent(size: source.size, row: { YaraContent.row(accessor, path, call) }, path: path)
          content.scan = YaraScan(search.rules)
          try search.read(source, from: start, to: end > 0 ? end : .max, block: block, &content)
          guard search.report(content, { search.bytes(accessor, path, $0, $1) }, emit) else { return }
        } catch {
          call.log("\(error)")
        }
      }
    },
    PluginSpec(
      "proc_yara",
      "rules*: string, pid*: int, context: int, key: string, namespace: string, vars: dict, number: int",
      "Strings of YARA rules in the memory of a process."
    ) { call, emit in
      guard let search = try YaraSearch(call), let pid = try call.int("pid"), pid > 0, pid <= Int64(Int32.max) else {
        return
      }
      let memory = try ProcessMemory(Int32(pid))
      var content = YaraContent(size: nil, row: { .null }, path: nil)
      content.scan = YaraScan(search.rules)
      for region in memory.regions {
        var place = region.lowerBound
        while place < region.upperBound, call.context.operation() {
          let count = Int(min(4 << 20, region.upperBound - place))
          let window = memory.bytes(place, count)
          guard !window.isEmpty else { break }
          let isLast = window.count < count || place + Int64(count) >= region.upperBound
          let kept = content.scan?.scan(window, at: place, isLast: isLast, call.context) ?? 0
          if isLast { break }
          place += Int64(window.count - kept)
        }
      }
      _ = search.report(content, memory.bytes, emit)
    },
  ]
}

/// What is known of a content while it is searched.
struct YaraContent {
  let size: Int64?
  let row: () -> VQLValue
  let path: VQLPath?
  var scan: YaraScan?

  static func row(_ accessor: any Accessor, _ path: VQLPath, _ call: Call) -> VQLValue {
    (try? accessor.status(path, call.scope))?.statRow ?? .null
  }
}

/// The memory of a process, as far as it may be read.
struct ProcessMemory {
  private let source: DescriptorSource
  let regions: [Range<Int64>]

  init(_ pid: Int32) throws {
    let descriptor = Glibc.open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw CallError("open /proc/\(pid)/mem: \(Posix.message())") }
    source = DescriptorSource(descriptor, size: 0, isDirectory: false)
    regions = (Posix.readText("/proc/\(pid)/maps") ?? "").split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ", maxSplits: 2)
      let bounds = (fields.first ?? "").split(separator: "-").compactMap { Int64($0, radix: 16) }
      guard bounds.count == 2, bounds[0] < bounds[1], fields.count > 1, fields[1].hasPrefix("r") else { return nil }
      return line.hasSuffix("[vvar]") || line.hasSuffix("[vsyscall]") ? nil : bounds[0]..<bounds[1]
    }
  }

  func bytes(_ offset: Int64, _ count: Int) -> [UInt8] { (try? source.bytes(at: offset, count: count)) ?? [] }
}

/// One call of `yara()` or `proc_yara()`.
final class YaraSearch {
  let rules: [YaraRule]
  private let call: Call
  private let variables: VQLDict
  private let contextSize: Int
  private var left: Int64

  /// Nil when the rules cannot be compiled, which is logged once.
  init?(_ call: Call) throws {
    self.call = call
    variables = try call.dict("vars") ?? VQLDict()
    contextSize = Int(max(0, min(try call.int("context") ?? 0, 1 << 20)))
    left = max(1, try call.int("number") ?? 1)
    let text = call.string("rules") ?? []
    let cache = "yara:" + (call.text("key").flatMap { $0.isEmpty ? nil : $0 } ?? "\(text.hashValue)")
    if case .object(let known as CompiledRules)? = call.context.caches[cache] {
      guard let compiled = known.rules else { return nil }
      rules = compiled
      return
    }
    do {
      rules = try YaraParser.rules(Self.expanded(text), variables: Set(variables.keys))
      call.context.caches[cache] = .object(CompiledRules(rules))
    } catch {
      call.context.caches[cache] = .object(CompiledRules(nil))
      call.context.log(.error, "\(call.name): Failed to compile the rules: \(error)")
      return nil
    }
  }

  private final class CompiledRules: VQLObject {
    let rules: [YaraRule]?
    init(_ rules: [YaraRule]?) { self.rules = rules }
  }

  /// `wide ascii nocase:one,two` stands for a rule with these strings.
  private static func expanded(_ text: [UInt8]) -> [UInt8] {
    let words: Set<String> = ["wide", "ascii", "nocase", "fullword", "private"]
    let line = String(decoding: text, as: UTF8.self)
    guard let colon = line.firstIndex(of: ":") else { return text }
    let modifiers = line[..<colon].split(separator: " ").map(String.init)
    guard modifiers.allSatisfy(words.contains) else { return text }
    let strings = line[line.index(after: colon)...].split(separator: ",").enumerated().map { place, string in
      let quoted = string.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
      return "$a\(place) = \"\(quoted)\" \(modifiers.joined(separator: " "))"
    }
    return Array("rule X { strings: \(strings.joined(separator: "\n")) condition: any of them }".utf8)
  }

  /// Reads the content window by window.
  func read(_ source: ByteSource, from start: Int64, to end: Int64, block: Int, _ content: inout YaraContent) throws {
    if start > 0 { try source.skip(to: start) }
    var window: [UInt8] = []
    var offset = start
    while call.context.operation() {
      let wanted = Int(min(Int64(block), end - offset - Int64(window.count)))
      let more = wanted > 0 ? try source.readAll(limit: wanted) : []
      window += more
      let isLast = more.count < block
      let kept = content.scan?.scan(window, at: offset, isLast: isLast, call.context) ?? 0
      if isLast { return }
      offset += Int64(window.count - kept)
      window.removeFirst(window.count - kept)
    }
  }

  /// Bytes of a file around a place.
  func bytes(_ accessor: any Accessor, _ path: VQLPath, _ offset: Int64, _ count: Int) -> [UInt8] {
    guard let source = try? accessor.open(path, call.scope) else { return [] }
    if let found = try? source.bytes(at: offset, count: count) { return found }
    guard (try? source.skip(to: offset)) != nil else { return [] }
    return (try? source.readAll(limit: count)) ?? []
  }

  private static let shape = UnsafeShared(Shape(["Rule", "Meta", "Tags", "String", "File", "FileName"]))

  /// Sends the rows of a content; false when no more are wanted.
  func report(_ content: YaraContent, _ read: @escaping (Int64, Int) -> [UInt8], _ emit: RowSink) -> Bool {
    guard let scan = content.scan else { return true }
    var conditions = YaraConditions(scan, size: content.size, variables: variables, call.context, read: read)
    for place in conditions.matching() {
      let rule = scan.rules[place]
      var sent = false
      for (index, string) in rule.strings.enumerated() where !string.isPrivate {
        for match in scan.matches[place][index] {
          sent = true
          guard emit(row(rule, string.name, match, content, read)) else { return false }
          left -= 1
          if left <= 0 { return false }
        }
      }
      if !sent {
        guard emit(row(rule, "", nil, content, read)) else { return false }
        left -= 1
        if left <= 0 { return false }
      }
    }
    return true
  }

  private func row(
    _ rule: YaraRule, _ name: String, _ match: YaraScan.Match?, _ content: YaraContent,
    _ read: (Int64, Int) -> [UInt8]
  ) -> VQLValue {
    let start = max(0, (match?.offset ?? 0) - Int64(contextSize))
    let count = match.map { Int($0.offset - start) + min($0.length, 1 << 20) + contextSize } ?? 0
    let data = count > 0 ? read(start, count) : []
    let string = VQLDict([
      ("Name", .string(name)), ("Offset", .int(match?.offset ?? 0)),
      ("HexData", .array(HexDump.lines(data).map { .string($0) })), ("Data", .object(BufferObject(data))),
    ])
    let row = VQLDict(
      shape: Self.shape.value,
      values: [
        .string(rule.name), rule.meta.isEmpty ? .null : .dict(rule.meta), .array(rule.tags.map { .string($0) }),
        .dict(string), .lazy(VQLThunk { content.row() }), content.path.map { .path($0) } ?? .null,
      ])
    return .dict(row)
  }
}

/// Bytes in hexadecimal with their characters beside them, sixteen in a line.
enum HexDump {
  static func lines(_ data: [UInt8]) -> [String] {
    stride(from: 0, to: min(data.count, 4096), by: 16).map { start in
      let line = data[start..<min(data.count, start + 16)]
      let digits = line.map { String(decoding: Hex.encode([$0]), as: UTF8.self) }
      let left = digits.prefix(8).joined(separator: " ")
      let right = digits.dropFirst(8).joined(separator: " ")
      let pairs = (left + "  " + right).padded(to: 49)
      let text = String(decoding: line.map { (32...126).contains($0) ? $0 : 0x2E }, as: UTF8.self)
      let offset = String(start, radix: 16)
      return String(repeating: "0", count: 8 - offset.count) + offset + "  " + pairs + " |" + text + "|"
    }
  }
}

extension String {
  fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}

extension Bytes {
  /// Where a byte string occurs in another, by the system's own search.
  static func search(_ part: [UInt8], in whole: [UInt8], from start: Int) -> Int? {
    guard !part.isEmpty, start >= 0, start + part.count <= whole.count else { return nil }
    // `memmem` is a GNU extension that the headers hide: the first byte is looked for instead.
    return whole.withUnsafeBytes { buffer -> Int? in
      guard let base = buffer.baseAddress else { return nil }
      var place = start
      let last = whole.count - part.count
      while place <= last {
        guard let found = memchr(base + place, Int32(part[0]), last - place + 1) else { return nil }
        place = UnsafeRawPointer(found) - base
        if part.withUnsafeBytes({ bytes in bytes.baseAddress.map { memcmp(base + place, $0, part.count) } }) == 0 {
          return place
        }
        place += 1
      }
      return nil
    }
  }
}
