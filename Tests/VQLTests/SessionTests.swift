import Foundation
import XCTest

@testable import VQL

final class SessionTests: XCTestCase {
  func testSyntaxErrorRunsNothing() throws {
    let log = LogBook()
    XCTAssertThrowsError(try rows("SELECT log(message='ran') FROM scope() SELECT FROM", log: log))
    XCTAssertFalse(log.all.contains("ran"))
  }

  func testLimitStopsTheSource() throws {
    let session = VQLSession(options: VQLSessionOptions())
    var count = 0
    try session.run("SELECT * FROM range(end=1000000000) LIMIT 3") { _ in
      count += 1
      return .more
    }
    XCTAssertEqual(count, 3)
    XCTAssertLessThan(session.statistics.rowsScanned, 10)
  }

  func testSinkMayStop() throws {
    let session = VQLSession(options: VQLSessionOptions())
    var count = 0
    try session.run("SELECT * FROM range(end=1000000000)") { _ in
      count += 1
      return count < 5 ? .more : .stop
    }
    XCTAssertEqual(count, 5)
  }

  func testUnreadColumnsAreNotComputed() throws {
    let log = LogBook()
    XCTAssertEqual(
      try rows("SELECT log(message='costly', dedup=-1) AS L, _value FROM range(end=3) WHERE _value = 9", log: log), [])
    XCTAssertFalse(log.all.contains("costly"))
  }

  func testConfigurationAnswersToBothSpellings() throws {
    var options = VQLSessionOptions()
    options.config = .dict([("version", .dict([("build_time", .string("now"))]))])
    let session = VQLSession(options: options)
    var found: [String] = []
    try session.run("SELECT config.Version.BuildTime AS A, config.version.build_time AS B FROM scope()") { row in
      found += [row["A"]?.string ?? "", row["B"]?.string ?? ""]
      return .more
    }
    XCTAssertEqual(found, ["now", "now"])
  }

  func testCancellationEndsALongQuery() throws {
    let session = VQLSession(options: VQLSessionOptions())
    let timer = Thread {
      usleep(100_000)
      session.cancel(reason: "enough")
    }
    timer.start()
    let start = Date()
    XCTAssertThrowsError(try session.run("SELECT sleep(time=60) FROM range(end=100)") { _ in .more }) { error in
      XCTAssertEqual((error as? VQLError)?.code, .cancelled)
      XCTAssertEqual((error as? VQLError)?.message, "enough")
    }
    XCTAssertLessThan(Date().timeIntervalSince(start), 1)
  }

  func testCancellationKillsAProgram() throws {
    let session = VQLSession(options: VQLSessionOptions())
    let timer = Thread {
      usleep(100_000)
      session.cancel(reason: "enough")
    }
    timer.start()
    let start = Date()
    XCTAssertThrowsError(try session.run("SELECT * FROM execve(argv=['/bin/sleep', '60'])") { _ in .more })
    XCTAssertLessThan(Date().timeIntervalSince(start), 1)
  }

  func testThrottleErrorsEndTheQuery() throws {
    struct Limit: Error {}
    var options = VQLSessionOptions()
    options.throttle = { throw Limit() }
    let session = VQLSession(options: options)
    XCTAssertThrowsError(try session.run("SELECT * FROM range(end=3)") { _ in .more }) { XCTAssertTrue($0 is Limit) }
  }

  func testEndlessRecursionIsStopped() throws {
    let log = LogBook()
    XCTAssertEqual(try rows("LET f(n) = f(n=n + 1) SELECT f(n=1) AS A FROM scope()", log: log), ["{\"A\":null}"])
    XCTAssertEqual(log.all.first, "Stack Overflow: SELECT f(n=1) AS A FROM scope()")
    XCTAssertEqual(log.all.count { $0.hasPrefix("Stack") }, 1)
    _ = try rows("LET x = x SELECT x AS A FROM scope()")
    _ = try rows("LET q = SELECT * FROM q SELECT * FROM q")
    _ = try rows("LET r(n) = SELECT * FROM foreach(row={ SELECT * FROM r(n=n) }) SELECT * FROM r(n=1)")
    _ = try rows("LET a = eval(func='x=>a', args=1) SELECT a FROM scope()")
  }

