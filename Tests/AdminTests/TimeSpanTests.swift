import XCTest

@testable import microraptor

final class TimeSpanTests: XCTestCase {
  func testSpans() {
    for (text, seconds) in [("90", 90), ("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800)] {
      XCTAssertEqual(TimeSpan(argument: text)?.seconds, Int64(seconds), text)
    }
    for text in ["", "d", "-1d", "0", "7w", "1.5h", "99999999999d"] { XCTAssertNil(TimeSpan(argument: text), text) }
    XCTAssertEqual(TimeSpan(days: 7).defaultValueDescription, "7d")
  }
}
