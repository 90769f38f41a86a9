import Glibc
import XCTest

@testable import Observability

final class ProcessTests: XCTestCase {
  func testShutdownWaitsForTheSignal() async {
    let shutdown = ShutdownSignal(signals: [SIGUSR2])
    async let first = shutdown.wait()
    async let second = shutdown.wait()
    kill(getpid(), SIGUSR2)
    let received = await [first, second]
    XCTAssertEqual(received, [SIGUSR2, SIGUSR2])
    XCTAssertEqual(shutdown.received, SIGUSR2)
    let late = await shutdown.wait()
    XCTAssertEqual(late, SIGUSR2)
  }

  func testCancelledWaitReturnsNil() async {
    let shutdown = ShutdownSignal(signals: [])
    let task = Task { await shutdown.wait() }
    task.cancel()
    let result = await task.value
    XCTAssertNil(result)
    shutdown.trigger(SIGTERM)
    let received = await shutdown.wait()
    XCTAssertEqual(received, SIGTERM)
  }

  func testTheFirstSignalIsKept() {
    let shutdown = ShutdownSignal(signals: [])
    shutdown.trigger(SIGTERM)
    shutdown.trigger(SIGINT)
    XCTAssertEqual(shutdown.received, SIGTERM)
  }

  func testCoreDumpsAreOff() {
    XCTAssertTrue(CoreDumps.disable())
    // Other tests of this process look at themselves in /proc.
    defer { XCTAssertTrue(CoreDumps.setDumpable(true)) }
    var limit = rlimit()
    XCTAssertEqual(getrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit), 0)
    XCTAssertEqual(limit.rlim_cur, 0)
    XCTAssertEqual(limit.rlim_max, 0)
  }

  func testOpenFilesAreRaisedToTheHardLimit() {
    var limit = rlimit()
    XCTAssertGreaterThan(OpenFiles.raiseLimit(), 0)
    XCTAssertEqual(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit), 0)
    XCTAssertEqual(limit.rlim_cur, limit.rlim_max)
  }
}
