import ArgumentParser
import Foundation
import VQL

extension Benchmark {
  static let jsonLines = Benchmark(
    name: "jsonl", abstract: "Reading and parsing JSON lines, in megabytes per second of processor time; its memory.",
    run: BulkBenchmarks.jsonLines)
  static let hashTree = Benchmark(
    name: "hash-tree", abstract: "glob() and hash() over a tree of files, beside find | xargs sha256sum.",
    run: BulkBenchmarks.hashTree)
}

/// One query in a fresh process: prints how many rows it gave, the last one, seconds of processor time and the most bytes
/// the process held.
struct QueryProbe: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "query-probe", abstract: "Prints what one query costs.", shouldDisplay: false)

  @Argument var query: String

  func run() throws {
    let pid = ProcessInfo.processInfo.processIdentifier
    let session = VQLSession(options: VQLSessionOptions())
    let start = Clock.threadCPU()
    var text: [UInt8] = []
    var rows = 0
    try session.run(query) { row in
      rows += 1
      text.removeAll(keepingCapacity: true)
      row.appendJSON(to: &text)
      return .more
    }
    let seconds = Double(Clock.threadCPU() - start) / 1e9
    session.close()
    print(rows, String(decoding: text, as: UTF8.self), seconds, Int(try ProcessStatus.peakBytes(pid)), separator: "\t")
  }
}

enum BulkBenchmarks {
  private struct Cost {
    let rows: Int
    let last: String
    let seconds: Double
    let bytes: Double
  }

  private static func probe(_ query: String, _ settings: Settings) throws -> Cost {
    let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
    let result = try Command.run(own, ["query-probe", query], in: settings.scratch, seconds: 300)
    let parts = result.output.split(separator: "\t").map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
    guard parts.count == 4, let rows = Int(parts[0]), let seconds = Double(parts[2]), let bytes = Double(parts[3]),
      seconds > 0
    else {
      throw Trouble("the probe printed «\(result.output)» \(result.errors.suffix(200))")
    }
    return Cost(rows: rows, last: parts[1], seconds: seconds, bytes: bytes)
  }

  // MARK: JSON lines

  static func jsonLines(_ settings: Settings) async throws -> [Figure] {
    let megabytes = settings.bulkMegabytes
    let file = settings.scratch.appendingPathComponent("lines.jsonl")
    let lines = try writeLines(to: file, bytes: megabytes << 20)
    defer { try? FileManager.default.removeItem(at: file) }
    let size = try FileManager.default.attributesOfItem(atPath: file.path)[.size] as? Int ?? 0
    // Every line is read, one in three thousand leaves the query.
    let query = "SELECT pid FROM parse_jsonl(filename='\(file.path)') WHERE pid = 2999"
    let costs = try (0..<3).map { _ in try probe(query, settings) }
    guard costs.allSatisfy({ $0.rows == lines / 3000 && $0.last == "{\"pid\":2999}" }) else {
      throw Trouble("wrong result: \(costs[0].rows) rows, expected \(lines / 3000)")
    }
    let rates = costs.map { Double(size) / 1e6 / $0.seconds }
    let memory = costs.map { $0.bytes / 1_048_576 }
    return [
      Figure(
        "VQL parse_jsonl of \(megabytes) MiB", Statistics.median(rates), "MB/s", goal: .atLeast(150),
        note: "\(lines) lines of eight members each"),
      Figure("VQL parse_jsonl: the most memory of the process", memory.max() ?? 0, "MiB", goal: .atMost(64)),
    ]
  }

  private static func writeLines(to file: URL, bytes: Int) throws -> Int {
    _ = FileManager.default.createFile(atPath: file.path, contents: nil)
    let handle = try FileHandle(forWritingTo: file)
    defer { try? handle.close() }
    var (written, lines) = (0, 0)
    while written < bytes {
      var text = ""
      for _ in 0..<5000 {
        text += """
          {"time":"2026-01-01T00:00:\(10 + lines % 50)Z","level":"info","pid":\(lines % 3000),"host":"web-\(lines % 50)",\
          "message":"request \(lines) served","duration":\(Double(lines % 1000) / 8),"tags":["a","b"],\
          "user":{"id":\(lines),"name":"user\(lines % 100)"}}

          """
        lines += 1
      }
      let data = Data(text.utf8)
      try handle.write(contentsOf: data)
      written += data.count
    }
    return lines
  }

  // MARK: a tree of files

  static func hashTree(_ settings: Settings) async throws -> [Figure] {
    let files = settings.quick ? 10_000 : 100_000
    let root = settings.scratch.appendingPathComponent("tree")
    try writeTree(root, files: files)
    defer { try? FileManager.default.removeItem(at: root) }
    let query = """
      SELECT count() AS N, len(list=H) AS L FROM foreach(
        row={ SELECT OSPath FROM glob(globs='**', root='\(root.path)') WHERE NOT IsDir },
        query={ SELECT hash(path=OSPath, hashselect='SHA256').SHA256 AS H FROM scope() }) GROUP BY 1
      """
    let command = "find '\(root.path)' -type f -print0 | xargs -0 sha256sum | wc -l"
    var (ours, theirs): ([Double], [Double]) = ([], [])
    for _ in 0..<3 {
      let before = childSeconds()
      let counted = try Command.check("sh", ["-c", command], in: settings.scratch)
      theirs.append(Double(files) / max(0.001, childSeconds() - before))
      guard counted.trimmingCharacters(in: .whitespacesAndNewlines) == "\(files)" else {
        throw Trouble("find: \(counted)")
      }
      let cost = try probe(query, settings)
      guard cost.last == "{\"N\":\(files),\"L\":64}" else { throw Trouble("wrong result: \(cost.last)") }
      ours.append(Double(files) / cost.seconds)
    }
    return [
      Figure(
        "VQL glob + hash over \(files) files", Statistics.median(ours), "files/s",
        limit: ("find | xargs sha256sum", Statistics.median(theirs)), goal: .ratioAtLeast(0.8))
    ]
  }

  private static func writeTree(_ root: URL, files: Int) throws {
    var generator = SystemRandomNumberGenerator()
    let content = Data((0..<65_536).map { _ in UInt8.random(in: 0...255, using: &generator) })
    for folder in 0..<(files / 100) {
      let path = root.appendingPathComponent("d\(folder)")
      try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true)
      for file in 0..<100 {
        let number = folder * 100 + file
        let start = number * 7 % 40_000
        try content[start..<start + 1024 + number * 37 % 8192].write(to: path.appendingPathComponent("f\(file)"))
      }
    }
  }

  /// Processor seconds of all children that have ended.
  private static func childSeconds() -> Double {
    var usage = rusage()
    getrusage(Int32(RUSAGE_CHILDREN.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }
}
