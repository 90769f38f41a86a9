import ArgumentParser
import Foundation
import PublicIdentity
import Store

/// `benchmarks soak`: real agents for as long as wanted, while everything between them and the store fails in turn.
struct Soak: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soak",
    abstract: "Runs agents against frontends behind nginx while processes and the network fail.",
    discussion: """
      Every query must have all of its rows, each once; no agent may end; the agents' logs must speak of each failure.
      Exit codes: 0 clean, 1 something was lost, doubled or ended.
      """)

  @Option(help: "How long things fail.")
  var minutes = 60.0

  @Option(help: "How many agents.")
  var agents = 3

  @Option(help: "Folder of the executables under test. Default: beside this one.")
  var bin: String?

  @Option(help: "The project's nginx.conf.")
  var nginx: String

  @Option(help: "A folder for the last lines of each process's log.")
  var logs: String?

  @Flag(help: "Print the report as JSON.")
  var json = false

  func validate() throws {
    guard minutes > 0, minutes <= 1440 else { throw ValidationError("--minutes: more than 0 and at most 1440") }
    guard (1...100).contains(agents) else { throw ValidationError("--agents: 1 to 100") }
  }

  func run() async throws {
    let settings = try Settings(quick: false, bin: bin, readers: nil)
    defer { settings.clean() }
    let soak = try await SoakDeployment(settings, agents: agents, nginxTemplate: nginx)
    let report: SoakReport
    do {
      report = try await run(soak)
      try saveLogs(soak)
    } catch {
      try? saveLogs(soak)
      await soak.stop()
      throw error
    }
    await soak.stop()
    print(json ? try report.json() : report.text())
    if !report.isClean { throw ExitCode(1) }
  }

  private func run(_ soak: SoakDeployment) async throws -> SoakReport {
    try soak.startServers()
    try soak.startAgents()
    let store = try await soak.deployment.openStore()
    let clients = try await enrolled(store)
    let ledger = SoakLedger(soak)
    let end = Date(timeIntervalSinceNow: minutes * 60)
    var report = SoakReport(minutes: minutes, agents: agents)
    let asking = Task {
      while Date() < end, !Task.isCancelled {
        for client in clients { try ledger.ask(client) }
        try await Task.sleep(for: .seconds(10))
      }
    }
    defer { asking.cancel() }
    while Date() < end {
      try await Task.sleep(for: .seconds(.random(in: 4...12)))
      report.incidents.append(try await fail(soak))
      Self.say("\(Int(max(0, end.timeIntervalSinceNow))) s left, \(ledger.count) queries asked")
      let gone = try soak.agents.filter { try !soak.deployment.process($0).isRunning }
      guard gone.isEmpty else {
        report.endedAgents = gone
        break
      }
    }
    asking.cancel()
    if case .failure(let error) = await asking.result, !(error is CancellationError) { throw error }
    Self.say("waiting for the last answers")
    report.verdict = try await ledger.settle(store, patience: 600)
    report.endedAgents = try soak.agents.filter { try !soak.deployment.process($0).isRunning }
    await store.close()
    return report
  }

  private func saveLogs(_ soak: SoakDeployment) throws {
    guard let logs else { return }
    let folder = URL(fileURLWithPath: logs)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    for (name, lines) in soak.deployment.output() {
      let text = lines.joined(separator: "\n") + "\n"
      try text.write(to: folder.appendingPathComponent("\(name).log"), atomically: false, encoding: .utf8)
    }
  }

  /// The agents' client ids, once each has a key in the store.
  private func enrolled(_ store: SQLiteStore) async throws -> [ClientName] {
    for _ in 0..<600 {
      let known = try await store.clients(ClientFilter()).map(\.client)
      if known.count == agents { return known }
      try await Task.sleep(for: .milliseconds(100))
    }
    throw Trouble("the agents did not enroll within a minute")
  }

  /// One failure from beginning to end, and what the agents said meanwhile.
  private func fail(_ soak: SoakDeployment) async throws -> SoakReport.Incident {
    let fault = SoakFault.random()
    let start = Date()
    Self.say(fault.kind)
    try fault.begin(soak)
    try await Task.sleep(for: .seconds(.random(in: 3...15)))
    try fault.end(soak)
    let seconds = Date().timeIntervalSince(start)
    try await Task.sleep(for: .seconds(1))
    let since = start.ISO8601Format()
    let lines = try soak.agents.flatMap { try soak.deployment.process($0).lines }
      .filter { $0 > since && ($0.contains(" WARNING ") || $0.contains(" ERROR ") || $0.contains("next try")) }
    return SoakReport.Incident(kind: fault.kind, seconds: seconds, lines: lines)
  }

  private static func say(_ text: String) {
    FileHandle.standardError.write(Data("… \(text)\n".utf8))
  }
}
