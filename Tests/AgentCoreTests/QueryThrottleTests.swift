import Foundation
import Wire
import XCTest

@testable import AgentCore

/// `cpu_limit`, `ops_per_second` and `iops_limit` (flows.md §2 step 6).
final class QueryThrottleTests: XCTestCase {
  private let start = ContinuousClock.now

  func testOnlyWhatIsOverTheRateIsPausedFor() {
    var budget = RateBudget(perSecond: 0.5, at: start, used: 7)
    XCTAssertEqual(budget.pause(at: start + .milliseconds(100), used: 7.04), .zero)
    XCTAssertEqual(budget.pause(at: start + .milliseconds(100), used: 7.1), .milliseconds(100))
    XCTAssertEqual(budget.pause(at: start + .seconds(1), used: 9), RateBudget.longestPause)
    XCTAssertEqual(budget.pause(at: start + .seconds(60), used: 9), .zero)
    // The quiet minute is forgotten.
    XCTAssertGreaterThan(budget.pause(at: start + .seconds(61), used: 10), .zero)
  }

  func testWhatIsLimitedAndWhatIsSaid() {
    let quiet = QueryThrottle(cpuPercent: 0, cores: 4)
    XCTAssertEqual(quiet.notes, [])
    XCTAssertEqual(QueryThrottle(cpuPercent: 100, cores: 4).notes, [])
    XCTAssertEqual(
      QueryThrottle(cpuPercent: -5, cores: 4).notes, ["cpu_limit of -5.0 is ignored: it must lie between 0 and 100\n"])
    XCTAssertEqual(
      QueryThrottle(cpuPercent: 25, cores: 4).notes,
      ["Will throttle query to 25 percent of 4 available CPU resources (1.0 cores long term average).\n"])
    XCTAssertEqual(
      QueryThrottle(cpuPercent: 0, cores: 1).notes,
      ["Will throttle query to 50 percent of 1 available CPU resources (0.5 cores long term average).\n"])
    XCTAssertEqual(
      QueryThrottle(cpuPercent: 0, ioPerSecond: 20, cores: 4).notes,
      ["Will throttle query to 20.0 I/O operations per second.\n"])
  }

  func testUseIsMeasured() {
    let (processor, operations) = (ProcessUse.processorSeconds(), ProcessUse.operations())
    for _ in 0..<50 { _ = ProcessFile.text("/proc/self/stat") }
    XCTAssertGreaterThanOrEqual(ProcessUse.operations(), operations + 50)
    XCTAssertGreaterThanOrEqual(ProcessUse.processorSeconds(), processor)
  }

  /// A process that reads all the time is held at about its rate: what it did over it was paid for by pauses.
  func testOperationsAreHeldBack() {
    let throttle = QueryThrottle(cpuPercent: 0, ioPerSecond: 500, cores: 4)
    let begin = ContinuousClock.now
    let before = ProcessUse.operations()
    while ContinuousClock.now - begin < .seconds(2) {
      for _ in 0..<20 { _ = ProcessFile.text("/proc/self/stat") }
      throttle.operation()
    }
    let rate = (ProcessUse.operations() - before) / (Double((ContinuousClock.now - begin).milliseconds) / 1000)
    XCTAssertLessThan(rate, 5000, "without a limit it is a hundred times as much")
  }
}
