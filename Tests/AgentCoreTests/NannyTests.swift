import Foundation
import Synchronization
import XCTest

@testable import AgentCore

/// client.md §10, under a clock of its own.
final class NannyTests: XCTestCase {
  private let start = ContinuousClock.now

  func testMemoryOutOfBoundsTwiceEndsTheProcess() {
    var nanny = Nanny(longestSilence: nil, memoryLimit: 100)
    XCTAssertEqual(nanny.check(at: start, memory: 100), .healthy)
    let reason = "the agent uses 101 bytes of memory; the limit is 100"
    XCTAssertEqual(nanny.check(at: start + .seconds(10), memory: 101), .restart(reason: reason))
    XCTAssertEqual(nanny.check(at: start + .seconds(20), memory: 50), .healthy)
    XCTAssertEqual(nanny.check(at: start + .seconds(30), memory: 101), .restart(reason: reason))
    XCTAssertEqual(nanny.check(at: start + .seconds(40), memory: 101), .exit(reason: reason))
  }

  func testASilentLoopIsFoundAndASuspendedMachineIsNot() {
    var nanny = Nanny(longestSilence: .seconds(15), memoryLimit: nil)
    nanny.beat("sender", at: start)
    nanny.beat("reader", at: start)
    XCTAssertEqual(nanny.check(at: start + .seconds(10), memory: 1 << 40), .healthy)
    nanny.beat("sender", at: start + .seconds(11))
    XCTAssertEqual(
      nanny.check(at: start + .seconds(20), memory: 0), .restart(reason: "the reader loop was silent for 20.0s"))
    nanny.beat("reader", at: start + .seconds(21))
    XCTAssertEqual(nanny.check(at: start + .seconds(25), memory: 0), .healthy)
    XCTAssertEqual(nanny.check(at: start + .seconds(9000), memory: 0), .healthy, "the machine slept")
    nanny.beat("sender", at: start + .seconds(9001))
    XCTAssertNotEqual(nanny.check(at: start + .seconds(9016), memory: 0), .healthy)
  }

  func testTheReasonIsLeftForTheNextStart() throws {
    let directory = try TemporaryDirectory()
    let ends = Mutex(0)
    let log = LogRecorder()
    let thread = NannyThread(
      nanny: Nanny(longestSilence: nil, memoryLimit: 1), reasonPath: directory.file("nanny"), log: log.logger,
      memory: { 2 }, end: { ends.withLock { $0 += 1 } })
    thread.check(at: start)
    XCTAssertEqual(ends.withLock { $0 }, 0)
    thread.check(at: start + .seconds(10))
    XCTAssertEqual(ends.withLock { $0 }, 1)
    XCTAssertTrue(log.contains("status 255"))
    XCTAssertEqual(
      NannyThread.takeReason(directory.file("nanny")), "the agent uses 2 bytes of memory; the limit is 1")
    XCTAssertNil(NannyThread.takeReason(directory.file("nanny")))
    XCTAssertGreaterThan(ProcessMemory.resident(), 1 << 20)
  }

  func testTheServiceUnit() throws {
    let text = try ServiceUnit.text(program: "/usr/bin/agent", config: "/etc/my 100%.yaml")
    XCTAssertTrue(text.contains("ExecStart=\"/usr/bin/agent\" run --config \"/etc/my 100%%.yaml\" --writeback"))
    XCTAssertTrue(text.contains("Restart=always"))
    XCTAssertTrue(text.contains("NoNewPrivileges=yes"))
    XCTAssertThrowsError(try ServiceUnit.text(program: "/usr/bin/agent", config: "/etc/a\nb"))
    XCTAssertThrowsError(try ServiceUnit.text(program: "agent", config: "/a"))
  }
}
