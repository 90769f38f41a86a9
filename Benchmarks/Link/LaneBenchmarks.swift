import Foundation
import PKI
import PublicIdentity
import Synchronization
import Wire
import WorkerLink

extension Benchmark {
  static let forgedBodies = Benchmark(
    name: "forged-bodies", abstract: "Warm requests and new clients while 5,000 forged bodies a second come in.",
    run: LaneBenchmarks.forged)
  static let coldBurst = Benchmark(
    name: "cold-burst", abstract: "Warm requests while 20,000 unknown sessions arrive at once.",
    run: LaneBenchmarks.burst)
  static let workerRestart = Benchmark(
    name: "worker-restart", abstract: "RSA operations for each session, and after a restart of the worker.",
    run: LaneBenchmarks.restart)
}

/// What a worker's warm lane is worth when the cold one is flooded. All of it over ipc://, without a frontend.
enum LaneBenchmarks {
  /// Sends warm requests one after the other, a few at a time, and notes how long each takes.
  private final class Probe: Sendable {
    private struct State {
      var latencies: [Double] = []
      var failed = 0
      var isOver = false
    }

    private let link: WorkerLink
    private let requests: [WorkerRequest]
    private let state = Mutex(State())

    init(_ link: WorkerLink, _ clients: [LoadClient]) throws {
      self.link = link
      requests = try clients.map {
        .open(body: try $0.seal(list: [UInt8](repeating: 65, count: 1024)), acknowledge: true)
      }
    }

    func start(_ lanes: Int = 4) {
      state.withLock { $0 = State() }
      for lane in 0..<lanes { next(lane) }
    }

    private func next(_ number: Int) {
      guard !state.withLock({ $0.isOver }) else { return }
      let start = Clock.now()
      link.submit(requests[number % requests.count], timeout: 10_000) { [self] outcome in
        let took = Double(Clock.now() - start) / 1e6
        state.withLock { state in
          if case .reply(.opened) = outcome { state.latencies.append(took) } else { state.failed += 1 }
        }
        // Agents do not come as fast as they can: a rate far below what the worker could do.
        DispatchQueue.global(qos: .userInteractive).asyncAfter(deadline: .now() + .milliseconds(2)) {
          self.next(number + 4)
        }
      }
    }

    /// - Returns: the 99th percentile in milliseconds.
    func stop() throws -> Double {
      let (latencies, failed) = state.withLock { state in
        state.isOver = true
        return (state.latencies, state.failed)
      }
      guard failed == 0 else { throw Trouble("\(failed) warm requests failed") }
      guard latencies.count >= 100 else { throw Trouble("only \(latencies.count) warm requests were answered") }
      return Statistics.percentile(latencies, 0.99)
    }
  }

  private static func p99(_ name: String, _ value: Double, calm: Double) -> Figure {
    Figure(name, value, "ms", limit: ("the same, calm", calm), goal: .ratioAtMost(2))
  }

  // MARK: forgeries

  private static let forgeriesPerSecond = 5_000
  private static let addresses = 50

  /// A body of the right shape whose session no key ever wrapped; each number gives another.
  private static func forgery(_ template: [UInt8], _ scan: EnvelopeScan, _ number: Int) -> [UInt8] {
    var body = template
    var seed = UInt64(truncatingIfNeeded: number) &* 0x9e37_79b9_7f4a_7c15 | 1
    for index in scan.encryptedCipher.dropFirst() {
      seed ^= seed << 13
      seed ^= seed >> 7
      seed ^= seed << 17
      body[index] = UInt8(truncatingIfNeeded: seed)
    }
    // Below every modulus, so that it costs a whole decryption.
    body[scan.encryptedCipher.lowerBound] = 0
    return body
  }

  static func forged(_ settings: Settings) async throws -> [Figure] {
    let bench = try WorkerBench(settings, clients: 16)
    defer { bench.stop() }
    guard let known = bench.clients.first else { throw Trouble("no client") }
    let template = try known.seal(list: [UInt8](repeating: 65, count: 512))
    let scan = try EnvelopeScan(template)
    let seconds = settings.seconds(6)
    let bodies = (0..<Int(seconds * Double(forgeriesPerSecond)) + forgeriesPerSecond).map {
      forgery(template, scan, $0)
    }
    let newcomers = try bench.deployment.clients(ClientKeys.make(40))

    let probe = try Probe(bench.link, bench.clients)
    probe.start()
    try await Task.sleep(for: .seconds(settings.seconds(4)))
    let calm = try probe.stop()

    let operations = try bench.privateOperations()
    let flood = Task { await pour(bodies, into: bench.link) }
    try await Task.sleep(for: .milliseconds(200))
    probe.start()
    let enrolled = try await enroll(newcomers, bench.link, over: seconds)
    let under = try probe.stop()
    flood.cancel()
    let sent = await flood.value
    let spent = Double(try bench.privateOperations() - operations) - 2 * Double(enrolled)
    return [
      p99("warm opens, p99 under \(Number.text(Double(forgeriesPerSecond))) forged bodies a second", under, calm: calm),
      Figure(
        "new clients that enroll meanwhile", Double(enrolled), "", limit: ("of", Double(newcomers.count)),
        goal: .ratioAtLeast(1)),
      Figure(
        "RSA operations for each forged body", spent / Double(max(1, sent)), "",
        note: "\(sent) from \(addresses) addresses"),
    ]
  }

