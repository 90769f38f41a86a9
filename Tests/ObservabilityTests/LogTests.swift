import Foundation
import Logging
import Synchronization
import XCTest

@testable import Observability

/// Lines that a handler wrote.
final class Lines: Sendable {
  private let lines = Mutex<[String]>([])

  var sink: LogSink { LogSink { line in self.lines.withLock { $0.append(line) } } }
  var all: [String] { lines.withLock { $0 } }
}

final class LogTests: XCTestCase {
  private let lines = Lines()

  private func logger(_ format: LogFormat, _ level: Logger.Level = .info) -> Logger {
    let time = LogTime(seconds: 1_795_445_925, milliseconds: 7)
    return Logger(label: "frontend-1") { [lines] label in
      LineLogHandler(label: label, format: format, level: level, sink: lines.sink, now: { time })
    }
  }

  func testTextLineHasTimeLevelLabelMessageAndSortedPairs() {
    logger(.text).warning("two words", metadata: ["z": "1", "a": "x y", "e": ""])
    XCTAssertEqual(
      lines.all, ["2026-11-23T14:58:45.007Z WARNING frontend-1: two words a=\"x y\" e=\"\" z=1\n"])
  }

  func testPeerCannotForgeALine() {
    logger(.text).info("got \n2026 ERROR fake", metadata: ["client": "C.1\r\nx\u{1b}[2J\u{2028}"])
    XCTAssertEqual(lines.all.count, 1)
    XCTAssertEqual(lines.all.first?.filter(\.isNewline).count, 1)
    XCTAssertFalse(lines.all.joined().contains("\u{1b}"))
    XCTAssertTrue(lines.all.joined().contains("got \\n2026 ERROR fake"))
  }

  func testJSONLineIsOneObject() throws {
    var logger = logger(.json)
    logger[metadataKey: "process"] = "1"
    logger.error(
      "quote \" and \u{1} and \\", metadata: ["count": .stringConvertible(3), "list": ["a", "b"], "message": "mine"])
    let line = try XCTUnwrap(lines.all.first)
    let object = try XCTUnwrap(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    XCTAssertEqual(object["level"] as? String, "error")
    XCTAssertEqual(object["message"] as? String, "quote \" and \u{1} and \\")
    XCTAssertEqual(object["_message"] as? String, "mine")
    XCTAssertEqual(object["count"] as? Int, 3)
    XCTAssertEqual(object["list"] as? [String], ["a", "b"])
    XCTAssertEqual(object["process"] as? String, "1")
  }

  func testLevels() {
    logger(.text, .warning).info("dropped")
    XCTAssertEqual(lines.all, [])
    XCTAssertEqual([0, 1, 2, 9].map(Logs.level(verbosity:)), [.info, .debug, .trace, .trace])
  }

  func testRateLimitWritesOncePerIntervalWithACount() {
    let start = ContinuousClock.now
    let elapsed = Mutex(0)
    let limited = RateLimitedLog(logger: logger(.text), interval: .seconds(60)) {
      start.advanced(by: .seconds(elapsed.withLock { $0 }))
    }
    for second in [0, 1, 59] {
      elapsed.withLock { $0 = second }
      limited.warning("cold", "queue full, raise Frontend.resources.concurrency")
    }
    limited.warning("other", "another topic")
    XCTAssertEqual(lines.all.count, 2)
    elapsed.withLock { $0 = 60 }
    limited.warning("cold", "queue full")
    XCTAssertTrue(lines.all.last?.hasSuffix("queue full suppressed=2\n") == true)
    elapsed.withLock { $0 = 120 }
    limited.warning("cold", "queue full")
    XCTAssertTrue(lines.all.last?.hasSuffix("queue full\n") == true)
  }

  func testTopicsAreBounded() {
    let start = ContinuousClock.now
    let limited = RateLimitedLog(logger: logger(.text), now: { start })
    for index in 0..<(RateLimitedLog.topicLimit + 50) {
      limited.warning("topic \(index)", "w")
    }
    XCTAssertEqual(lines.all.count, RateLimitedLog.topicLimit + 1)
  }
}
