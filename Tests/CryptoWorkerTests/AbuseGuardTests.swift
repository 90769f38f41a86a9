import XCTest

@testable import crypto_worker

final class AbuseGuardTests: XCTestCase {
  private var limits: AbuseGuard.Limits {
    var limits = AbuseGuard.Limits()
    limits.burst = 3
    limits.refill = 1_000
    limits.shortest = 1_000
    limits.longest = 8_000
    limits.addresses = 8
    return limits
  }

  func testAnAddressThatKeepsFailingHasToWait() {
    var guardian = AbuseGuard(limits: limits)
    for _ in 0..<3 { guardian.failed("a", now: 0) }
    XCTAssertTrue(guardian.admits("a", now: 0))
    guardian.failed("a", now: 0)
    XCTAssertFalse(guardian.admits("a", now: 999))
    XCTAssertTrue(guardian.admits("a", now: 1_000))
    XCTAssertTrue(guardian.admits("b", now: 0), "others are not touched")
  }

  func testTheWaitGrowsAndIsCapped() {
    var guardian = AbuseGuard(limits: limits)
    var now: UInt64 = 0
    var waits: [UInt64] = []
    for _ in 0..<40 {
      guardian.failed("a", now: now)
      if !guardian.admits("a", now: now) {
        var end = now
        while !guardian.admits("a", now: end) { end += 500 }
        waits.append(end - now)
        now = end
      }
    }
    XCTAssertEqual(Array(waits.prefix(4)), [1_000, 2_000, 4_000, 8_000])
    XCTAssertEqual(waits.max(), 8_000)
  }

  func testSlowFailuresAreForgiven() {
    var guardian = AbuseGuard(limits: limits)
    for step in 0..<100 as Range<UInt64> {
      guardian.failed("a", now: step * 1_000)
      XCTAssertTrue(guardian.admits("a", now: step * 1_000))
    }
  }

  /// An address that has failed before gets no more under way than it may still fail: a flood is not admitted whole
  /// while its first bodies are being looked at. One without a failure is not touched.
  func testAFloodIsNotAdmittedWhole() {
    var guardian = AbuseGuard(limits: limits)
    for _ in 0..<100 {
      XCTAssertTrue(guardian.admits("honest", now: 0))
      guardian.began("honest")
    }
    guardian.failed("a", now: 0)
    for _ in 0..<2 {
      XCTAssertTrue(guardian.admits("a", now: 0))
      guardian.began("a")
    }
    XCTAssertFalse(guardian.admits("a", now: 0), "two are left of three, and two are under way")
    guardian.ended("a")
    XCTAssertTrue(guardian.admits("a", now: 0))
    guardian.ended("a")
    guardian.ended("a")
    XCTAssertTrue(guardian.admits("a", now: 0))
  }

  /// This machine's own address is a proxy's: it is given more, but not everything.
  func testALocalProxyHasMore() {
    var guardian = AbuseGuard(limits: limits)
    for _ in 0..<900 { guardian.failed("127.0.0.1", now: 0) }
    XCTAssertTrue(guardian.admits("127.0.0.1", now: 0))
    for _ in 0..<200 { guardian.failed("127.0.0.1", now: 0) }
    XCTAssertFalse(guardian.admits("127.0.0.1", now: 0))
    for _ in 0..<5 { guardian.failed("127.0.0.2", now: 0) }
    XCTAssertFalse(guardian.admits("127.0.0.2", now: 0))
  }

  func testTheTableIsBounded() {
    var guardian = AbuseGuard(limits: limits)
    for number in 0..<1_000 { guardian.failed("address \(number)", now: 0) }
    XCTAssertLessThanOrEqual(guardian.count, 8)
    for _ in 0..<10 { guardian.failed("", now: 0) }
    XCTAssertTrue(guardian.admits("", now: 0), "an unknown address is nobody's fault")
  }

  func testRefusedSessionsAreForgotten() {
    var refused = RefusedSessions(capacity: 8)
    refused.insert([1], now: 0)
    XCTAssertTrue(refused.contains([1], now: RefusedSessions.lifetime - 1))
    XCTAssertFalse(refused.contains([1], now: RefusedSessions.lifetime))
    for number in 0..<100 as Range<UInt8> { refused.insert([number, 7], now: 0) }
    XCTAssertFalse(refused.contains([1], now: 0))
    XCTAssertTrue(refused.contains([99, 7], now: 0))
  }
}
