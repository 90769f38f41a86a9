import XCTest

@testable import Observability

final class MetricsTests: XCTestCase {
  private let registry = MetricsRegistry()

  func testRendersPrometheusText() {
    registry.counter("b_total", "Counted \"b\".\nTwice", labels: ["kind": "a\"b\\c\nd"]).increment(by: 2)
    registry.gauge("a", "Gauge").set(1.5)
    registry.gauge("live", "Read when asked") { 7 }
    let histogram = registry.histogram("h", "Seconds", buckets: [0.1, 1])
    for value in [0.05, 0.1, 0.5, 3] { histogram.observe(value) }
    XCTAssertEqual(
      registry.render(),
      """
      # HELP a Gauge
      # TYPE a gauge
      a 1.5
      # HELP b_total Counted "b".\\nTwice
      # TYPE b_total counter
      b_total{kind="a\\"b\\\\c\\nd"} 2
      # HELP h Seconds
      # TYPE h histogram
      h_bucket{le="0.1"} 2
      h_bucket{le="1"} 3
      h_bucket{le="+Inf"} 4
      h_sum 3.65
      h_count 4
      # HELP live Read when asked
      # TYPE live gauge
      live 7

      """)
  }

  func testSameNameAndLabelsAreTheSameMetric() {
    registry.counter("c", "", labels: ["x": "1", "y": "2"]).increment()
    registry.counter("c", "", labels: ["y": "2", "x": "1"]).increment()
    XCTAssertEqual(registry.counter("c", "", labels: ["x": "1", "y": "2"]).value, 2)
  }

  func testAnotherKindUnderATakenNameDoesNotDisturb() {
    registry.counter("c", "").increment()
    registry.gauge("c", "").set(9)
    XCTAssertTrue(registry.render().contains("c 1\n"))
    XCTAssertFalse(registry.render().contains("9"))
  }

  func testSeriesAreBounded() {
    for index in 0..<(MetricsRegistry.seriesLimit + 100) {
      registry.counter("c", "", labels: ["peer": String(index)]).increment()
    }
    XCTAssertEqual(registry.counter("c", "", labels: ["peer": "other"]).value, 100)
    XCTAssertLessThanOrEqual(registry.render().split(separator: "\n").count, MetricsRegistry.seriesLimit + 3)
  }

  func testNamesAreMadeLegal() {
    registry.counter("a-b c", "").increment()
    XCTAssertTrue(registry.render().contains("a_b_c 1"))
  }

  func testConcurrentUse() async {
    let counter = registry.counter("c", "")
    let gauge = registry.gauge("g", "")
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask {
          for _ in 0..<1000 {
            counter.increment()
            gauge.increment()
          }
        }
      }
    }
    XCTAssertEqual(counter.value, 8000)
    XCTAssertEqual(gauge.value, 8000)
  }

  func testDurationsAreSeconds() {
    let histogram = Histogram()
    histogram.observe(.milliseconds(2))
    XCTAssertEqual(histogram.snapshot.sum, 0.002, accuracy: 1e-9)
  }
}
