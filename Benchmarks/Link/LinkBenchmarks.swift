import Envelope
import Foundation
import PKI
import PublicIdentity
import Synchronization
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
  /// Keeps some requests in flight until all are answered.
  private final class Pump: Sendable {
    private struct State {
      var next = 0
      var answered = 0
      var failed = 0
    }

    private let link: WorkerLink
    private let requests: [WorkerRequest]
    private let total: Int
    private let state = Mutex(State())
    private let done = DispatchSemaphore(value: 0)

    init(_ link: WorkerLink, _ requests: [WorkerRequest], total: Int) {
      self.link = link
      self.requests = requests
      self.total = total
    }

    /// - Returns: seconds.
    func run(window: Int) throws -> Double {
      let start = Clock.now()
      for _ in 0..<min(window, total) { submit() }
      guard done.wait(timeout: .now() + .seconds(60)) == .success else { throw Trouble("answers are missing") }
      let failed = state.withLock { $0.failed }
      guard failed == 0 else { throw Trouble("\(failed) of \(total) requests failed") }
      return Clock.seconds(since: start)
    }

    private func submit() {
      let number = state.withLock { state -> Int? in
        guard state.next < total else { return nil }
        state.next += 1
        return state.next - 1
      }
      guard let number else { return }
      link.submit(requests[number % requests.count], timeout: 30_000) { [self] outcome in
        let ended = state.withLock { state in
          if case .reply(.opened) = outcome {} else { state.failed += 1 }
          state.answered += 1
          return state.answered == total
        }
        if ended { done.signal() } else { submit() }
      }
    }
  }

  /// A worker process and a link to it.
  private struct Bench {
    let deployment: Deployment
    let link: WorkerLink
    let clients: [LoadClient]

    init(_ settings: Settings, clients count: Int) throws {
      deployment = try Deployment(settings)
      try deployment.startWorker()
      link = try WorkerLink(
        endpoints: [deployment.workerEndpoint], routingSecret: [UInt8](repeating: 1, count: 32), notes: { _ in })
      clients = try deployment.clients(ClientKeys.make(count))
      try meet()
    }

    /// Makes the sessions known to the worker.
    private func meet() throws {
      let end = Clock.now() + 10_000_000_000
      while link.snapshot.usableWorkers.isEmpty, Clock.now() < end { usleep(5000) }
      let requests = try clients.map {
        WorkerRequest.confirm(
          body: try $0.seal([LoadClient.checkIn]), publicKey: $0.key.publicKey.pkcs1DER, acknowledge: true)
      }
      _ = try Pump(link, requests, total: requests.count).run(window: 16)
    }

    func stop() {
      link.stop()
      deployment.stop()
    }
  }

  static func warm(_ settings: Settings) async throws -> [Figure] {
    let bench = try Bench(settings, clients: 16)
    defer { bench.stop() }
    let pid = try bench.deployment.pid("worker")
    var figures: [Figure] = []
    for acknowledge in [false, true] {
      let list = [UInt8](repeating: 65, count: 1024)
      let requests = try bench.clients.map {
        WorkerRequest.open(body: try $0.seal(list: list), acknowledge: acknowledge)
      }
      // The warm-up says how many messages a round takes.
      let warmUp = try Pump(bench.link, requests, total: 10_000).run(window: 256)
      let total = max(10_000, min(300_000, Int(10_000 / warmUp * settings.seconds(1.2))))
      var rates: [Double] = []
      var costs: [Double] = []
      for _ in 0..<settings.rounds {
        let before = try ProcessStatus.cpuSeconds(pid)
        rates.append(Double(total) / (try Pump(bench.link, requests, total: total).run(window: 256)))
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
    let bench = try Bench(settings, clients: 1)
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
      wall.append(Double(total) / (try Pump(bench.link, requests, total: total).run(window: 64)))
      let used = try ProcessStatus.cpuSeconds(pid) - start
      if used > 0 { rates.append(Double(total) / used) }
    }
    let after = try Command.openSSLPrivateOperations(settings)
    return [
      Figure(
        "cold opens of 1 KiB over ipc://, one worker core", Statistics.median(rates), "/s",
        limit: ("openssl speed rsa2048, private", (before + after) / 2), goal: .ratioAtLeast(0.9)),
      Figure("cold opens of 1 KiB over ipc://, the whole machine", Statistics.median(wall), "/s"),
    ]
  }
}
