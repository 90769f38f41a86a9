import XCTest

@testable import microraptor

/// What `microraptor watch` makes of the metrics of two looks.
final class WatchTests: XCTestCase {
  private let frontend = """
    # HELP frontend_received_count Bodies received.
    # TYPE frontend_received_count counter
    client_comms_current_connections 12
    frontend_connections 14
    frontend_received_count 1000
    frontend_acknowledged_count 900
    frontend_commit_seconds_bucket{le="0.001"} 5
    frontend_commit_seconds_sum 10
    frontend_commit_seconds_count 1000
    worker_usable 2
    nonsense
    """

  func testRatesAndMeansAreThoseSinceTheLastLook() {
    let first = MetricsPage(frontend, at: 100)
    let text = frontend.replacingOccurrences(of: "count 1000", with: "count 1500")
      .replacingOccurrences(of: "count 900", with: "count 901").replacingOccurrences(of: "sum 10", with: "sum 11")
    let second = MetricsPage(text, at: 102)
    let process = WatchedProcess(target: "a:1", second, since: first)
    XCTAssertEqual(process.role, .frontend)
    XCTAssertEqual(process.readers, 12)
    XCTAssertEqual(process.bodiesPerSecond, 250)
    XCTAssertEqual(process.acknowledgedPerSecond, 0.5)
    XCTAssertEqual(process.commitMilliseconds ?? 0, 2, accuracy: 0.001)
    XCTAssertNil(process.tasksPerSecond, "it has no such metric")
    XCTAssertNil(WatchedProcess(target: "a:1", first, since: nil).bodiesPerSecond)
  }

  func testACounterThatBeganAnewIsNoNegativeRate() {
    let first = MetricsPage(frontend, at: 100)
    let restarted = frontend.replacingOccurrences(of: "count 1000", with: "count 3")
    let process = WatchedProcess(target: "a:1", MetricsPage(restarted, at: 101), since: first)
    XCTAssertEqual(process.bodiesPerSecond, 0)
    XCTAssertNil(process.commitMilliseconds)
  }

  func testAWorkersHitRatio() {
    func page(_ hits: Int, _ misses: Int, _ at: Double) -> MetricsPage {
      MetricsPage("cipher_lru_total_size 7\ncipher_lru_hit \(hits)\ncipher_lru_miss \(misses)\n", at: at)
    }
    let process = WatchedProcess(target: "w", page(190, 20, 2), since: page(100, 10, 1))
    XCTAssertEqual(process.role, .worker)
    XCTAssertEqual(process.hitRatio ?? 0, 0.9, accuracy: 0.001)
    XCTAssertNil(WatchedProcess(target: "w", page(5, 5, 2), since: page(5, 5, 1)).hitRatio, "nothing happened")
  }

  func testTheScreenNamesWhatCannotBeRead() {
    let text = WatchScreen.text(
      [
        WatchedProcess(target: "a:1", MetricsPage(frontend, at: 1), since: nil),
        WatchedProcess(target: "b:2", problem: "Connection refused\u{1B}[2J"),
        WatchedProcess(target: "c:3", MetricsPage("up 1\n", at: 1), since: nil),
      ], at: "now")
    XCTAssertTrue(text.hasPrefix("now  1 frontends, 0 crypto-workers, 12 readers"), text)
    XCTAssertTrue(text.contains("Connection refused\\x1b"), "no text steers the terminal: \(text)")
    XCTAssertTrue(text.contains("c:3"))
  }

  func testTargets() throws {
    XCTAssertEqual(try MetricsReader("http://[::1]:9090/metrics").host, "::1")
    XCTAssertEqual(try MetricsReader("host:9090").port, "9090")
    XCTAssertThrowsError(try MetricsReader("host"))
  }
}
