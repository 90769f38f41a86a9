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
    /// Read from sources.
    let rows: Int
    /// How many rows leave the query, and the last one: a query that fails gives NULL or nothing, and is fast.
    let results: Int
    let last: String
    let text: String
  }

  /// The language has no remainder operator, so the filter multiplies and compares.
  private static let queries = [
    Query(
      name: "filter", rows: 1_000_000,
      results: 333_333, last: #"{"_value":999999}"#,
      text: "SELECT * FROM range(end=1000000) WHERE _value * 3 > 2000000"),
    Query(
      name: "string work", rows: 200_000,
      results: 200_000, last: #"{"S":"ROW 199999 OF HOST"}"#,
      text: "SELECT upcase(string=format(format='row %d of %s', args=[_value, 'host'])) AS S FROM range(end=200000)"),
    Query(
      name: "regex", rows: 200_000,
      results: 5420, last: #"{"_value":199795}"#,
      text: "SELECT _value FROM range(end=200000) WHERE str(str=_value) =~ '7[0-9]+5$'"),
    Query(
      name: "regex_replace", rows: 200_000,
      results: 200_000, last: #"{"R":"host-N.example.org"}"#,
      text: """
        SELECT regex_replace(source='host-01.example.org', re='[0-9]+', replace='N') AS R FROM range(end=200000)
        """),
    Query(
      name: "dicts", rows: 200_000,
      results: 200_000, last: #"{"B":399998}"#,
      text: "SELECT dict(a=_value, b=_value * 2, c='x').b AS B FROM range(end=200000)"),
    Query(
      name: "GROUP BY, 100 groups", rows: 300_000,
      results: 100, last: #"{"K":"99","N":1111,"S":100504494}"#,
      text: """
        SELECT substr(str=str(str=_value), start=0, end=2) AS K, count() AS N, sum(item=_value) AS S
        FROM range(end=300000) GROUP BY K
        """),
    Query(
      name: "foreach", rows: 300_000,
      results: 300_000, last: #"{"C":1298}"#,
      text: """
        SELECT A + B AS C FROM foreach(
          row={ SELECT _value AS A FROM range(end=1000) }, query={ SELECT A, _value AS B FROM range(end=300) })
        """),
    Query(
      name: "LET function", rows: 200_000,
      results: 200_000, last: #"{"F":399999}"#,
      text: "LET f(x) = x * 2 + 1  SELECT f(x=_value) AS F FROM range(end=200000)"),
    Query(
      name: "if", rows: 300_000,
      results: 300_000, last: #"{"P":"even"}"#,
      text: "SELECT if(condition=_value > 150000, then='even', else='odd') AS P FROM range(end=300000)"),
    Query(
      name: "ORDER BY LIMIT", rows: 300_000,
      results: 10, last: #"{"_value":299990,"K":-292071}"#,
      text: "SELECT _value, 7919 - _value AS K FROM range(end=300000) ORDER BY K LIMIT 10"),
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
    var results = 0
    let start = Clock.threadCPU()
    try session.run(query.text) { row in
      text.removeAll(keepingCapacity: true)
      row.appendJSON(to: &text)
      results += 1
      return .more
    }
    let seconds = Double(Clock.threadCPU() - start) / 1e9
    let last = String(decoding: text, as: UTF8.self)
    guard results == query.results, last == query.last else {
      throw Trouble("wrong result: \(results) rows, the last one \(last); expected \(query.results), \(query.last)")
    }
    return seconds > 0 ? Double(query.rows) / seconds : 0
  }
}
