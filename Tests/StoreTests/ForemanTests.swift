import PublicIdentity
import Wire
import XCTest

@testable import Store

/// What a client is due, as values: standing and orders in, gifts out.
final class ForemanTests: XCTestCase {
  private let start = Timestamp(seconds: 1_800_000_000)
  private let patience = EventTableOptions().patience

  private func after(_ seconds: Int64) -> Timestamp { start.advanced(by: .seconds(seconds)) }
  private func version(_ time: Timestamp) -> Int64 { time.microseconds * 1_000 }

  private func setting(_ label: String = "", at: Timestamp, _ names: String...) -> EventTableSetting {
    var table = Proto_VQLEventTable()
    table.event = names.map { name in
      var event = Proto_VQLCollectorArgs()
      event.query = [Proto_VQLRequest()]
      event.query[0].name = name
      return event
    }
    return EventTableSetting(label: label, artifacts: names, parameters: [:], table: table, changedAt: at)
  }

  private func orders(_ tables: EventTableSetting..., hunts: [HuntOrder] = []) -> OrgOrders? {
    ForemanOrders(tables: tables, hunts: hunts).of("")
  }

  private func due(_ standing: ClientStanding, _ orders: OrgOrders?, now: Timestamp) -> ForemanDue {
    ForemanDue(standing, orders, interrogates: false, now: now, patience: patience)
  }

  // MARK: event tables

  func testATableIsGivenOnceAndAgainWhenItChanges() {
    var standing = ClientStanding()
    XCTAssertTrue(due(standing, nil, now: start).isEmpty, "no table was ever set")
    let first = due(standing, orders(setting(at: start, "A")), now: after(5))
    XCTAssertEqual(first.tableVersion, version(after(5)))
    standing.tableGiven = version(after(5))
    XCTAssertTrue(due(standing, orders(setting(at: start, "A")), now: after(6)).isEmpty)
    XCTAssertEqual(due(standing, orders(setting(at: after(7), "B")), now: after(8)).tableVersion, version(after(8)))
  }

  /// S-10, and no work where tables do not go by label.
  func testAChangeOfLabelsDemandsANewTableWhereTablesGoByLabel() {
    var standing = ClientStanding()
    standing.tableGiven = version(after(5))
    standing.tableReported = version(after(5))
    standing.labelsChanged = after(10)
    XCTAssertTrue(due(standing, orders(setting(at: start, "A")), now: after(11)).isEmpty)
    let byLabel = orders(setting(at: start, "A"), setting("web", at: start, "W"))
    XCTAssertEqual(due(standing, byLabel, now: after(11)).tableVersion, version(after(11)))
    // Clocks that disagree: the version is never below what is demanded or was given.
    XCTAssertEqual(due(standing, byLabel, now: after(9)).tableVersion, version(after(10)))
  }

  /// A client that lost its state reports 0: it is given the table again, not at every contact.
  func testAClientThatForgotItsTableIsGivenItAgain() {
    var standing = ClientStanding()
    standing.tableGiven = version(start)
    let orders = orders(setting(at: start, "A"))
    XCTAssertTrue(due(standing, orders, now: after(100)).isEmpty, "it may still be on its way")
    XCTAssertEqual(due(standing, orders, now: after(121)).tableVersion, version(after(121)))
    standing.tableReported = standing.tableGiven
    XCTAssertTrue(due(standing, orders, now: after(500)).isEmpty)
  }

