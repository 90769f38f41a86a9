import Foundation
import Synchronization
import Wire
import XCTest

@testable import AgentCore

final class EventTableTests: XCTestCase {
  private let engine = FakeEngine()
  private let outbox = RecordingOutbox()
  private let saved = Versions()

  private final class Versions: Sendable {
    let list = Mutex<[UInt64]>([])
  }

  private func table() -> EventTable {
    EventTable(
      engine: engine, outbox: outbox, time: .system, settings: AgentSettings(), log: LogRecorder().logger,
      changed: { [saved] table in saved.list.withLock { $0.append(table.version) } })
  }

  private func message(_ version: UInt64, _ statements: [String]) -> Proto_VQLEventTable {
    .with {
      $0.version = version
      $0.event = [Make.collector(statements, name: "Event.One")]
    }
  }

  private var starts: Int { engine.started.withLock { $0.filter { $0.hasPrefix("rows") }.count } }

  private func waitForRows(_ count: Int) {
    outbox.wait { $0.rows("F.Monitoring").count >= count }
  }

  ///
  func testVersionsAndEqualQueries() {
    let table = table()
    XCTAssertEqual(table.version, 0)
    table.update(message(5, ["rows 1"]))
    waitForRows(1)
    XCTAssertEqual(table.version, 5)
    table.update(message(5, ["rows 2"]))
    table.update(message(4, ["rows 2"]))
    table.update(message(6, ["rows 1"]))
    table.settle()
    XCTAssertEqual(table.version, 6)
    XCTAssertEqual(starts, 1, "equal queries are not restarted")
    table.update(message(7, ["rows 3"]))
    waitForRows(2)
    table.stop()
    XCTAssertEqual(starts, 2)
    XCTAssertEqual(saved.list.withLock { $0 }, [5, 6, 7])
  }

  func testRowsTravelUnderTheMonitoringFlowAndLogsCarryTheArtifact() {
    let table = table()
    var message = message(1, ["log INFO:hello", "rows 2"])
    message.event.append(Proto_VQLCollectorArgs())
    table.restore(message)
    waitForRows(1)
    table.stop()
    let row = outbox.rows("F.Monitoring").first
    XCTAssertEqual(row?.query.name, "Event.One")
    XCTAssertEqual(row?.totalRows, 2)
    let logs = outbox.sent.filter(\.hasLogMessage).map(\.logMessage)
    XCTAssertEqual(Set(logs.map(\.artifact)), ["Event.One"])
    XCTAssertTrue(outbox.logText("F.Monitoring").contains("hello"))
    XCTAssertTrue(outbox.sent.allSatisfy { !$0.hasFlowStats }, "no stats for standing queries")
  }

  func testAStandingQueryIsStoppedForTheNextTable() {
    let table = table()
    table.update(message(1, ["rows 1", "block"]))
    engine.waitForStart(of: "block")
    table.update(message(2, ["rows 4"]))
    outbox.wait { $0.rows("F.Monitoring").contains { $0.totalRows == 4 } }
    table.stop()
  }

  /// client.md §8.6: the same messages as in flows, under the monitoring flow.
  func testFilesOfStandingQueriesAreSent() {
    let table = table()
    table.update(message(1, ["upload 1100000", "upload 3", "rows 1"]))
    waitForRows(1)
    table.stop()
    let sent = outbox.sent.filter { $0.requestID == 5 }
    XCTAssertTrue(sent.allSatisfy { $0.sessionID == "F.Monitoring" })
    XCTAssertEqual(sent.filter(\.hasUploadTransaction).count, 2)
    let buffers = sent.filter(\.hasFileBuffer).map(\.fileBuffer)
    XCTAssertEqual(buffers.map(\.data.count), [1_048_576, 51_424, 0, 3, 0])
    XCTAssertEqual(Set(buffers.map(\.uploadNumber)).count, 2)
  }

  func testRefreshPeriodsAreSpread() {
    var random = RandomSource(seed: 9)
    let periods = (0..<100).map { _ in EventQuery.refreshPeriod(0, using: &random) }
    XCTAssertTrue(periods.allSatisfy { (.seconds(38_879)...(.seconds(47_521))).contains($0) })
    XCTAssertGreaterThan(Set(periods).count, 90)
    XCTAssertLessThan(EventQuery.refreshPeriod(100, using: &random), .seconds(111))
  }
}
