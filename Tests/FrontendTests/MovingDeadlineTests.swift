import NIOCore
import XCTest

@testable import frontend

final class MovingDeadlineTests: XCTestCase {
  private func at(_ seconds: UInt64) -> NIODeadline { .uptimeNanoseconds(seconds * 1_000_000_000) }

  /// A busy connection sets one timer and hardly another.
  func testRequestsMoveTheDeadlineAndNotTheTimer() {
    var deadline = MovingDeadline()
    XCTAssertEqual(deadline.move(to: at(150)), .set(at(150)))
    for second in 1..<100 as Range<UInt64> {
      XCTAssertEqual(deadline.move(to: at(second + 600)), .keep, "a request arrives")
      deadline.stop()
      XCTAssertEqual(deadline.move(to: at(second + 150)), .keep, "its answer was written")
    }
    XCTAssertEqual(deadline.fired(now: at(150)), .set(at(249)))
    XCTAssertEqual(deadline.fired(now: at(249)), .reached)
    XCTAssertEqual(deadline.fired(now: at(400)), .none)
  }

  func testANearerDeadlineNeedsANewTimer() {
    var deadline = MovingDeadline()
    XCTAssertEqual(deadline.move(to: at(600)), .set(at(600)))
    XCTAssertEqual(deadline.move(to: at(150)), .set(at(150)))
    XCTAssertEqual(deadline.fired(now: at(150)), .reached)
  }

  /// While a request is worked on nothing is waited for; afterwards it goes on.
  func testAStoppedDeadlineIsNotReached() {
    var deadline = MovingDeadline()
    _ = deadline.move(to: at(150))
    deadline.stop()
    XCTAssertEqual(deadline.fired(now: at(150)), .none)
    XCTAssertEqual(deadline.move(to: at(400)), .set(at(400)))
  }
}