  /// S-11.
  func testTheTableOfAClient() {
    var all = setting(at: start, "A", "B")
    all.table.event[1].maxWait = 7
    let settings = [setting("web", at: start, "W"), setting("db", at: start, "D"), all]
    var random = SystemRandomNumberGenerator()
    let traits = ClientTraits(labels: ["WEB"], system: "linux")
    let message = EventTableSetting.message(
      settings, for: traits, version: 42, options: EventTableOptions(), using: &random)
    XCTAssertEqual(message.sessionID, "F.Monitoring")
    XCTAssertEqual(message.updateEventTable.version, 42)
    XCTAssertEqual(message.updateEventTable.event.flatMap(\.query).map(\.name), ["A", "B", "W"])
    XCTAssertEqual(message.updateEventTable.event[1].maxWait, 7)
    for event in [message.updateEventTable.event[0], message.updateEventTable.event[2]] {
      XCTAssertTrue((120..<140).contains(event.maxWait), "\(event.maxWait)")
    }
  }

  // MARK: hunts

  private func hunt(_ start: Timestamp, expires: Timestamp? = nil, label: String = "", system: String = "") -> HuntOrder
  {
    HuntOrder(
      key: start.microseconds, id: HuntID.make(at: start), org: "", startedAt: start,
      expiresAt: expires ?? after(1_000),
      label: label, system: system, request: [])
  }

  func testAClientIsConsideredForNewerHuntsOnly() {
    var standing = ClientStanding()
    let hunts = [hunt(after(20)), hunt(after(10)), hunt(after(15), expires: after(25))]
    let first = due(standing, orders(hunts: hunts), now: after(30))
    XCTAssertEqual(first.hunts.map(\.startedAt), [after(10), after(20)])
    XCTAssertEqual(first.huntsSeen, after(20))
    standing.huntsSeen = after(10)
    XCTAssertEqual(due(standing, orders(hunts: hunts), now: after(30)).hunts.map(\.startedAt), [after(20)])
    standing.huntsSeen = after(20)
    XCTAssertTrue(due(standing, orders(hunts: hunts), now: after(30)).isEmpty)
  }

  func testConditions() {
    let traits = ClientTraits(labels: ["Web"], system: "linux")
    XCTAssertTrue(hunt(start).isFor(traits))
    XCTAssertTrue(hunt(start, label: "web", system: "Linux").isFor(traits))
    XCTAssertFalse(hunt(start, label: "db").isFor(traits))
    XCTAssertFalse(hunt(start, system: "windows").isFor(traits))
    XCTAssertFalse(hunt(start, system: "linux").isFor(ClientTraits(labels: [], system: "")), "not known yet")
  }

  func testHuntIDs() {
    XCTAssertNotNil(HuntID(HuntID.make(at: start).text))
    for text in ["", "H.", "F.AAAAAAAAAAAA0", "H.a", "H.AAAAAAAAAAAA0.H"] { XCTAssertNil(HuntID(text), text) }
    XCTAssertNotNil(FlowID(FlowID.makeForHunt(at: start).text))
  }

  // MARK: interrogation

  /// S-1: at the configured rate; the others look again when their time has come.
  func testTheRateOfInterrogations() throws {
    let foreman = Foreman(interrogationsPerSecond: 2)
    let agents = try (1...4).map { try TestAgent($0).name }
    let standing = ClientStanding()
    func isAsked(_ number: Int, _ now: Timestamp) -> Bool {
      foreman.due(standing, for: agents[number], now: now)?.interrogates ?? false
    }
    XCTAssertEqual((0..<4).map { isAsked($0, start) }, [true, true, false, false])
    XCTAssertFalse(isAsked(2, start), "it waits once, however often it looks")
    XCTAssertEqual(foreman.readmitted(now: start), [])
    XCTAssertEqual(foreman.readmitted(now: start.advanced(by: .milliseconds(500))), [agents[2]])
    XCTAssertTrue(isAsked(2, start.advanced(by: .milliseconds(500))))
    XCTAssertEqual(foreman.readmitted(now: after(2)), [agents[3]])
    var known = standing
    known.isInterrogated = true
    XCTAssertNil(foreman.due(known, for: agents[0], now: after(9)))
    XCTAssertNil(Foreman(interrogationsPerSecond: -1).due(standing, for: agents[0], now: start))
  }
}
