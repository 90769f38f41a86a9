import Foundation

extension Benchmark {
  static let workerKilled = Benchmark(
    name: "worker-killed", abstract: "kill -9 of one of three workers under load: what agents notice.",
    run: KillBenchmarks.run)
}

enum KillBenchmarks {
  private static let connections = 64

  static func run(_ settings: Settings) async throws -> [Figure] {
    let deployment = try Deployment(settings, workers: 3)
    defer { deployment.stop() }
    let clients = try deployment.clients(ClientKeys.make(connections))
    try await deployment.enroll(clients)
    try deployment.startAll(workers: 3)
    guard let port = deployment.ports.first else { throw Trouble("no frontend") }
    let bodies = try clients.map { try $0.seal([LoadClient.checkIn]) }
    let load = try await PostLoad(port: port, path: "/control", connections: connections, status: 200) { bodies[$0] }
    do {
      try await Task.sleep(for: .seconds(1))
      _ = load.takeSlowest()
      var calm = 0.0
      var killed = 0.0
      let before = load.answers
      for name in ["worker-3", "worker-2"] {
        try await Task.sleep(for: .seconds(settings.seconds(4)))
        calm = max(calm, load.takeSlowest())
        try deployment.process(name).kill()
        try await Task.sleep(for: .seconds(settings.seconds(4)))
        killed = max(killed, load.takeSlowest())
      }
      let answers = load.answers - before
      let failures = load.failures
      await load.stop()
      return [
        Figure(
          "requests that failed when two of three workers were killed", Double(failures), "", goal: .atMost(0),
          note: "of \(Number.text(Double(answers)))"),
        Figure(
          "latency added by that", max(0, killed - calm), "s", goal: .atMost(1), note: "the slowest request of all"),
      ]
    } catch {
      await load.stop()
      throw error
    }
  }
}
