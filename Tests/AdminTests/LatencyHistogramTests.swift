import XCTest

@testable import microraptor

final class LatencyHistogramTests: XCTestCase {
  func testEachValueLiesInItsBucket() {
    var values = Array(0...1000)
    for shift in 10...35 { values += [(1 << shift) - 1, 1 << shift, (1 << shift) + 1, 3 << (shift - 1)] }
    for value in values {
      let index = LatencyHistogram.index(of: value)
      XCTAssertLessThanOrEqual(value, LatencyHistogram.upperEnd(of: index), "\(value)")
      if index > 0 { XCTAssertGreaterThan(value, LatencyHistogram.upperEnd(of: index - 1), "\(value)") }
      // Two significant digits.
      XCTAssertLessThanOrEqual(Double(LatencyHistogram.upperEnd(of: index) - value), Double(value) / 50, "\(value)")
    }
  }

  func testQuantiles() {
    var histogram = LatencyHistogram()
    XCTAssertEqual(histogram.quantile(0.99), 0)
    for value in 1...100 { histogram.record(microseconds: value) }
    XCTAssertEqual(histogram.quantile(0.5), 50)
    XCTAssertEqual(histogram.quantile(0.99), 99)
    XCTAssertEqual(histogram.quantile(1), 100)
    XCTAssertEqual(histogram.mean, 50.5)
  }

  func testStrangeValues() {
    var histogram = LatencyHistogram()
    histogram.record(microseconds: -5)
    histogram.record(microseconds: .max)
    XCTAssertEqual(histogram.count, 2)
    XCTAssertEqual(histogram.quantile(0.1), 0)
    XCTAssertEqual(histogram.quantile(1), histogram.maximum)
  }

  func testMerging() {
    var (left, right) = (LatencyHistogram(), LatencyHistogram())
    for value in 1...10 { left.record(microseconds: value) }
    for value in 11...20 { right.record(microseconds: value) }
    left.merge(right)
    XCTAssertEqual(left.count, 20)
    XCTAssertEqual(left.quantile(0.5), 10)
    XCTAssertEqual(left.maximum, 20)
  }
}