  /// Found by the fuzzer: a definition that names itself twice doubles the work at each level.
  func testBranchingRecursionIsStopped() throws {
    let start = Date()
    _ = try rows("LET B = get(field='B') = TRUE OR get(field='B') =~ '^(Y|TRUE)$' SELECT B FROM scope()")
    _ = try rows("LET f(n) = f(n=n + 1) + f(n=n + 2) SELECT f(n=1) AS A FROM scope()")
    XCTAssertLessThan(Date().timeIntervalSince(start), 20)
  }

  /// Recursion that branches without ever getting deep ends when the session is cancelled.
  func testCancellationEndsAnExpression() throws {
    let session = VQLSession(options: VQLSessionOptions())
    let timer = Thread {
      usleep(200_000)
      session.cancel(reason: "enough")
    }
    timer.start()
    let start = Date()
    XCTAssertThrowsError(
      try session.run(
        "LET f(n) = if(condition=n > 0, then=f(n=n - 1) + f(n=n - 1), else=1) SELECT f(n=60) AS A FROM scope()"
      ) { _ in .more })
    XCTAssertLessThan(Date().timeIntervalSince(start), 5)
  }

  /// Sessions state a least stack of 1 MiB: deep text, deep recursion and deep values must fit into it.
  func testSmallStacksAreEnough() throws {
    let nested = String(repeating: "(", count: 90) + "1" + String(repeating: ")", count: 90)
    let json = String(repeating: "[", count: 190) + String(repeating: "]", count: 190)
    let queries = [
      "SELECT \(nested) AS A FROM scope()", "LET f(n) = f(n=n + 1) SELECT f(n=1) AS A FROM scope()",
      "LET f(n, x) = if(condition=n > 0, then=f(n=n - 1, x=(x,)), else=x) SELECT f(n=900, x=1) AS A FROM scope()",
      "LET r(n) = SELECT * FROM if(condition=n > 0, then={ SELECT * FROM chain(a={ SELECT * FROM r(n=n - 1) }) }) "
        + "SELECT * FROM r(n=900)",
      "SELECT parse_json_array(data='\(json)') AS A FROM scope()",
      "LET c <= lru() SELECT set(item=c, field='a', value=(c.a, 1)) AS A FROM range(end=5000)",
      "LET a = (a,) SELECT a FROM scope()", "LET q = SELECT q.x AS x FROM scope() SELECT * FROM q",
    ]
    for query in queries { _ = try onLargeStack(size: 1 << 20) { try Self.run(query) } }
  }

  private static func run(_ query: String) throws -> Int {
    let session = VQLSession(options: VQLSessionOptions())
    defer { session.close() }
    var count = 0
    try session.run(query) { row in
      var text: [UInt8] = []
      row.appendJSON(to: &text)
      count += 1
      return .more
    }
    return count
  }

  func testCyclesAreRefused() throws {
    XCTAssertEqual(
      try rows("LET d <= dict(a=1) LET e <= set(item=d, field='me', value=d) SELECT e FROM scope()"), ["{\"e\":null}"])
  }

  func testOrderByRespectsTheMemoryLimit() throws {
    let log = LogBook()
    _ = try rows("SELECT _value FROM range(end=100000) ORDER BY _value", log: log, limit: 100_000)
    XCTAssertTrue(log.all.contains { $0.hasPrefix("ERROR:ORDER BY exceeds the memory limit") })
  }

  func testIntegersNeverTrap() throws {
    XCTAssertEqual(
      try rows(
        "LET m = 0 - 9223372036854775807 - 1 SELECT m - 1 AS A, m * -1 AS B, -m AS C, int(int=1e300) AS D, "
          + "substr(str='abc', start=1, end=9223372036854775807) AS E FROM scope()"),
      [
        "{\"A\":9223372036854775807,\"B\":-9223372036854775808,\"C\":-9223372036854775808,"
          + "\"D\":-9223372036854775808,\"E\":\"bc\"}"
      ])
    XCTAssertEqual(try rows("SELECT * FROM range(start=9223372036854775806, end=9223372036854775807, step=5)").count, 1)
  }

  func testInvalidTextBecomesReplacementCharacters() throws {
    XCTAssertEqual(try rows("SELECT 'a\\xff\\xfeb<' AS A FROM scope()"), ["{\"A\":\"a\u{FFFD}\u{FFFD}b\\u003c\"}"])
  }
}
