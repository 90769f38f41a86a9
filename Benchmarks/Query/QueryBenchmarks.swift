import Foundation
import Synchronization
import VQL

extension Benchmark {
  static let queries = Benchmark(
    name: "queries", abstract: "Ten VQL queries on one core, in rows read per second.", run: QueryBenchmarks.run)
}

enum QueryBenchmarks {
  private struct Query: Sendable {
    let name: String
    let rows: Int
    let text: String
  }

  private static let queries = [
    Query(name: "filter", rows: 1_000_000, text: "SELECT * FROM range(end=1000000) WHERE _value % 3 = 0"),
    Query(
      name: "string work", rows: 200_000,
      text: "SELECT upcase(string=format(format='row %d of %s', args=[_value, 'host'])) AS S FROM range(end=200000)"),
    Query(
      name: "regex", rows: 200_000,
      text: "SELECT _value FROM range(end=200000) WHERE str(str=_value) =~ '7[0-9]+5$'"),
    Query(
      name: "regex_replace", rows: 200_000,
      text: """
        SELECT regex_replace(source='host-01.example.org', re='[0-9]+', replace='N') AS R FROM range(end=200000)
        """),
    Query(
      name: "dicts", rows: 200_000,
      text: "SELECT dict(a=_value, b=_value * 2, c='x').b AS B FROM range(end=200000)"),
    Query(
      name: "GROUP BY", rows: 300_000,
      text: "SELECT _value % 100 AS K, count() AS N, sum(item=_value) AS S FROM range(end=300000) GROUP BY K"),
    Query(
      name: "foreach", rows: 300_000,
      text: """
        SELECT A + B AS C FROM foreach(
          row={ SELECT _value AS A FROM range(end=1000) }, query={ SELECT A, _value AS B FROM range(end=300) })
        """),
    Query(
      name: "LET function", rows: 200_000,
      text: "LET f(x) = x * 2 + 1  SELECT f(x=_value) AS F FROM range(end=200000)"),
    Query(
      name: "if", rows: 300_000,
      text: "SELECT if(condition=_value % 2 = 0, then='even', else='odd') AS P FROM range(end=300000)"),
    Query(
      name: "ORDER BY LIMIT", rows: 300_000,
      text: "SELECT _value, _value % 7919 AS K FROM range(end=300000) ORDER BY K DESC LIMIT 10"),
  ]

  static func run(_ settings: Settings) async throws -> [Figure] {
    let rounds = settings.quick ? 2 : 3
    var figures: [Figure] = []
    for (index, query) in queries.enumerated() {
      let name = "VQL \(query.name)"
      do {
        let rates = try measure(query, rounds: rounds)
        figures.append(
          Figure(
            name, Statistics.median(rates), "rows/s", goal: .atLeast(index == 0 ? 1_000_000 : 200_000),
            note: "`\(query.text.split(whereSeparator: { $0 == "\n" || $0 == " " }).joined(separator: " "))`"))
      } catch {
        figures.append(.failed(name, "\(error)", goal: .atLeast(200_000)))
      }
    }
    return figures
  }

  /// Rows per second of processor time, on a thread with the stack that the agent gives to its queries.
  private static func measure(_ query: Query, rounds: Int) throws -> [Double] {
    let result = Mutex<Result<[Double], any Error>>(.success([]))
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
      let found = Result { try (0...rounds).map { _ in try once(query) } }
      result.withLock { $0 = found }
      done.signal()
    }
    thread.stackSize = 8 << 20
    thread.start()
    guard done.wait(timeout: .now() + .seconds(90)) == .success else { throw Trouble("took longer than 90 s") }
    // The first one warms up.
    return Array(try result.withLock { $0 }.get().dropFirst())
  }

  private static func once(_ query: Query) throws -> Double {
    let session = VQLSession(options: VQLSessionOptions())
    defer { session.close() }
    var text: [UInt8] = []
    let start = Clock.threadCPU()
    try session.run(query.text) { row in
      text.removeAll(keepingCapacity: true)
      row.appendJSON(to: &text)
      return .more
    }
    let seconds = Double(Clock.threadCPU() - start) / 1e9
    return seconds > 0 ? Double(query.rows) / seconds : 0
  }
}
