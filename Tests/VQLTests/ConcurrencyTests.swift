import Foundation
import XCTest

@testable import VQL

/// Queries that run beside each other.
final class ConcurrencyTests: XCTestCase {
  func testWorkersWaitTogether() throws {
    let start = Date()
    let found = try rows(
      "SELECT _value FROM foreach(row={ SELECT * FROM range(end=8) }, workers=8, "
        + "query={ SELECT _value, sleep(ms=500) AS S FROM scope() WHERE S }) ORDER BY _value")
    XCTAssertEqual(found, (0..<8).map { "{\"_value\":\($0)}" })
    XCTAssertLessThan(Date().timeIntervalSince(start), 3)
  }

  func testEventQueriesAreMerged() throws {
    let found = try rows(
      "SELECT * FROM combine(a={ SELECT 1 AS A FROM clock(ms=30) }, b={ SELECT 2 AS A FROM clock(ms=30) }) LIMIT 6")
    XCTAssertEqual(Set(found), ["{\"A\":1}", "{\"A\":2}"])
  }

  func testSourcesOfEventArtifactsRunTogether() throws {
    let artifact = VQLArtifact(
      name: "E", type: "CLIENT_EVENT",
      sources: [
        .init(name: "a", queries: ["SELECT 1 AS A FROM clock(ms=30)"]),
        .init(name: "b", queries: ["SELECT 2 AS A FROM clock(ms=30)"]),
      ])
    var options = VQLSessionOptions()
    options.artifacts = [artifact]
    let session = VQLSession(options: options)
    defer { session.close() }
    var found: Set<String> = []
    try session.run("SELECT * FROM Artifact.E()") { row in
      found.insert(row["_Source"]?.string ?? "")
      return found.count < 2 ? .more : .stop
    }
    XCTAssertEqual(found, ["E/a", "E/b"])
  }

  func testRowsAreDelayedFromWhenTheyCame() throws {
    let start = Date()
    XCTAssertEqual(try rows("SELECT * FROM delay(query={ SELECT * FROM range(end=5) }, delay=1)").count, 5)
    XCTAssertLessThan(Date().timeIntervalSince(start), 3)
  }

  func testQueriesHaveTimeLimits() throws {
    let start = Date()
    let found = try rows(
      "SELECT * FROM chain(a={ SELECT * FROM query(query='SELECT sleep(time=50) AS S FROM clock()', timeout=0.3) }, "
        + "b={ SELECT 1 AS A FROM scope() })")
    XCTAssertEqual(found.last, "{\"A\":1}")
    XCTAssertLessThan(Date().timeIntervalSince(start), 5)
  }

  func testBackgroundQueriesEndWithTheSession() throws {
    let start = Date()
    XCTAssertEqual(
      try rows("SELECT background(query={ SELECT * FROM clock() }) AS A FROM scope()"), ["{\"A\":null}"])
    XCTAssertLessThan(Date().timeIntervalSince(start), 3)
  }

  func testFifoKeepsTheLastRows() throws {
    let found = try rows(
      "LET F = SELECT * FROM fifo(query={ SELECT _value FROM range(end=30) }, max_rows=3) SELECT * FROM F")
    XCTAssertEqual(found, ["{\"_value\":27}", "{\"_value\":28}", "{\"_value\":29}"])
  }

  func testCancellationReachesAllThreads() throws {
    let session = VQLSession(options: VQLSessionOptions())
    let timer = Thread {
      usleep(100_000)
      session.cancel(reason: "enough")
    }
    timer.start()
    let start = Date()
    XCTAssertThrowsError(
      try session.run(
        "SELECT * FROM foreach(row={ SELECT * FROM range(end=50) }, workers=50, "
          + "query={ SELECT sleep(time=60) AS S FROM clock(ms=1) })"
      ) { _ in .more })
    XCTAssertLessThan(Date().timeIntervalSince(start), 3)
    session.close()
  }
}
