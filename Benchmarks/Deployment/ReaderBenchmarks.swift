import Foundation
import PublicIdentity
import Store
import Wire

extension Benchmark {
  static let idleReaders = Benchmark(
    name: "idle-readers", abstract: "Memory of a frontend for each waiting reader.", run: ReaderBenchmarks.idle)
  static let taskLatency = Benchmark(
    name: "task-latency", abstract: "From queueing a task to its first byte at a reader of another frontend.",
    run: ReaderBenchmarks.latency)
}

enum ReaderBenchmarks {
  /// Handshakes under way at a time.
  private static let batch = 64

  static func idle(_ settings: Settings) async throws -> [Figure] {
    var limits = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
    let possible = max(1, Int(clamping: limits.rlim_cur) - 500)
    let count = min(settings.readers, possible)
    let deployment = try Deployment(settings)
    defer { deployment.stop() }
    // The first few warm up what a frontend needs only once.
    let clients = try deployment.clients(ClientKeys.make(count + batch))
    try await deployment.enroll(clients)
    try deployment.startAll()
    let slots = try clients.map { ReaderSlot(body: try $0.seal([LoadClient.checkIn])) }
    let load = try ReaderLoad()
    do {
      let figures = try await idle(deployment, slots, load)
      await load.stop()
      return figures
    } catch {
      await load.stop()
      throw error
    }
  }

  private static func idle(
    _ deployment: Deployment, _ slots: [ReaderSlot], _ load: ReaderLoad
  ) async throws -> [Figure] {
    guard let port = deployment.ports.first else { throw Trouble("no frontend") }
    let pid = try deployment.pid("frontend-1")
    try await open(slots.prefix(batch), load, port)
    try await Task.sleep(for: .seconds(1))
    let (before, start) = (try ProcessStatus.residentBytes(pid), Clock.now())
    var next = batch
    while next < slots.count {
      let end = min(slots.count, next + batch)
      try await open(slots[next..<end], load, port)
      next = end
    }
    let seconds = Clock.seconds(since: start)
    try await Task.sleep(for: .seconds(2))
    let open = slots.dropFirst(batch).filter(\.isOpen).count
    let readers = slots.count - batch
    guard open == readers else { throw Trouble("\(readers - open) of \(readers) readers ended") }
    let each = (try ProcessStatus.residentBytes(pid) - before) / Double(readers)
    return [
      Figure(
        "memory of the frontend for each idle reader, \(Number.text(Double(readers))) readers", each / 1024, "KiB",
        goal: .atMost(28)),
      Figure("new agents (handshake, cold open, check-in) until waiting", Double(readers) / seconds, "/s"),
    ]
  }

  private static func open(_ slots: ArraySlice<ReaderSlot>, _ load: ReaderLoad, _ port: Int) async throws {
    let start = Clock.now()
    for slot in slots { try await load.connect(slot, port: port) }
    for slot in slots { try slot.waitUntilOpen(seconds: 20) }
    // Frontends take at most 1,000 connections a second.
    let least = Double(slots.count) / 900
    let used = Clock.seconds(since: start)
    if used < least { try await Task.sleep(for: .seconds(least - used)) }
  }

  // MARK: latency

  static func latency(_ settings: Settings) async throws -> [Figure] {
    let deployment = try Deployment(settings, frontends: 2)
    defer { deployment.stop() }
    let clients = try deployment.clients(ClientKeys.make(10))
    try await deployment.enroll(clients)
    try deployment.startAll()
    let slots = try clients.map { ReaderSlot(body: try $0.seal([LoadClient.checkIn])) }
    let load = try ReaderLoad()
    do {
      let found = try await latencies(deployment, clients, slots, load, count: settings.quick ? 100 : 200)
      await load.stop()
      return [
        Figure(
          "task queued → first byte at the agent, SQLite, p50 of \(found.count)", Statistics.percentile(found, 0.5),
          "ms", goal: .atMost(10), note: "from the call to queue it, its commit included"),
        Figure(
          "task queued → first byte at the agent, SQLite, p99 of \(found.count)", Statistics.percentile(found, 0.99),
          "ms", goal: .atMost(50)),
      ]
    } catch {
      await load.stop()
      throw error
    }
  }

  /// Milliseconds of each task. The store is opened by this process, as the operator's command does it.
  private static func latencies(
    _ deployment: Deployment, _ clients: [LoadClient], _ slots: [ReaderSlot], _ load: ReaderLoad, count: Int
  ) async throws -> [Double] {
    guard let port = deployment.ports.last else { throw Trouble("no frontend") }
    for slot in slots { try await load.connect(slot, port: port) }
    let store = try await deployment.openStore()
    var found: [Double] = []
    for number in 0..<(count + clients.count) {
      let (slot, client) = (slots[number % slots.count], clients[number % clients.count])
      try slot.waitUntilOpen(seconds: 20)
      slot.forgetFirstByte()
      let start = Clock.now()
      _ = try await store.queue(
        [NewTask(client: client.name, message: task(number))], by: Operator(name: "benchmark", origin: "localhost"))
      let end = try slot.waitForFirstByte(seconds: 20)
      // The first of each client warm up.
      if number >= clients.count { found.append(Double(end - min(start, end)) / 1e6) }
      try await Task.sleep(for: .milliseconds(10))
    }
    await store.close()
    return found
  }

  /// Urgent, so that the budget of flows in flight does not hold it back.
  private static func task(_ number: Int) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = FlowID.make(at: .now(), random: UInt32(truncatingIfNeeded: number &* 2_654_435_761)).text
    message.urgent = true
    var query = Proto_VQLRequest()
    query.vql = "SELECT * FROM info()"
    query.name = "Custom.Query"
    var action = Proto_VQLCollectorArgs()
    action.query = [query]
    message.flowRequest.vqlclientActions = [action]
    return message
  }
}
