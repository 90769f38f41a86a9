import XCTest

@testable import Store

/// The life of tasks as a dialogue of reader contacts, with a clock in the test's hands.
final class TaskRulesTests: XCTestCase {
  private let start = Timestamp(seconds: 1_800_000_000)
  private let options = StoreOptions()

  private func task(
    _ id: Int64, _ kind: TaskKind = .flow, _ state: TaskState = .queued, leasedAt: Timestamp? = nil,
    urgent: Bool = false, attempts: Int64 = 0, expiresAt: Timestamp? = nil, heardAt: Timestamp? = nil,
    askedAt: Timestamp? = nil
  ) -> OpenTask {
    OpenTask(
      id: id, kind: kind, isUrgent: urgent, state: state, leasedAt: leasedAt, attempts: attempts,
      expiresAt: expiresAt, flow: kind == .flow ? "F.\(id)" : nil,
      session: "F.\(id)", heardAt: heardAt, askedAt: askedAt, size: 100)
  }

  private func plan(_ tasks: OpenTask..., after seconds: Int64 = 0) -> TaskPlan {
    TaskRules.plan(tasks, now: start.advanced(by: .seconds(seconds)), options: options)
  }

  func testBudgetLetsUrgentAndCancelPass() {
    let plan = plan(
      task(1, .flow, .running, leasedAt: start, heardAt: start), task(2), task(3), task(4), task(5),
      task(6, urgent: true),
      task(7, .cancel), task(8, .eventTable))
    XCTAssertEqual(plan.lease, [2, 3, 4, 6, 7, 8])
    XCTAssertTrue(plan.ask.isEmpty)
  }

  func testAQuietFlowIsAskedAboutOncePerPeriod() {
    let quiet = task(1, .flow, .leased, leasedAt: start, attempts: 1)
    XCTAssertTrue(plan(quiet, after: 59).isEmpty)
    XCTAssertEqual(plan(quiet, after: 60).ask.map(\.flow), ["F.1"])
    let asked = task(1, .flow, .leased, leasedAt: start, attempts: 1, askedAt: start.advanced(by: .seconds(60)))
    XCTAssertTrue(plan(asked, after: 90).isEmpty)
    XCTAssertEqual(plan(asked, after: 120).ask.map(\.flow), ["F.1"])
    let heard = task(1, .flow, .running, leasedAt: start, heardAt: start.advanced(by: .seconds(100)))
    XCTAssertTrue(plan(heard, after: 159).isEmpty)
    XCTAssertEqual(plan(heard, after: 160).ask.map(\.flow), ["F.1"])
  }

  func testMessagesWithoutAnswerAreSettledByTheNextContact() {
    let cancel = task(1, .cancel, .leased, leasedAt: start, attempts: 1)
    XCTAssertEqual(plan(cancel, after: 2).finish, [1])
    XCTAssertEqual(plan(cancel, after: 90).lease, [1], "the reader came late: its answer was probably cut")
    XCTAssertEqual(plan(task(1, .cancel, .leased, leasedAt: start, attempts: 3), after: 90).fail, [1])
    XCTAssertEqual(plan(task(1, .kill, .leased, leasedAt: start, attempts: 1), after: 900).finish, [1])
  }

  func testExpiryIsHonoured() {
    let plan = plan(task(1, expiresAt: start), task(2, expiresAt: start.advanced(by: .seconds(60))), after: 30)
    XCTAssertEqual(plan.expire, [1])
    XCTAssertEqual(plan.lease, [2])
  }

  func testAnAnswerHasABound() {
    var large = task(1)
    large.size = TaskRules.answerBytes
    XCTAssertEqual(plan(large, task(2)).lease, [1])
    large.size *= 2
    XCTAssertEqual(plan(large).lease, [1], "one task always passes")
  }
}
