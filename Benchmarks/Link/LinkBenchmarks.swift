import Envelope
import Foundation
import PKI
import PublicIdentity
import WorkerLink

extension Benchmark {
  static let linkWarm = Benchmark(
    name: "link-warm", abstract: "Warm opens through ipc:// by a crypto-worker process, and its processor time.",
    run: LinkBenchmarks.warm)
  static let linkCold = Benchmark(
    name: "link-cold", abstract: "Cold opens through ipc:// by a crypto-worker process, against openssl speed.",
    run: LinkBenchmarks.cold)
}

enum LinkBenchmarks {
  static func warm(_ settings: Settings) async throws -> [Figure] {
    let bench = try WorkerBench(settings, clients: 16)
    defer { bench.stop() }
    let pid = try bench.deployment.pid("worker")
    var figures: [Figure] = []
    for acknowledge in [false, true] {
      let list = [UInt8](repeating: 65, count: 1024)
      let requests = try bench.clients.map {
        WorkerRequest.open(body: try $0.seal(list: list), acknowledge: acknowledge)
      }
      // The warm-up says how many messages a round takes.
      let warmUp = try RequestPump(bench.link, requests, total: 10_000).run(window: 256)
      let total = max(10_000, min(300_000, Int(10_000 / warmUp * settings.seconds(1.2))))
      var rates: [Double] = []
      var costs: [Double] = []
      for _ in 0..<settings.rounds {
        let before = try ProcessStatus.cpuSeconds(pid)
        rates.append(Double(total) / (try RequestPump(bench.link, requests, total: total).run(window: 256)))
        costs.append((try ProcessStatus.cpuSeconds(pid) - before) / Double(total) * 1e6)
      }
      let what = acknowledge ? "1 KiB opened, and its acknowledgement sealed" : "1 KiB opened"
      figures.append(
        Figure(
          "worker CPU a message over ipc://, \(what)", Statistics.median(costs), "µs",
          goal: acknowledge ? .none : .atMost(3)))
      figures.append(Figure("warm opens over ipc://, 256 in flight, \(what)", Statistics.median(rates), "/s"))
    }
    return figures
  }

  static func cold(_ settings: Settings) async throws -> [Figure] {
    let before = try Command.openSSLPrivateOperations(settings)
    // One thread for one core: with more, two of them share what is one core in hardware on many machines.
    let bench = try WorkerBench(settings, clients: 1, coldThreads: 1)
    defer { bench.stop() }
    let pid = try bench.deployment.pid("worker")
    guard let known = bench.clients.first else { throw Trouble("no client") }
    let total = settings.count(1500)
    var rates: [Double] = []
    var wall: [Double] = []
    for _ in 0..<3 {
      let requests = try (0..<total).map { _ in
        let client = try LoadClient(key: known.key, nonce: known.nonce, server: bench.deployment.serverKey())
        return WorkerRequest.open(
          body: try client.seal(list: [UInt8](repeating: 65, count: 1024)), acknowledge: false)
      }
      let start = try ProcessStatus.cpuSeconds(pid)
      wall.append(Double(total) / (try RequestPump(bench.link, requests, total: total).run(window: 64)))
      let used = try ProcessStatus.cpuSeconds(pid) - start
      if used > 0 { rates.append(Double(total) / used) }
    }
    let after = try Command.openSSLPrivateOperations(settings)
    return [
      Figure(
        "cold opens of 1 KiB over ipc://, one worker core", Statistics.median(rates), "/s",
        limit: ("openssl speed rsa2048, private", (before + after) / 2), goal: .ratioAtLeast(0.9)),
      Figure("cold opens of 1 KiB over ipc://, one cold thread, wall time", Statistics.median(wall), "/s"),
    ]
  }
}