  /// - Returns: how many were sent.
  private static func pour(_ bodies: [[UInt8]], into link: WorkerLink) async -> Int {
    let start = Clock.now()
    var sent = 0
    while sent < bodies.count, !Task.isCancelled {
      let due = min(bodies.count, Int(Clock.seconds(since: start) * Double(forgeriesPerSecond)))
      while sent < due {
        let address = "203.0.113.\(sent % addresses)"
        link.submit(.open(body: bodies[sent], acknowledge: true, address: address), timeout: 20_000) { _ in }
        sent += 1
      }
      try? await Task.sleep(for: .milliseconds(5))
    }
    return sent
  }

  /// New clients, one after the other, as frontends let them in: an open that does not know the key, then a confirm.
  /// - Returns: how many got in.
  private static func enroll(_ clients: [LoadClient], _ link: WorkerLink, over seconds: Double) async throws -> Int {
    var enrolled = 0
    for (number, client) in clients.enumerated() {
      let body = try client.seal([LoadClient.checkIn])
      let address = "198.51.100.\(number)"
      let first = await link.request(.open(body: body, acknowledge: true, address: address), timeout: 20_000)
      if first == .reply(.unverified(source: client.name.description)) {
        let confirm = WorkerRequest.confirm(body: body, publicKey: client.key.publicKey.pkcs1DER, acknowledge: true)
        if case .reply(.opened) = await link.request(confirm, timeout: 20_000) { enrolled += 1 }
      }
      try await Task.sleep(for: .seconds(seconds / Double(clients.count)))
    }
    return enrolled
  }

  // MARK: a cold start of everybody

  static func burst(_ settings: Settings) async throws -> [Figure] {
    let count = settings.quick ? 4_000 : 20_000
    let bench = try WorkerBench(settings, clients: 17)
    defer { bench.stop() }
    guard let known = bench.clients.last else { throw Trouble("no client") }
    // Sessions of one client that the worker has never seen: each costs what a new client's costs.
    let server = try bench.deployment.serverKey()
    let made = Mutex<[WorkerRequest]>([])
    DispatchQueue.concurrentPerform(iterations: count) { _ in
      guard let client = try? LoadClient(key: known.key, nonce: known.nonce, server: server),
        let body = try? client.seal(list: [UInt8](repeating: 65, count: 1024))
      else { return }
      made.withLock { $0.append(.open(body: body, acknowledge: false)) }
    }
    let requests = made.withLock { $0 }
    guard requests.count == count else { throw Trouble("sessions could not be made") }

    let probe = try Probe(bench.link, Array(bench.clients.dropLast()))
    probe.start()
    try await Task.sleep(for: .seconds(settings.seconds(4)))
    let calm = try probe.stop()

    let pump = RequestPump(bench.link, requests, total: count, retries: true)
    let burst = Task.detached { try pump.run(window: count) }
    try await Task.sleep(for: .milliseconds(50))
    probe.start()
    let seconds = try await burst.value
    let under = try probe.stop()
    return [
      p99("warm opens, p99 while \(Number.text(Double(count))) unknown sessions arrive at once", under, calm: calm),
      Figure(
        "unknown sessions until all are opened", Double(count) / seconds, "/s",
        note: "\(pump.refused) times one was told to come again"),
    ]
  }

  // MARK: restart

  static func restart(_ settings: Settings) async throws -> [Figure] {
    let count = settings.quick ? 3_000 : 50_000
    let bench = try WorkerBench(settings, clients: count, capacity: count + 1_000)
    defer { bench.stop() }
    let first = try bench.privateOperations()
    let requests = try bench.clients.map {
      WorkerRequest.open(body: try $0.seal([LoadClient.checkIn]), acknowledge: true)
    }
    _ = try RequestPump(bench.link, requests, total: count).run(window: 256)
    let all = try bench.privateOperations()
    let worker = try bench.deployment.process("worker")
    worker.stop(seconds: 60)
    let start = Clock.now()
    try bench.deployment.startWorker()
    let took = Clock.seconds(since: start)
    try bench.waitForWorker()
    _ = try RequestPump(bench.link, requests, total: count).run(window: 256)
    let after = try bench.privateOperations()
    return [
      Figure(
        "RSA private operations for each client session", Double(all) / Double(count), "", goal: .atMost(2),
        note: "\(Number.text(Double(first))) for the first bodies and answers of \(count) clients"),
      Figure(
        "RSA operations after a restart of a worker that knows \(Number.text(Double(count))) sessions", Double(after),
        "",
        goal: .atMost(0)),
      Figure("start of that worker until it serves", took, "s"),
    ]
  }
}
