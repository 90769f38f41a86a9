import Foundation
import PublicIdentity
import Store
import Wire

extension Benchmark {
  static let largeStore = Benchmark(
    name: "store-large",
    abstract:
      "What operators and readers ask of a store with 100,000 clients and 1,000,000 flows, against a small one.",
    run: LargeStoreBenchmarks.run)
}

/// The same calls on a store of 1,000 clients and on one of 100,000, ten flows each. With indexes both take about as
/// long; a scan would take a hundred times as long.
enum LargeStoreBenchmarks {
  private static let small = 1_000
  private static let flowsPerClient = 10

  private struct Times {
    var clients: [Double] = []
    var search: [Double] = []
    var flows: [Double] = []
    var drain: [Double] = []
    var contact: [Double] = []
  }

  static func run(_ settings: Settings) async throws -> [Figure] {
    let large = settings.quick ? 20_000 : 100_000
    let little = try await times(settings, clients: small)
    let much = try await times(settings, clients: large)
    let limit = "the same with \(small) clients"
    func figure(_ name: String, _ path: KeyPath<Times, [Double]>) -> Figure {
      Figure(
        "\(name), \(large) clients with \(flowsPerClient) flows each", Statistics.median(much[keyPath: path]) * 1e6,
        "µs", limit: (name: limit, value: Statistics.median(little[keyPath: path]) * 1e6), goal: .ratioAtMost(3))
    }
    return [
      figure("page of 100 clients", \.clients), figure("clients by the beginning of a host name", \.search),
      figure("flows of a client", \.flows), figure("drain: tasks leased to a reader", \.drain),
      figure("check-in: last contact stored", \.contact),
    ]
  }

  private static func name(_ number: Int) throws -> ClientName {
    // Ids are hashes: neighbours in time are none in the index.
    let mixed = UInt64(number + 1) &* 0x9E37_79B9_7F4A_7C15
    let digits = String(mixed, radix: 16)
    guard let id = ClientID("C." + String(repeating: "0", count: 16 - digits.count) + digits) else {
      throw Trouble("client id")
    }
    return ClientName(id: id)
  }

  private static func times(_ settings: Settings, clients count: Int) async throws -> Times {
    let folder = settings.scratch.appendingPathComponent("store-\(count)")
    let store = try await SQLiteStore.open(location: folder.path)
    try await fill(store, count)
    var times = Times()
    for round in 0..<200 {
      let client = try name((round &* 7_919) % count)
      var page = ClientFilter()
      page.limit = 100
      page.after = client.id.rawValue
      times.clients.append(try await timed { _ = try await store.clients(page) })
      var search = ClientFilter()
      search.search = "host-\((round &* 7_919) % count)x"
      times.search.append(try await timed { _ = try await store.clients(search) })
      times.flows.append(try await timed { _ = try await store.flows(of: client, limit: 100) })
      times.drain.append(try await timed { _ = try await store.leaseTasks(for: client, now: .now()) })
      let checkIn = try submission(client, "E.Foreman") { $0.foremanCheckin = Proto_ForemanCheckin() }
      times.contact.append(try await timed { _ = try await store.ingest(checkIn) })
    }
    await store.close()
    try FileManager.default.removeItem(at: folder)
    return times
  }

  private static func timed(_ body: () async throws -> Void) async throws -> Double {
    let start = Clock.now()
    try await body()
    return Clock.seconds(since: start)
  }

  /// Through the store's own calls, a thousand clients at a time.
  private static func fill(_ store: SQLiteStore, _ count: Int) async throws {
    for start in stride(from: 0, to: count, by: 1_000) {
      let numbers = start..<min(start + 1_000, count)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in numbers {
          group.addTask {
            let client = try name(number)
            try await store.enroll(client, publicKeyPEM: "-----BEGIN RSA PUBLIC KEY-----\n", at: .now(), address: "")
            let facts = try submission(client, FlowText.monitoring) {
              $0.vqlresponse.query.name = "Server.Internal.ClientInfo"
              $0.vqlresponse.jsonlresponse = "{\"hostname\":\"host-\(number)x\",\"system\":\"linux\"}\n"
            }
            _ = try await store.ingest(facts)
          }
        }
        try await group.waitForAll()
      }
      var tasks: [NewTask] = []
      for number in numbers {
        let client = try name(number)
        for flow in 0..<flowsPerClient {
          var message = Proto_VeloMessage()
          message.sessionID = FlowID.make(at: Timestamp(seconds: 1_800_000_000), random: UInt32(flow)).text
          message.flowRequest.maxRows = 1
          tasks.append(NewTask(client: client, message: message))
        }
      }
      try await store.queue(tasks, by: Operator(name: "benchmark", origin: ""))
    }
  }

  private enum FlowText { static let monitoring = "F.Monitoring" }

  private static func submission(
    _ client: ClientName, _ session: String, _ fill: (inout Proto_VeloMessage) -> Void
  ) throws -> Submission {
    var job = Proto_VeloMessage()
    job.sessionID = session
    fill(&job)
    return Submission(
      client: client, remoteAddress: "192.0.2.1:5000", receivedAt: .now(),
      lists: [ReceivedList(bytes: try MessageListCodec.serialize([job]), jobs: [job])])
  }
}
