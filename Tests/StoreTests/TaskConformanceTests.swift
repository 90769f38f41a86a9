import Foundation
import PublicIdentity
import Store
import Wire
import XCTest

/// What every store must do: tasks and flows, as dialogues of an operator, a reader and an agent.
final class TaskConformanceTests: XCTestCase {
  private let start = Timestamp(seconds: 1_800_000_000)

  private func after(_ seconds: Int64) -> Timestamp { start.advanced(by: .seconds(seconds)) }

  private func state(_ store: any Store, _ agent: TestAgent) async throws -> FlowState? {
    try await store.flow(agent.flowName)?.state
  }

  func testAFlowFromQueueToEnd() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let ids = try await store.queue([agent.flowTask()], by: alice)
      var flow = try await store.flow(agent.flowName)
      XCTAssertEqual(flow?.state, .waiting)
      XCTAssertEqual(flow?.creator, "alice")
      XCTAssertEqual(try Proto_FlowRequest(serializedBytes: flow?.request ?? []).vqlclientActions.count, 1)

      let lease = try await store.leaseTasks(for: agent.name, now: start)
      XCTAssertEqual(lease?.taskIDs, ids)
      XCTAssertEqual(lease?.messages.map(\.taskID), ids.map(UInt64.init))
      XCTAssertEqual(lease?.messages.first?.sessionID, agent.flow.text)
      let nothing = try await store.leaseTasks(for: agent.name, now: after(1))
      XCTAssertNil(nothing, "leased is not queued")

      _ = try await store.ingest(
        try agent.submission(agent.log("{}\n", id: 0), agent.stats(.progress, complete: false), at: after(2)))
      flow = try await store.flow(agent.flowName)
      XCTAssertEqual(flow?.state, .running)
      XCTAssertEqual(flow?.lastHeard, after(2))
      XCTAssertEqual(flow?.displayedState(at: after(3)), "IN_PROGRESS")
      XCTAssertEqual(flow?.displayedState(at: after(303)), "UNRESPONSIVE")

