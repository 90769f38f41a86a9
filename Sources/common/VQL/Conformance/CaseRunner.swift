import Glibc
import Synchronization

/// What a run of a case file gave.
package struct VQLCaseReport: Sendable {
  package struct Failure: Sendable {
    package let id: String
    package let query: String
    package let expected: String
    package let actual: String
    /// The case is marked as an accident of the reference engine.
    package let isQuirk: Bool
    package let logs: [String]
  }
  package var total = 0
  package var passed = 0
  package var quirks = 0
  package var failures: [Failure] = []
  /// Ids of all cases that were run.
  package var ids: [String] = []
}

/// Runs a file of conformance cases: queries with the rows that the reference engine gave.
package enum VQLCaseRunner {
  private final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
  }

  /// Runs the case file at a path.
  package static func run(file path: String, only: String = "") throws -> VQLCaseReport {
    guard let json = Posix.readSmall(path, limit: 256 << 20) else {
      throw VQLError(code: .runtime, message: "\(path): \(Posix.message())")
    }
    return try run(json: json, only: only)
  }

  /// Runs the cases of a file's content.
  /// - Parameters:
  ///   - only: runs the cases whose id begins with this text.
  ///   - makeArtifact: reads a definition given as YAML text; the default reads what case files use.
  package static func run(
    json: [UInt8], only: String = "", makeArtifact: (String) throws -> VQLArtifact = VQLArtifact.init(yaml:)
  ) throws -> VQLCaseReport {
    guard case .dict(let file)? = JSONReader.value(json), case .array(let cases)? = file["cases"] else {
      throw VQLError(code: .runtime, message: "not a case file")
    }
    var report = VQLCaseReport()
    for case .dict(let item) in cases {
      let id = item["id"]?.string ?? ""
      guard id.hasPrefix(only) else { continue }
      let quirk: Bool
      if case .bool(true)? = item["quirk"] { quirk = true } else { quirk = false }
      report.total += 1
      report.ids.append(id)
      if quirk { report.quirks += 1 }
      let logs = LogLines()
      let (expected, actual, matches) = try run(item, logs, makeArtifact)
      if matches {
        report.passed += 1
      } else {
        report.failures.append(
          .init(
            id: id, query: item["query"]?.string ?? "", expected: expected, actual: actual, isQuirk: quirk,
            logs: logs.all))
      }
    }
    return report
  }

  private static func run(
    _ item: VQLDict, _ logs: LogLines, _ makeArtifact: (String) throws -> VQLArtifact
  ) throws -> (String, String, Bool) {
    var options = VQLSessionOptions()
    options.log = { logs.add($0) }
    if case .dict(let variables)? = item["env"] {
      options.environment = variables.keys.map { ($0, variables[$0]?.string ?? "") }
    }
    if case .array(let texts)? = item["artifacts"] {
      options.artifacts = try texts.compactMap(\.string).map(makeArtifact)
    }
    var directory: String?
    if case .array(let files)? = item["setup"] {
      let made = try makeDirectory(files)
      directory = made
      options.environment.append(("DIR", made))
    }
    defer { if let directory { FileTree.remove(directory) } }
    let session = VQLSession(options: options)
    defer { session.close() }
    var expectsError = false
    if case .bool(true)? = item["error"] { expectsError = true }
    var rows: [VQLValue] = []
    do {
      try session.run(item["query"]?.string ?? "") { row in
        var text: [UInt8] = []
        row.appendJSON(to: &text)
        guard let value = JSONReader.value(text) else {
          throw VQLError(code: .runtime, message: "a row is not JSON: \(String(decoding: text, as: UTF8.self))")
        }
        rows.append(value)
        return .more
      }
    } catch let error as VQLError where error.code == .syntax {
      return (expectsError ? "an error" : "rows", "error \(error)", expectsError)
    } catch {
      return ("rows", "error \(error)", false)
    }
    guard case .array(let raw)? = item["rows"], !expectsError else { return ("an error", text(.array(rows)), false) }
    let expected = raw.map { substitute($0, directory ?? "") }
    let matches = expected.count == rows.count && zip(expected, rows).allSatisfy { equal($0, $1, top: true) }
    return (text(.array(expected)), text(.array(rows)), matches)
  }

  private static func text(_ value: VQLValue) -> String {
    var out: [UInt8] = []
    JSONWriter.value(value, zone: nil, to: &out)
    return String(decoding: out, as: UTF8.self)
  }

  private static func substitute(_ value: VQLValue, _ directory: String) -> VQLValue {
    switch value {
    case .bytes(let text):
      return .string(String(decoding: text, as: UTF8.self).replacing("${DIR}", with: directory))
    case .array(let elements): return .array(elements.map { substitute($0, directory) })
    case .dict(let dict): return .dict(dict.keys.map { ($0, substitute(dict[$0] ?? .null, directory)) })
    default: return value
    }
  }

  private static func equal(_ expected: VQLValue, _ actual: VQLValue, top: Bool = false) -> Bool {
    switch (expected, actual) {
    case (.dict(let x), let any) where x.keys == ["any"] && !top: return any.number != nil
    case (.dict(let x), .dict(let y)):
      guard top ? x.keys == y.keys : Set(x.keys) == Set(y.keys) else { return false }
      return x.keys.allSatisfy { name in equal(x[name] ?? .null, y[name] ?? .null) }
    case (.array(let x), .array(let y)): return x.count == y.count && zip(x, y).allSatisfy { equal($0, $1) }
    case (.bytes(let x), .bytes(let y)): return x == y
    case (.null, .null): return true
    case (.bool(let x), .bool(let y)): return x == y
    case (.bool, _), (_, .bool): return false
    default:
      if let x = expected.integer, let y = actual.integer { return x == y }
      guard let x = expected.number, let y = actual.number else { return false }
      return x == y
    }
  }

  // MARK: files

  private static func makeDirectory(_ files: [VQLValue]) throws -> String {
    let made = try FileTree.temporaryDirectory()
    for case .dict(let file) in files {
      let path = made + "/" + (file["path"]?.string ?? "")
      FileTree.makeParents(of: path)
      if let target = file["symlink"]?.string {
        symlink(target, path)
      } else if let text = file["content_base64"]?.stringBytes {
        try FileTree.write(Base64.decode(text) ?? [], to: path)
      } else {
        try FileTree.write(file["content"]?.stringBytes ?? [], to: path)
      }
    }
    return made
  }
}

/// Small file operations on the local system.
enum FileTree {
  static func temporaryDirectory() throws -> String {
    let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array((base + "/vqlXXXXXX").utf8CString)
    guard mkdtemp(&template) != nil else { throw CallError(Posix.message()) }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  static func makeParents(of path: String) {
    var place = path.startIndex
    while let slash = path[path.index(after: place)...].firstIndex(of: "/") {
      mkdir(String(path[..<slash]), 0o755)
      place = slash
    }
  }

  static func write(_ bytes: [UInt8], to path: String) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw CallError("open \(path): \(Posix.message())") }
    defer { close(descriptor) }
    try Posix.writeAll(bytes, to: descriptor)
  }

  /// Removes a file or a directory with all that is in it; links are not followed.
  static func remove(_ path: String, depth: Int = 0) {
    var status = stat()
    guard lstat(path, &status) == 0, depth < 100 else { return }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      unlink(path)
      return
    }
    for name in Posix.list(path) ?? [] { remove(path + "/" + String(decoding: name, as: UTF8.self), depth: depth + 1) }
    rmdir(path)
  }
}
