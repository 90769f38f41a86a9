import Foundation
import PublicIdentity
import Store

extension Benchmark {
  static let agentStart = Benchmark(
    name: "agent", abstract: "The agent: start to first check-in, idle memory and processor time, size.",
    run: AgentBenchmarks.run)
}

enum AgentBenchmarks {
  static func run(_ settings: Settings) async throws -> [Figure] {
    let deployment = try Deployment(settings)
    defer { deployment.stop() }
    try deployment.startAll()
    let store = try await deployment.openStore()
    // The first start makes the key and enrolls; only later ones count.
    try start(deployment, 0)
    _ = try await contact(store, after: 0)
    try deployment.process("agent-0").stop()
    var starts: [Double] = []
    let runs = settings.quick ? 3 : 5
    for number in 1...runs {
      let began = Timestamp.now().microseconds
      try start(deployment, number)
      let seen = try await contact(store, after: began)
      starts.append(Double(seen - began) / 1000)
      if number < runs { try deployment.process("agent-\(number)").stop() }
    }
    await store.close()
    let pid = try deployment.pid("agent-\(runs)")
    try await Task.sleep(for: .seconds(settings.quick ? 3 : 5))
    let used = try ProcessStatus.cpuSeconds(pid)
    let seconds = settings.quick ? 5.0 : 20
    try await Task.sleep(for: .seconds(seconds))
    let hour = (try ProcessStatus.cpuSeconds(pid) - used) / seconds * 3600
    let memory = try ProcessStatus.residentBytes(pid)
    return [
      Figure("agent: start to first check-in, known key", Statistics.median(starts), "ms", goal: .atMost(150)),
      Figure("agent: resident memory, idle", memory / 1_048_576, "MiB", goal: .atMost(16), note: linkage(settings)),
      Figure(
        "agent: processor time of an idle hour", hour, "s",
        note: "from \(Int(seconds)) s, in steps of \(Number.text(36 / seconds)) s: no verdict"),
    ] + [size(settings)]
  }

  private static func start(_ deployment: Deployment, _ number: Int) throws {
    try deployment.start(
      "agent-\(number)", "agent",
      [
        "--config", deployment.path("client.config.yaml"), "--writeback", deployment.path("agent.writeback.yaml"),
        "--buffer", deployment.path("agent.buffer"), "-v",
      ])
  }

  /// When the server last heard of the only client, in microseconds; waits for a moment after the given one.
  private static func contact(_ store: SQLiteStore, after: Int64) async throws -> Int64 {
    for _ in 0..<600 {
      if let seen = try await store.clients(ClientFilter()).first?.lastSeen?.microseconds, seen > after { return seen }
      try await Task.sleep(for: .milliseconds(50))
    }
    throw Trouble("the agent did not check in within 30 s")
  }

  private static func isDynamic(_ settings: Settings) -> Bool {
    let agent = settings.bin.appendingPathComponent("agent").path
    let libraries = try? Command.check("ldd", [agent], in: settings.scratch)
    return libraries?.contains("libswiftCore") ?? false
  }

  private static func linkage(_ settings: Settings) -> String? {
    isDynamic(settings) ? "with shared Swift libraries; deploy/benchmark links them in" : nil
  }

  private static func size(_ settings: Settings) -> Figure {
    let name = "agent: stripped static binary"
    guard !isDynamic(settings) else {
      return .failed(name, "the agent uses shared Swift libraries: build with --static-swift-stdlib", goal: .atMost(20))
    }
    do {
      let copy = settings.scratch.appendingPathComponent("agent").path
      _ = try Command.check(
        "strip", ["-o", copy, settings.bin.appendingPathComponent("agent").path], in: settings.scratch)
      let bytes = try FileManager.default.attributesOfItem(atPath: copy)[.size] as? Int ?? 0
      return Figure(name, Double(bytes) / 1_048_576, "MiB", goal: .atMost(20))
    } catch {
      return .failed(name, "\(error)", goal: .atMost(20))
    }
  }
}
