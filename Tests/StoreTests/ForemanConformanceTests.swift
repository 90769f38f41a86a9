import Foundation
import PublicIdentity
import Wire
import XCTest

@testable import Store

/// What every store must do with orders that concern many clients: interrogation, event tables, hunts.
final class ForemanConformanceTests: XCTestCase {
  private let start = Timestamp(seconds: 1_800_000_000)

  private func after(_ seconds: Int64) -> Timestamp { start.advanced(by: .seconds(seconds)) }

  /// A foreman without interrogations, with the store's orders.
  private func foreman(_ store: any Store) async throws -> Foreman {
    let foreman = Foreman(interrogationsPerSecond: -1)
    foreman.follow(try await store.foremanOrders(now: start))
    return foreman
  }

  private func look(
    _ store: any Store, _ agent: TestAgent, _ foreman: Foreman, _ seconds: Int64
  ) async throws -> [Proto_VeloMessage] {
    try await store.leaseTasks(for: agent.name, now: after(seconds), foreman: foreman)?.messages ?? []
  }

  private func setting(_ label: String = "", _ name: String) -> EventTableSetting {
    var event = Proto_VQLCollectorArgs()
    event.query = [Proto_VQLRequest()]
    event.query[0].vql = "SELECT * FROM clock()"
    event.query[0].name = name
    var table = Proto_VQLEventTable()
    table.event = [event]
    return EventTableSetting(label: label, artifacts: [name], parameters: ["a": "b"], table: table)
  }

  // MARK: interrogation

  /// S-1.
  func testANewClientIsAskedOnceWhoItIs() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let foreman = Foreman()
      let first = try await look(store, agent, foreman, 0)
      XCTAssertEqual(first.count, 1)
      let request = try XCTUnwrap(first.first)
      XCTAssertEqual(request.requestID, 1)
      XCTAssertEqual(
        request.flowRequest.vqlclientActions.first?.query.last?.name, "Generic.Client.Info/BasicInformation")
      let again = try await look(store, agent, foreman, 1)
      XCTAssertEqual(again, [])
      let flows = try await store.flows(of: agent.name, limit: 10)
      XCTAssertEqual(flows.map(\.name.flow.text), [request.sessionID])
      XCTAssertEqual(flows.map(\.creator), ["system"])
      let audit = try await store.audit(limit: 10)
      XCTAssertEqual(audit.map(\.action), [], "no operator did this")

