import XCTest

@testable import crypto_worker

/// C-18: `enrollments_per_second`.
final class UnwrapPaceTests: XCTestCase {
  func testABurstIsFreeAndTheRestWaits() {
    var pace = UnwrapPace(perSecond: 100)
    for _ in 0..<100 { XCTAssertEqual(pace.reserve(now: 0, within: 20_000), 0) }
    XCTAssertEqual(pace.reserve(now: 0, within: 20_000), 10)
    XCTAssertEqual(pace.reserve(now: 0, within: 20_000), 20)
    XCTAssertEqual(pace.reserve(now: 30, within: 20_000), 0, "turns come with time")
    XCTAssertEqual(pace.reserve(now: 60_000, within: 20_000), 0)
  }

  /// 500 new sessions at 100 a second: the last one waits four seconds.
  func testFiveHundredSessions() {
    var pace = UnwrapPace(perSecond: 100)
    let waits = (0..<500).compactMap { _ in pace.reserve(now: 7, within: 20_000) }
    XCTAssertEqual(waits.count, 500)
    XCTAssertEqual(waits.max(), 4_000)
  }

  func testATurnThatComesTooLateIsNotTaken() {
    var pace = UnwrapPace(perSecond: 1)
    for _ in 0..<100 { _ = pace.reserve(now: 0, within: 0) }
    XCTAssertEqual(pace.reserve(now: 0, within: 1_000), 1_000)
    XCTAssertNil(pace.reserve(now: 0, within: 1_000))
    XCTAssertEqual(pace.reserve(now: 0, within: 2_000), 2_000, "the refused one took no turn")
  }

  func testTimeThatStandsStillOrRunsBack() {
    var pace = UnwrapPace(perSecond: 10)
    for _ in 0..<100 { _ = pace.reserve(now: 500, within: 0) }
    XCTAssertEqual(pace.reserve(now: 400, within: 1_000), 100)
    XCTAssertEqual(pace.reserve(now: 500, within: 1_000), 200)
  }
}
