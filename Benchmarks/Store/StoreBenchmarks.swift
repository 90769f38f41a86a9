import Foundation
import PublicIdentity
import Store
import Synchronization
import Wire

extension Benchmark {
  static let storeRows = Benchmark(
    name: "store-rows", abstract: "Rows of 500 bytes stored durably for 64 concurrent senders, against raw SQLite.",
    run: StoreBenchmarks.rows)
}

enum StoreBenchmarks {
  private static let senders = 64
  private static let rowBytes = 500

  static func rows(_ settings: Settings) async throws -> [Figure] {
    let folder = settings.scratch.appendingPathComponent("store")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let store = try await SQLiteStore.open(location: folder.path + "/ours")
    let raw = try RawSQLite(path: folder.path + "/raw.db", rowBytes: rowBytes)
    let names = try (0..<senders).map { number -> ClientName in
      let digits = String(number, radix: 16)
      guard let id = ClientID("C." + String(repeating: "0", count: 16 - digits.count) + digits) else {
        throw Trouble("client id")
      }
      return ClientName(id: id)
    }
    for name in names {
      try await store.enroll(name, publicKeyPEM: "-----BEGIN RSA PUBLIC KEY-----\n", at: .now(), address: "")
    }
    var (limits, single, many): ([Double], [Double], [Double]) = ([], [], [])
    for round in 0..<(settings.rounds + 1) {
      let limit = try await blocking { try rawRate(raw, seconds: settings.seconds(0.6)) }
      let bodies = settings.count(150)
      let one = try await rate(store, names, round: round * 2, bodies: bodies, rowsPerBody: 1)
      let ten = try await rate(store, names, round: round * 2 + 1, bodies: bodies / 3, rowsPerBody: 10)
      // The first round warms up.
      guard round > 0 else { continue }
      limits.append(limit)
      single.append(one)
      many.append(ten)
    }
    await store.close()
    let limit = (name: "raw SQLite FULL, 64 rows a commit", value: Statistics.median(limits))
    return [
      Figure(
        "rows of 500 B stored durably, 64 senders, one row a body", Statistics.median(single), "/s", limit: limit,
        goal: .ratioAtLeast(0.5)),
      // Without a limit: raw SQLite at 64 rows a commit is another amount of work.
      Figure("rows of 500 B stored durably, 64 senders, ten rows a body", Statistics.median(many), "/s"),
    ]
  }

  private static func blocking<Value>(_ body: () throws -> Value) async rethrows -> Value { try body() }

  private static func rawRate(_ raw: RawSQLite, seconds: Double) throws -> Double {
    let start = Clock.now()
    var rows = 0
    repeat {
      try raw.commit(rows: 64)
      rows += 64
    } while Clock.seconds(since: start) < seconds
    return Double(rows) / Clock.seconds(since: start)
  }

  /// Rows per second of all senders; each sends its next body after the last one is durable.
  private static func rate(
    _ store: SQLiteStore, _ names: [ClientName], round: Int, bodies: Int, rowsPerBody: Int
  ) async throws -> Double {
    let prepared = try names.map { name in
      try (0..<max(1, bodies)).map { try submission(name, round: round, number: $0, rows: rowsPerBody) }
    }
    let start = Clock.now()
    let stored = try await withThrowingTaskGroup(of: Int.self) { group in
      for submissions in prepared {
        group.addTask {
          var rows = 0
          for submission in submissions { rows += try await store.ingest(submission).rows }
          return rows
        }
      }
      return try await group.reduce(0, +)
    }
    let seconds = Clock.seconds(since: start)
    let expected = names.count * max(1, bodies) * rowsPerBody
    guard stored == expected else { throw Trouble("\(stored) of \(expected) rows were stored") }
    return Double(stored) / seconds
  }

  private static func submission(_ name: ClientName, round: Int, number: Int, rows: Int) throws -> Submission {
    var job = Proto_VeloMessage()
    job.sessionID = FlowID.make(at: Timestamp(seconds: 1_800_000_000), random: UInt32(round)).text
    job.source = name.description
    job.vqlresponse.query.name = "Custom.Query"
    let text = String(repeating: "a", count: rowBytes - 30)
    job.vqlresponse.jsonlresponse = (0..<rows).map { "{\"n\":\(number * rows + $0),\"t\":\"\(text)\"}\n" }.joined()
    job.vqlresponse.totalRows = UInt64(rows)
    job.vqlresponse.queryStartRow = UInt64(number * rows)
    let bytes = try MessageListCodec.serialize([job])
    return Submission(
      client: name, remoteAddress: "192.0.2.1:5000", receivedAt: .now(),
      lists: [ReceivedList(bytes: bytes, jobs: [job])])
  }
}