      // S-2: without OS the record stays; with it, it is filled.
      var asked = agent
      asked.flow = try XCTUnwrap(FlowID(request.sessionID))
      let source = "Generic.Client.Info/BasicInformation"
      _ = try await store.ingest(
        try asked.submission(asked.rows("{\"Hostname\":\"web1\"}\n", name: source), at: after(2)))
      var facts = try await store.client(agent.name)?.facts
      XCTAssertEqual(facts?.hostname, "")
      let row = #"{"Hostname":"web1","OS":"linux","MACAddresses":["aa:bb"],"Labels":["prod"]}"# + "\n"
      _ = try await store.ingest(
        try asked.submission(
          asked.rows(row, name: source, start: 1, part: 1), asked.stats(.ok, complete: true, rows: 1), at: after(3)))
      facts = try await store.client(agent.name)?.facts
      XCTAssertEqual(facts?.hostname, "web1")
      XCTAssertEqual(facts?.macAddresses, ["aa:bb"])
      let labels = try await store.client(agent.name)?.labels
      XCTAssertEqual(labels, ["prod"])
    }
  }

  func testADeletedClientThatComesBackIsAskedAgain() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let foreman = Foreman()
      _ = try await look(store, agent, foreman, 0)
      try await store.delete(agent.name, by: alice)
      let gone = try await look(store, agent, foreman, 1)
      XCTAssertEqual(gone, [])
      _ = try await store.enrolled(agent)
      let back = try await look(store, agent, foreman, 2)
      XCTAssertEqual(back.count, 1)
    }
  }

  // MARK: event tables

  func testTablesGoByLabelAndVersion() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.setEventTable(setting("", "All"), by: alice)
      try await store.setEventTable(setting("Web", "Web"), by: alice)
      let kept = try await store.eventTables(org: "")
      XCTAssertEqual(kept.map(\.label), ["", "Web"])
      XCTAssertEqual(kept.map(\.artifacts), [["All"], ["Web"]])
      XCTAssertEqual(kept.map(\.changedBy), ["alice", "alice"])
      let foreman = try await foreman(store)
      let first = try await look(store, agent, foreman, 0)
      XCTAssertEqual(first.map(\.sessionID), ["F.Monitoring"])
      XCTAssertEqual(first.first?.updateEventTable.event.flatMap(\.query).map(\.name), ["All"])
      let version = try XCTUnwrap(first.first?.updateEventTable.version)
      _ = try await store.ingest(try agent.submission(agent.checkIn(version: version), at: after(1)))
      let settled = try await look(store, agent, foreman, 1)
      XCTAssertEqual(settled, [])

      // S-10: a label, seen by the frontend that holds the same orders.
      try await store.changeLabels(of: agent.name, add: ["web"], remove: [], by: alice)
      let second = try await look(store, agent, foreman, 2)
      XCTAssertEqual(second.first?.updateEventTable.event.flatMap(\.query).map(\.name), ["All", "Web"])
      XCTAssertGreaterThan(try XCTUnwrap(second.first?.updateEventTable.version), version)
    }
  }

  func testAYoungerTableReplacesOneThatWaits() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      try await store.setEventTable(setting("", "One"), by: alice)
      _ = try await look(store, agent, try await foreman(store), 0)
      try await store.setEventTable(setting("", "Two"), by: alice)
      let current = try await foreman(store)
      // The first was never read: it would be sent again.
      let second = try await look(store, agent, current, 100)
      XCTAssertEqual(second.flatMap(\.updateEventTable.event).flatMap(\.query).map(\.name), ["Two"])
      let third = try await look(store, agent, current, 101)
      XCTAssertEqual(third, [])
    }
  }

  func testOrdersAreAnnounced() async throws {
    try await forEachStore { store in
      let events = try await store.events()
      try await store.setEventTable(setting("", "All"), by: alice)
      for await event in events {
        XCTAssertEqual(event, .foremanChanged(org: ""))
        break
      }
      let audit = try await store.audit(limit: 1)
      XCTAssertEqual(audit.map(\.action), ["events"])
      XCTAssertEqual(audit.map(\.detail), ["all clients: All a=b"])
    }
  }

  // MARK: hunts

  private func newHunt(_ fill: (inout NewHunt) -> Void = { _ in }) throws -> NewHunt {
    let request = try TestAgent().flowTask().message.flowRequest
    var hunt = NewHunt(title: "who", request: request, expiresAt: after(1_000))
    fill(&hunt)
    return hunt
  }

  /// S-13: once per client and hunt; late clients join, expired hunts take none.
  func testEachClientRunsAHuntOnce() async throws {
    try await forEachStore { store in
      let one = try await store.enrolled(TestAgent(1))
      let id = try await store.createHunt(try newHunt(), by: alice)
      let foreman = try await foreman(store)
      let first = try await look(store, one, foreman, 0)
      XCTAssertEqual(first.count, 1)
      let flow = try XCTUnwrap(first.first?.sessionID)
      XCTAssertTrue(flow.hasSuffix(".H"), flow)
      let again = try await look(store, one, foreman, 1)
      XCTAssertEqual(again, [])
      // Considered anew, it still runs it once.
      try await store.changeLabels(of: one.name, add: ["x"], remove: [], by: alice)
      let relabelled = try await look(store, one, foreman, 2)
      XCTAssertEqual(relabelled, [])

      let late = try await store.enrolled(TestAgent(2))
      let joined = try await look(store, late, foreman, 999)
      XCTAssertEqual(joined.count, 1)
      let tooLate = try await store.enrolled(TestAgent(3))
      let none = try await look(store, tooLate, foreman, 1_001)
      XCTAssertEqual(none, [])

      var agent = one
      agent.flow = try XCTUnwrap(FlowID(flow))
      _ = try await store.ingest(
        try agent.submission(
          agent.rows("{\"a\":1}\n{\"a\":2}\n"), agent.stats(.ok, complete: true, rows: 2), at: after(1_002)))
      let record = try await store.hunt(id, org: "")
      XCTAssertEqual(record?.creator, "alice")
      XCTAssertEqual(record?.displayedState(at: after(1)), "RUNNING")
      XCTAssertEqual(record?.displayedState(at: after(1_000)), "EXPIRED")
      var progress = HuntProgress()
      progress.scheduled = 2
      progress.waiting = 1
      progress.completed = 1
      progress.rows = 2
      XCTAssertEqual(record?.progress, progress)
      let members = try await store.members(of: id, org: "", after: 0, limit: 10)
      XCTAssertEqual(members.map(\.client), [one.name, late.name])
      XCTAssertEqual(members.map(\.state), [.finished, .waiting])
      let rest = try await store.members(of: id, org: "", after: members[0].cursor, limit: 10)
      XCTAssertEqual(rest.map(\.client), [late.name])
      try await store.delete(one.name, by: alice)
      let fewer = try await store.members(of: id, org: "", after: 0, limit: 10)
      XCTAssertEqual(fewer.map(\.client), [late.name])
    }
  }

  func testConditionsAreMetLater() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      _ = try await store.createHunt(try newHunt { $0.label = "web" }, by: alice)
      _ = try await store.createHunt(try newHunt { $0.system = "linux" }, by: alice)
      let foreman = try await foreman(store)
      let nothing = try await look(store, agent, foreman, 0)
      XCTAssertEqual(nothing, [])
      let info = #"{"hostname":"w","system":"linux"}"# + "\n"
      _ = try await store.ingest(
        try agent.submission(agent.monitoring(info, name: "Server.Internal.ClientInfo"), at: after(1)))
      let bySystem = try await look(store, agent, foreman, 2)
      XCTAssertEqual(bySystem.count, 1)
      try await store.changeLabels(of: agent.name, add: ["WEB"], remove: [], by: alice)
      let byLabel = try await look(store, agent, foreman, 3)
      XCTAssertEqual(byLabel.count, 1)
      let all = try await store.hunts(org: "", limit: 10)
      XCTAssertEqual(all.map(\.label), ["", "web"], "the newest first")
      XCTAssertEqual(all.map(\.progress.scheduled), [1, 1])
    }
  }

  func testALimitAndAStop() async throws {
    try await forEachStore { store in
      let agents = try await [store.enrolled(TestAgent(1)), store.enrolled(TestAgent(2)), store.enrolled(TestAgent(3))]
      let limited = try await store.createHunt(try newHunt { $0.limit = 2 }, by: alice)
      let foreman = try await foreman(store)
      var counts: [Int] = []
      for agent in agents { counts.append(try await look(store, agent, foreman, 0).count) }
      XCTAssertEqual(counts, [1, 1, 0])
      let full = try await store.hunt(limited, org: "")
      XCTAssertEqual(full?.state, .full)

      let stopped = try await store.createHunt(try newHunt(), by: alice)
      foreman.follow(try await store.foremanOrders(now: start))
      let lease = try await store.leaseTasks(for: agents[0].name, now: after(1), foreman: foreman)
      try await store.release(try XCTUnwrap(lease))
      try await store.stopHunt(stopped, org: "", by: alice)
      let withdrawn = try await look(store, agents[0], foreman, 2)
      XCTAssertEqual(withdrawn, [], "what was not fetched is withdrawn")
      let late = try await look(store, agents[1], foreman, 2)
      XCTAssertEqual(late, [], "a frontend with old orders starts nothing")
      let record = try await store.hunt(stopped, org: "")
      XCTAssertEqual(record?.progress.cancelled, 1)
      let audit = try await store.audit(limit: 10)
      XCTAssertEqual(audit.map(\.action), ["hunt stop", "hunt", "hunt"])
      await assertThrows(.notFound) { try await store.stopHunt(HuntID.make(at: start), org: "", by: alice) }
    }
  }

  /// Frontends that work at the same time on many clients keep the limit and start no flow twice.
  func testManyAtOnce() async throws {
    try await forEachStore { store in
      var agents: [TestAgent] = []
      for number in 1...20 { agents.append(try await store.enrolled(TestAgent(number))) }
      let first = try await store.createHunt(try newHunt { $0.limit = 12 }, by: alice)
      let second = try await store.createHunt(try newHunt(), by: alice)
      let foremen = [try await foreman(store), try await foreman(store)]
      let handed = try await withThrowingTaskGroup(of: Int.self) { group in
        for agent in agents {
          for foreman in foremen {
            group.addTask { [start] in
              try await store.leaseTasks(for: agent.name, now: start, foreman: foreman)?.messages.count ?? 0
            }
          }
        }
        return try await group.reduce(0, +)
      }
      XCTAssertEqual(handed, 32)
      let records = try await [store.hunt(first, org: ""), store.hunt(second, org: "")]
      XCTAssertEqual(records.map { $0?.progress.scheduled }, [12, 20])
    }
  }
}