      let end = agent.stats(.ok, complete: true, rows: 1)
      _ = try await store.ingest(try agent.submission(agent.rows("{\"a\":1}\n"), end, at: after(4)))
      flow = try await store.flow(agent.flowName)
      XCTAssertEqual(flow?.state, .finished)
      XCTAssertEqual(flow?.endedAt, after(4))
      XCTAssertEqual(flow?.totals.rows, 1)
      // A second completion is no second event, and late rows still count.
      _ = try await store.ingest(
        try agent.submission(end, agent.rows("{\"a\":2}\n", start: 1, part: 1), at: after(5)))
      flow = try await store.flow(agent.flowName)
      XCTAssertEqual(flow?.endedAt, after(4))
      let events = try await store.monitoring(
        org: "", artifact: "System.Flow.Completion", client: nil, after: 0, limit: 10)
      XCTAssertEqual(events.count, 1)
      XCTAssertTrue(events[0].jsonl.contains(agent.flow.text))
      let done = try await store.leaseTasks(for: agent.name, now: after(1_000))
      XCTAssertNil(done)
    }
  }

  func testAnErrorEndsTheFlowWithItsText() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      _ = try await store.leaseTasks(for: agent.name, now: start)
      _ = try await store.ingest(
        try agent.submission(agent.stats(.ok, .genericError, complete: true, text: "no plugin")))
      let flow = try await store.flow(agent.flowName)
      XCTAssertEqual(flow?.state, .error)
      XCTAssertEqual(flow?.errorText, "no plugin")
    }
  }

  func testALostLeaseIsSettledByAQuestion() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      _ = try await store.leaseTasks(for: agent.name, now: start)
      let early = try await store.leaseTasks(for: agent.name, now: after(30))
      XCTAssertNil(early)
      let question = try await store.leaseTasks(for: agent.name, now: after(61))
      XCTAssertEqual(question?.taskIDs, [])
      XCTAssertEqual(question?.messages.map(\.sessionID), ["F.Status"])
      XCTAssertEqual(
        question?.messages.first?.flowStatsRequest.flowID,
        [agent.flow.text, "\(agent.flow.text)/Q\(after(61).microseconds)"])

      let events = try await store.events()
      let unknown = agent.stats(.unknownFlow, complete: true, text: "Flow not known")
      _ = try await store.ingest(try agent.submission(unknown, at: after(62)))
      for await event in events {
        XCTAssertEqual(event, .tasksQueued(agent.name))
        break
      }
      let again = try await store.leaseTasks(for: agent.name, now: after(63))
      XCTAssertEqual(again?.messages.first?.hasFlowRequest, true)
      // An answer from before this lease must not send it a third time.
      _ = try await store.ingest(try agent.submission(unknown, agent.checkIn(), at: after(64)))
      let third = try await store.leaseTasks(for: agent.name, now: after(65))
      XCTAssertNil(third)
      _ = try await store.ingest(try agent.submission(agent.stats(.ok, complete: true), at: after(66)))
      let final = try await state(store, agent)
      XCTAssertEqual(final, .finished)
    }
  }

  /// Two answers UNKNOWN_FLOW about one flow are the same bytes; the mark of each question tells them from a re-sent one.
  func testALeaseThatIsLostTwiceIsSentAThirdTime() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      let unknown = agent.stats(.unknownFlow, complete: true, text: "Flow not known")
      var marks: [Proto_VeloMessage] = []
      for round in 0..<3 {
        let time = Int64(round) * 100
        let lease = try await store.leaseTasks(for: agent.name, now: after(time))
        XCTAssertEqual(lease?.messages.map(\.hasFlowRequest), [true], "round \(round)")
        let question = try await store.leaseTasks(for: agent.name, now: after(time + 61))
        let ids = try XCTUnwrap(question?.messages.first).flowStatsRequest.flowID
        // Each answer travels in a list of its own, as an agent sends urgent messages.
        for id in ids {
          var answer = unknown
          answer.sessionID = id
          marks.append(answer)
          _ = try await store.ingest(try agent.submission(answer, at: after(time + 62)))
        }
      }
      // The agent got it this time. Answers to older questions that come again change nothing, though it was asked anew.
      _ = try await store.leaseTasks(for: agent.name, now: after(300))
      _ = try await store.leaseTasks(for: agent.name, now: after(361))
      for answer in marks { _ = try await store.ingest(try agent.submission(answer, at: after(362))) }
      let again = try await store.leaseTasks(for: agent.name, now: after(363))
      XCTAssertNil(again)
      _ = try await store.ingest(try agent.submission(agent.stats(.ok, complete: true), at: after(364)))
      let final = try await state(store, agent)
      XCTAssertEqual(final, .finished)
    }
  }

  func testUnknownFlowEndsARunningFlowAndLaterWordsReviveIt() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      _ = try await store.leaseTasks(for: agent.name, now: start)
      _ = try await store.ingest(try agent.submission(agent.stats(.progress, complete: false), at: after(1)))
      _ = try await store.ingest(
        try agent.submission(agent.stats(.unknownFlow, complete: true, text: "Flow not known"), at: after(2)))
      var flow = try await store.flow(agent.flowName)
      XCTAssertEqual(flow?.state, .error)
      XCTAssertEqual(flow?.errorText, "Flow not known")
      _ = try await store.ingest(
        try agent.submission(agent.stats(.progress, complete: false, rows: 5), at: after(3)))
      flow = try await store.flow(agent.flowName)
      XCTAssertEqual(flow?.state, .running)
      XCTAssertEqual(flow?.errorText, "")
    }
  }

  func testUnknownFlowsAreIgnoredWhenNobodyKnowsThem() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      _ = try await store.ingest(try agent.submission(agent.stats(.unknownFlow, complete: true)))
      let flow = try await store.flow(agent.flowName)
      XCTAssertNil(flow)
    }
  }

  func testBudgetOfFlows() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let flows = (0..<10).map { FlowID.make(at: start, random: 100 + $0) }
      try await store.queue(flows.map { agent.flowTask(flow: $0) }, by: alice)
      try await store.queue([agent.flowTask(urgent: true)], by: alice)
      let first = try await store.leaseTasks(for: agent.name, now: start)
      XCTAssertEqual(first?.messages.map(\.sessionID), flows.prefix(4).map(\.text) + [agent.flow.text])
      var done = agent.stats(.ok, complete: true)
      done.sessionID = flows[0].text
      _ = try await store.ingest(try agent.submission(done, at: after(1)))
      done.sessionID = agent.flow.text
      _ = try await store.ingest(try agent.submission(done, at: after(1)))
      let second = try await store.leaseTasks(for: agent.name, now: after(2))
      XCTAssertEqual(second?.messages.map(\.sessionID), [flows[4].text])
    }
  }

  func testAFlowCanBeAddedTo() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      _ = try await store.leaseTasks(for: agent.name, now: start)
      _ = try await store.ingest(try agent.submission(agent.stats(.ok, complete: true), at: after(1)))
      var more = agent.flowTask()
      more.message.sessionID = agent.flow.text + "/1"
      try await store.queue([more], by: alice)
      let waiting = try await state(store, agent)
      XCTAssertEqual(waiting, .waiting)
      let lease = try await store.leaseTasks(for: agent.name, now: after(2))
      XCTAssertEqual(lease?.messages.map(\.sessionID), [agent.flow.text + "/1"])
      var end = agent.stats(.ok, complete: true, rows: 2)
      end.sessionID = agent.flow.text + "/1"
      _ = try await store.ingest(
        try agent.submission(agent.rows("{}\n", session: end.sessionID), end, at: after(3)))
      let done = try await state(store, agent)
      XCTAssertEqual(done, .finished)
      let nothing = try await store.leaseTasks(for: agent.name, now: after(500))
      XCTAssertNil(nothing)
    }
  }

  func testReleaseGivesTheTasksBackAtOnce() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      let lease = try await store.leaseTasks(for: agent.name, now: start)
      try await store.release(try XCTUnwrap(lease))
      let again = try await store.leaseTasks(for: agent.name, now: after(1))
      XCTAssertEqual(again?.taskIDs, lease?.taskIDs)
    }
  }

  func testOnlyOneOfTwoReadersGetsATask() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      let now = start
      let leases = try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<8 {
          group.addTask { try await store.leaseTasks(for: agent.name, now: now)?.taskIDs.count ?? 0 }
        }
        return try await group.reduce(0, +)
      }
      XCTAssertEqual(leases, 1)
    }
  }

  func testExpiry() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask(expiresAt: after(10))], by: alice)
      let report = try await store.maintain(now: after(11))
      XCTAssertEqual(report.expiredTasks, 1)
      let flow = try await state(store, agent)
      XCTAssertEqual(flow, .expired)
      let lease = try await store.leaseTasks(for: agent.name, now: after(11))
      XCTAssertNil(lease)
      let idle = try await store.maintain(now: after(12))
      XCTAssertEqual(idle, MaintenanceReport())
    }
  }

  func testCancelling() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      var outcome = try await store.cancel(agent.flowName, by: alice)
      XCTAssertEqual(outcome, .unknownFlow)
      try await store.queue([agent.flowTask()], by: alice)
      outcome = try await store.cancel(agent.flowName, by: alice)
      XCTAssertEqual(outcome, .withdrawn)
      let none = try await store.leaseTasks(for: agent.name, now: start)
      XCTAssertNil(none)
      outcome = try await store.cancel(agent.flowName, by: alice)
      XCTAssertEqual(outcome, .alreadyEnded)

      var second = agent
      second.flow = FlowID.make(at: start, random: 77)
      try await store.queue([second.flowTask()], by: alice)
      _ = try await store.leaseTasks(for: agent.name, now: start)
      outcome = try await store.cancel(second.flowName, by: alice)
      XCTAssertEqual(outcome, .requested)
      let lease = try await store.leaseTasks(for: agent.name, now: after(1))
      XCTAssertEqual(lease?.messages.map(\.hasCancel), [true])
      XCTAssertEqual(lease?.messages.first?.sessionID, second.flow.text)
      _ = try await store.ingest(
        try second.submission(second.stats(.genericError, complete: true, text: "Cancelled"), at: after(2)))
      let state = try await state(store, second)
      XCTAssertEqual(state, .cancelled)
      let settled = try await store.leaseTasks(for: agent.name, now: after(3))
      XCTAssertNil(settled)
    }
  }

  func testAnAgentWithoutStatusAnswersIsNotSentTheFlowAgain() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      _ = try await store.leaseTasks(for: agent.name, now: start)
      _ = try await store.leaseTasks(for: agent.name, now: after(61))
      _ = try await store.ingest(
        try agent.submission(agent.job("F.Status") { $0.logMessage.jsonl = "{}\n" }, at: after(62)))
      let lease = try await store.leaseTasks(for: agent.name, now: after(500))
      XCTAssertNil(lease)
      let flow = try await state(store, agent)
      XCTAssertEqual(flow, .error)
    }
  }

  func testQueueingForAnUnknownClientQueuesNothing() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let stranger = try TestAgent(2)
      await assertThrows(.notFound) {
        try await store.queue([agent.flowTask(), stranger.flowTask()], by: alice)
      }
      let flow = try await store.flow(agent.flowName)
      XCTAssertNil(flow)
      var task = agent.flowTask()
      task.message.sessionID = "F.Monitoring"
      await assertThrows(.invalid) { try await store.queue([task], by: alice) }
    }
  }

  func testEventsTellOfTasksAndKeys() async throws {
    try await forEachStore { store in
      let events = try await store.events()
      let agent = try await store.enrolled(TestAgent())
      try await store.queue([agent.flowTask()], by: alice)
      var seen: [StoreEvent] = []
      for await event in events {
        seen.append(event)
        if seen.count == 2 { break }
      }
      XCTAssertEqual(seen, [.keyChanged(agent.name), .tasksQueued(agent.name)])
    }
  }
}
