import AgentCore
import ArgumentParser
import Configuration
import Foundation
import Observability
import Synchronization

/// `microraptor pool`.
struct PoolCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pool",
    abstract: "Runs thousands of agents in one process, for load tests.",
    discussion: """
      Each is a whole agent with a key of its own: it enrolls, waits for work, runs it and delivers. Their states stay in \
      --directory, so a second run has the same clients. Point it only at a deployment of your own, or one whose owner \
      knows. Ctrl-C ends it; the report follows. Exit codes: 0 all agents were accepted, 1 not all, 78 wrong configuration.
      """)

  @Option(help: "The client file (client.config.yaml).")
  var client: String

  @Option(help: "How many agents.")
  var agents = 100

  @Option(help: "Where their states are kept.")
  var directory = "pool"

  @Option(help: "Seconds over which the agents start; 0 starts all at once (an enrollment storm).")
  var ramp = 10.0

  @Option(help: "Seconds to run after the start; 0 until Ctrl-C.")
  var seconds = 60.0

  @Option(help: "Threads for the network.")
  var threads = max(1, ProcessInfo.processInfo.activeProcessorCount)

  @Flag(help: "Print the report as JSON.")
  var json = false

  func validate() throws {
    guard (1...100_000).contains(agents) else { throw ValidationError("--agents: 1 to 100000") }
    guard ramp >= 0, ramp <= 86_400, seconds >= 0 else { throw ValidationError("--ramp and --seconds: 0 or more") }
    guard (1...256).contains(threads) else { throw ValidationError("--threads: 1 to 256") }
  }

  func run() async throws {
    let pool = try prepare()
    let before = ProcessMemory.resident()
    let start = ContinuousClock.now
    let work = Task { await pool.run(ramp: .milliseconds(Int64(ramp * 1000))) }
    let signals = ShutdownSignal()
    let end = seconds == 0 ? nil : start + .milliseconds(Int64((ramp + seconds) * 1000))
    let stop = Task { if await signals.wait() != nil { work.cancel() } }
    var mostConnected = 0
    var memory = 0
    while !work.isCancelled, end.map({ ContinuousClock.now < $0 }) ?? true {
      try? await Task.sleep(for: .milliseconds(500))
      let counts = pool.meter.now
      if counts.connected >= mostConnected {
        mostConnected = counts.connected
        memory = ProcessMemory.resident()
      }
      Self.show(counts, of: agents, since: start)
    }
    stop.cancel()
    Terminal.endProgress()
    let counts = pool.meter.now
    let seconds = Double((ContinuousClock.now - start).components.seconds)
    work.cancel()
    await work.value
    let report = PoolReport(
      agents: agents, seconds: seconds, mostConnected: mostConnected, accepted: counts.accepted,
      checkIns: counts.checkIns, deliveries: counts.deliveries, sentBytes: counts.sentBytes, residentBytes: memory,
      bytesPerAgent: max(0, memory - before) / max(1, agents), cpuSeconds: ProcessUse.processorSeconds(),
      statuses: Dictionary(uniqueKeysWithValues: counts.statuses.map { ("\($0.key)", $0.value) }),
      errors: counts.errors, enrollmentMilliseconds: PoolReport.Latency(counts.enrollment),
      checkInMilliseconds: PoolReport.Latency(counts.checkInLatency),
      deliveryMilliseconds: PoolReport.Latency(counts.deliveryLatency))
    print(json ? try report.json() : report.text)
    if counts.accepted < agents { throw ExitCode(1) }
  }

  private func prepare() throws -> PoolAgents {
    let files = PoolLimits.raiseFileLimit()
    // Over HTTP/1.1 an agent has a connection for waiting and at times one for delivering.
    if files < agents + 100 {
      throw ValidationError(
        "--agents \(agents): this user may open \(files) files only, and each agent needs one. "
          + "Raise it (ulimit -n \(agents * 2 + 100)) or use fewer agents")
    }
    let wanted = agents
    do {
      return try PoolAgents(
        config: try ClientConfig.load(path: client), count: agents, directory: directory, threads: threads
      ) { ready in
        if ready % 50 == 0 || ready == wanted { Terminal.progress("keys \(ready) of \(wanted)") }
      }
    } catch {
      Terminal.note("\(error)")
      throw ExitCode(78)
    }
  }

  private static func show(_ counts: PoolMeter.Counts, of agents: Int, since start: ContinuousClock.Instant) {
    let errors = counts.errors.values.reduce(0, +)
    Terminal.progress(
      "\((ContinuousClock.now - start).components.seconds) s: \(counts.connected) of \(agents) connected, "
        + "\(counts.checkIns) check-ins, \(counts.deliveries) deliveries, \(errors) errors")
  }
}
