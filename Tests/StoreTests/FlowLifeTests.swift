import Wire
import XCTest

@testable import Store

/// What an agent's words do to a flow (server.md §2), as dialogues; both stores live by these rules.
final class FlowLifeTests: XCTestCase {
  private let at = Timestamp(microseconds: 1_000_000)

  private func progress(_ change: (inout Proto_FlowStats) -> Void) -> FlowProgress {
    var stats = Proto_FlowStats()
    change(&stats)
    return FlowProgress(stats)
  }

  func testTheFirstWordStartsTheTaskOnce() {
    var life = FlowLife(state: .waiting)
    life.heard(at: at)
    life.heard(at: at)
    XCTAssertEqual(life.state, .running)
    XCTAssertEqual(life.takeTaskChanges(), [.running])
    XCTAssertEqual(life.takeTaskChanges(), [])
  }

  func testAFinishedFlowEndsItsTask() {
    var life = FlowLife(state: .running)
    let ended = life.progressed(progress { $0.flowComplete = true }, stats: Data(), at: at)
    XCTAssertTrue(ended)
    XCTAssertEqual(life.displayed, "FINISHED")
    XCTAssertEqual(life.taskChanges, [.end(.finished, at: at)])
    XCTAssertFalse(life.progressed(progress { $0.flowComplete = true }, stats: Data(), at: at), "once")
  }

  func testUnknownWithoutAQuestionChangesNothing() {
    var life = FlowLife(state: .waiting)
    XCTAssertFalse(life.isUnknownToAgent("", at: at) { .leased })
    XCTAssertEqual(life.taskChanges, [])
  }

  func testUnknownAfterAQuestionQueuesAgainOnlyWhatIsLeased() {
    var leased = FlowLife(state: .waiting, askedAt: at)
    XCTAssertTrue(leased.isUnknownToAgent("", at: at) { .leased })
    XCTAssertEqual(leased.taskChanges, [.requeue])
    var queued = FlowLife(state: .waiting, askedAt: at)
    XCTAssertFalse(queued.isUnknownToAgent("", at: at) { .queued })
    XCTAssertEqual(queued.taskChanges, [])
  }

  func testACancelledFlowIsNotQueuedAgain() {
    var life = FlowLife(state: .waiting, askedAt: at, cancelRequested: true)
    XCTAssertFalse(life.isUnknownToAgent("", at: at) { .leased })
    XCTAssertEqual(life.taskChanges, [.end(.cancelled, at: at)])
  }

  func testALostFlowGoesOnWhenTheAgentSpeaks() {
    var life = FlowLife(state: .running)
    XCTAssertFalse(life.isUnknownToAgent("gone", at: at) { nil })
    XCTAssertEqual(life.displayed, "ERROR")
    XCTAssertTrue(life.isLost)
    XCTAssertFalse(life.progressed(progress { _ in }, stats: Data(), at: at))
    XCTAssertEqual(life.state, .running)
    XCTAssertEqual(life.taskChanges, [.end(.failed, at: at), .revive])
  }

  func testOnlyTheAnswerToTheLastQuestionCounts() {
    let later = Timestamp(microseconds: 2_000_000)
    var life = FlowLife(state: .waiting, askedAt: later)
    XCTAssertFalse(life.answered(question: at, at: later) { .leased })
    XCTAssertTrue(life.answered(question: later, at: later) { .leased })
  }
}
