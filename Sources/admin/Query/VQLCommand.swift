import ArgumentParser
import Foundation
import Synchronization
import VQL

/// `microraptor vql`: runs queries on this machine, without a deployment.
struct VQLCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vql", abstract: "Run VQL on this machine, run a file of conformance cases, or explain a plugin.",
    discussion: """
      Rows go to standard output, the query's log to standard error.

      Exit codes: 0 done, 1 the query failed or a case without the mark «quirk» failed, 64 wrong usage or a syntax error.
      """)

  @Argument(help: "The query; several statements may follow each other.")
  var query: String?

  @Option(help: "How rows are printed: table, jsonl or csv.")
  var format = RowFormat.table

  @Option(name: .customLong("env"), help: "A variable for the query, as KEY=VALUE; may be repeated.")
  var environment: [String] = []

  @Option(help: "Seconds after which the query is cancelled.")
  var timeout: Int?

  @Option(help: "Run the cases of this file and print each failure and the totals.")
  var cases: String?

  @Option(help: "With --cases: only cases whose id begins with this text.")
  var only = ""

  @Flag(help: "With --cases: the report as JSON.")
  var json = false

  @Option(help: "What this plugin or function does and which arguments it takes.")
  var helpFor: String?

  @Flag(help: "List all plugins and functions.")
  var list = false

  @Flag(help: "Print the reference page of all plugins and functions (docs/vql-reference.md).")
  var reference = false

  @Flag(name: .shortAndLong, help: "Show the query's log lines of level DEBUG too.")
  var verbose = false

  func validate() throws {
    let asked = [query != nil, cases != nil, helpFor != nil, list, reference].filter { $0 }.count
    guard asked == 1 else {
      throw ValidationError("give a QUERY, or one of --cases, --help-for, --list and --reference")
    }
    if let timeout, timeout < 1 { throw ValidationError("--timeout must be at least 1") }
    for pair in environment where !pair.contains("=") {
      throw ValidationError("--env expects KEY=VALUE, found \(pair)")
    }
  }

  func run() throws {
    // A deep query needs more stack than the main thread may have.
    let result = Mutex<Int32>(0)
    let done = DispatchSemaphore(value: 0)
    let command = self
    let thread = Thread {
      let status = command.perform()
      result.withLock { $0 = status }
      done.signal()
    }
    thread.stackSize = 16 << 20
    thread.start()
    done.wait()
    let status = result.withLock { $0 }
    if status != 0 { throw ExitCode(status) }
  }

  private func perform() -> Int32 {
    if let helpFor { return explain(helpFor) }
    if list { return listAll() }
    if reference {
      print(VQLReference.page, terminator: "")
      return 0
    }
    if let cases { return runCases(cases) }
    return runQuery(query ?? "")
  }

  private func complain(_ text: String) {
    FileHandle.standardError.write(Data((text + "\n").utf8))
  }

  // MARK: query

  private func runQuery(_ text: String) -> Int32 {
    do throws(VQLError) {
      try VQLParser.check(text)
    } catch {
      complain("vql: \(error)")
      return 64
    }
    let session = VQLSession(options: options())
    defer { session.close() }
    if let timeout {
      DispatchQueue.global().asyncAfter(deadline: .now() + .seconds(timeout)) {
        session.cancel(reason: "Query timed out after \(timeout) seconds")
      }
    }
    var printer = RowPrinter(format)
    var batch: [String] = []
    do {
      try session.run(text) { row in
        var bytes: [UInt8] = []
        row.appendJSON(to: &bytes)
        batch.append(String(decoding: bytes, as: UTF8.self))
        if batch.count >= 100 {
          printer.print(batch)
          batch = []
        }
        return .more
      }
      printer.print(batch)
      return 0
    } catch {
      printer.print(batch)
      complain("vql: \(error)")
      return 1
    }
  }

  private func options() -> VQLSessionOptions {
    var options = VQLSessionOptions()
    options.environment = environment.map { pair in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (key: String(parts[0]), value: parts.count > 1 ? String(parts[1]) : "")
    }
    let verbose = verbose
    options.log = { line in
      if verbose || !line.hasPrefix("DEBUG:") {
        let end = line.hasSuffix("\n") ? "" : "\n"
        FileHandle.standardError.write(Data((line + end).utf8))
      }
    }
    return options
  }

  // MARK: cases

  private func runCases(_ path: String) -> Int32 {
    guard let data = FileManager.default.contents(atPath: path) else {
      complain("vql: \(path): cannot be read")
      return 64
    }
    let report: VQLCaseReport
    do {
      report = try VQLCaseRunner.run(json: [UInt8](data), only: only)
    } catch {
      complain("vql: \(path): \(error)")
      return 64
    }
    json ? printJSON(report) : printText(report)
    return report.failures.contains { !$0.isQuirk } ? 1 : 0
  }

  private func printText(_ report: VQLCaseReport) {
    for failure in report.failures {
      print("\(failure.id)\(failure.isQuirk ? " (quirk)" : ""): \(failure.query)")
      print("  expected \(failure.expected)")
      print("  actual   \(failure.actual)")
      for line in failure.logs.prefix(3) { print("  log      \(line.trimmingCharacters(in: .newlines))") }
    }
    let failed = report.failures.count
    let strict = report.total - report.quirks
    let strictFailed = report.failures.filter { !$0.isQuirk }.count
    let share = strict > 0 ? Double(strict - strictFailed) * 100 / Double(strict) : 100
    print(
      "\(report.total) cases: \(report.passed) passed, \(failed) failed; without quirks: \(strict - strictFailed) of "
        + "\(strict) (\(String(format: "%.1f", share)) %)")
  }

  private func printJSON(_ report: VQLCaseReport) {
    let object: [String: Any] = [
      "total": report.total, "passed": report.passed, "quirks": report.quirks,
      "failures": report.failures.map {
        [
          "id": $0.id, "query": $0.query, "expected": $0.expected, "actual": $0.actual, "quirk": $0.isQuirk,
          "logs": $0.logs,
        ] as [String: Any]
      },
    ]
    if let data = try? JSONSerialization.data(
      withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
    {
      print(String(decoding: data, as: UTF8.self))
    }
  }

  // MARK: help

  private func explain(_ name: String) -> Int32 {
    let entries = VQLReference.entries(named: name)
    guard !entries.isEmpty else {
      let near = VQLReference.entries.map(\.name).filter { $0.contains(name) || name.contains($0) }
      let hint =
        near.isEmpty
        ? "microraptor vql --list shows all" : "did you mean \(Set(near).sorted().joined(separator: ", "))?"
      complain("vql: there is no plugin or function \(name); \(hint)")
      return 64
    }
    for entry in entries {
      print("\(entry.name) (\(entry.kind.rawValue)): \(entry.summary)")
      for argument in entry.arguments {
        print("  \(argument.name): \(argument.type)\(argument.required ? ", required" : "")")
      }
      if entry.acceptsAnyName { print("  and arguments of any other name") }
      if entry.arguments.isEmpty, !entry.acceptsAnyName { print("  no arguments") }
    }
    return 0
  }

  private func listAll() -> Int32 {
    for entry in VQLReference.entries.sorted(by: { ($0.kind.rawValue, $0.name) > ($1.kind.rawValue, $1.name) })
      .reversed()
    {
      print("\(entry.kind.rawValue.padding(toLength: 9, withPad: " ", startingAt: 0)) \(entry.name): \(entry.summary)")
    }
    return 0
  }
}
