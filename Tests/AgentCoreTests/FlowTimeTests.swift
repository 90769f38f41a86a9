import Foundation
import Wire
import XCTest

@testable import AgentCore

/// Time in these is moved by hand.
final class FlowTimeTests: XCTestCase {
  private let engine = FakeEngine()
  private let outbox = RecordingOutbox()
  private let start = ContinuousClock.now

  private func flow(
    _ collectors: [Proto_VQLCollectorArgs], change: (inout Proto_FlowRequest) -> Void = { _ in }
  ) -> Flow {
    let start = start
    let request = Make.flow("F.1", collectors, change: change).flowRequest
    return Flow(
      id: "F.1", isUrgent: true, request: request,
      dependencies: Flow.Dependencies(
        engine: engine, outbox: outbox,
        time: Timekeeper(monotonic: { start }, microseconds: { 1_700_000_000_000_000 }), slots: SlotGate(places: 1),
        settings: AgentSettings()))
  }

  private func block(_ change: (inout Proto_VQLCollectorArgs) -> Void = { _ in }) -> Proto_VQLCollectorArgs {
    var arguments = Make.collector(["rows 1", "block"])
    change(&arguments)
    return arguments
  }

  private func begin(_ flow: Flow) {
    flow.startCollectors()
    engine.waitForStart(of: "block")
  }

  private func end(_ flow: Flow) {
    flow.cancel()
    flow.finish()
    flow.release()
  }

  /// progress each 5 s.
  func testProgressIsReportedEachPeriod() {
    let flow = flow([block()])
    flow.tick(at: start + .seconds(5))
    XCTAssertEqual(outbox.stats("F.1").map(\.queryStatus.count), [0], "waiting for a slot: no statuses")
    begin(flow)
    flow.tick(at: start + .seconds(7))
    XCTAssertEqual(outbox.stats("F.1").count, 1)
    flow.tick(at: start + .seconds(10))
    XCTAssertEqual(outbox.stats("F.1").count, 2)
    XCTAssertEqual(outbox.stats("F.1").last?.queryStatus.first?.status, .progress)
    XCTAssertFalse(outbox.stats("F.1").contains(where: \.flowComplete))
    end(flow)
  }

  func testATimeoutIsAnErrorAndKeepsWhatWasCollected() {
    let flow = flow([block { $0.timeout = 20 }])
    begin(flow)
    flow.tick(at: start + .seconds(20))
    XCTAssertEqual(flow.stats.queryStatus.first?.status, .progress)
    flow.tick(at: start + .seconds(21))
    XCTAssertEqual(flow.stats.queryStatus.first?.errorMessage, "Query timed out after 20 seconds")
    outbox.wait { $0.rows("F.1").count == 1 }
    end(flow)
  }

  func testNoProgressIsAnErrorWhenAskedFor() {
    let flow = flow([block { $0.progressTimeout = 3 }])
    begin(flow)
    flow.tick(at: start + .seconds(4))
    XCTAssertEqual(flow.stats.queryStatus.first?.errorMessage, "No progress made in 3 seconds! aborting.")
    end(flow)
  }

  func testRowsAreNotHeldLongerThanMaxWait() {
    let flow = flow([Make.collector(["rows 1"], name: "A"), block { $0.maxWait = 10 }])
    begin(flow)
    flow.tick(at: start + .seconds(10))
    end(flow)
    XCTAssertFalse(outbox.rows("F.1").isEmpty)
  }

  func testHeartbeat() {
    let flow = flow([block { $0.heartbeat = 2 }])
    begin(flow)
    flow.tick(at: start + .seconds(2))
    end(flow)
    XCTAssertTrue(outbox.logText("F.1").contains("Test.Artifact: Time 0: Test.Artifact: Waiting for rows."))
  }

  func testServersThatSendSecondsDoNotGetALogMessageEach2Milliseconds() {
    let flow = flow([block()]) { $0.logBatchTime = 2 }
    begin(flow)
    flow.tick(at: start + .milliseconds(99))
    XCTAssertTrue(outbox.sent.filter(\.hasLogMessage).isEmpty)
    flow.tick(at: start + .milliseconds(100))
    XCTAssertEqual(outbox.sent.filter(\.hasLogMessage).count, 1)
    end(flow)
  }

  func testAQueryThatDoesNotObeyIsLeftBehind() {
    let flow = flow([block()])
    // Never started, so nothing can end it.
    flow.startCollectors()
    flow.cancel()
    flow.tick(at: start + .seconds(61))
    outbox.wait { _ in flow.stats.queryStatus.first?.status == .genericError }
    flow.finish()
    XCTAssertEqual(outbox.stats("F.1").last?.queryStatus.first?.errorMessage, "Cancelled")
    flow.release()
  }
}
