import Foundation
import PublicIdentity
import TestDatabase
import Wire
import XCTest

@testable import Store

/// What is older than `StoreOptions.retention` goes, in small steps; what is younger stays.
final class RetentionTests: XCTestCase {
  private let start = Timestamp(seconds: 1_800_000_000)
  private func day(_ number: Int64) -> Timestamp { start.advanced(by: .seconds(number * 86_400)) }

  private func options(_ fill: (inout Retention) -> Void) -> StoreOptions {
    var options = StoreOptions()
    fill(&options.retention)
    return options
  }

  /// Steps until nothing is left to do; each does a bounded amount of work.
  private func settle(_ store: any Store, _ now: Timestamp) async throws -> RetentionReport {
    var sum = RetentionReport()
    for _ in 0..<500 {
      let report = try await store.maintain(now: now)
      let step = report.retention
      for count in [step.monitoring, step.uploads, step.logs, step.audit, step.flows] {
        XCTAssertLessThanOrEqual(count, 500)
      }
      XCTAssertLessThanOrEqual(step.records, 3_000)
      sum.monitoring += step.monitoring
      sum.flows += step.flows
      sum.uploads += step.uploads
      sum.logs += step.logs
      sum.audit += step.audit
      if !report.hasMore { return sum }
    }
    XCTFail("housekeeping does not end")
    return sum
  }

  func testOldEventRowsGoAndRequestsGoOn() async throws {
    try await forEachStore(options { $0.monitoring = .seconds(10 * 86_400) }) { store in
      let agent = try await store.enrolled(TestAgent())
      for number in 0..<600 {
        let name = number % 2 == 0 ? "Generic.Client.Stats" : "Linux.Events"
        _ = try await store.ingest(
          try agent.submission(agent.monitoring("{\"n\":\(number)}\n", name: name), at: day(Int64(number / 100))))
      }
      // Days 0 to 3 are older than ten days on day 13 and a half.
      let now = day(13).advanced(by: .seconds(43_200))
      let first = try await store.maintain(now: now)
      XCTAssertTrue(first.hasMore, "one step is not all")
      XCTAssertGreaterThan(first.retention.monitoring, 0)
      let between = try await store.ingest(try agent.submission(agent.monitoring("{\"n\":600}\n"), at: now))
      XCTAssertEqual(between.monitoringRows, 1, "between two steps others have their turn")
      _ = try await settle(store, now)
      var left = 0
      for name in ["Generic.Client.Stats", "Linux.Events"] {
        let chunks = try await store.monitoring(org: "", artifact: name, client: nil, after: 0, limit: 1_000)
        left += chunks.count
        XCTAssertTrue(chunks.allSatisfy { $0.receivedAt >= day(4) })
      }
      XCTAssertEqual(left, 201)
      let idle = try await store.maintain(now: now)
      XCTAssertEqual(idle, MaintenanceReport())
    }
  }

  func testEndedFlowsGoWithAllTheyHave() async throws {
    try await forEachStore(options { $0.flows = .seconds(30 * 86_400) }) { store in
      let agent = try await store.enrolled(TestAgent())
      var flows: [FlowID] = []
      for number in 0..<30 {
        let flow = FlowID.make(at: start, random: UInt32(number))
        flows.append(flow)
        var worker = agent
        worker.flow = flow
        try await store.queue([worker.flowTask()], by: alice)
        _ = try await store.leaseTasks(for: agent.name, now: start)
        for part in 0..<30 {
          _ = try await store.ingest(
            try worker.submission(
              worker.rows("{\"n\":\(part)}\n", start: UInt64(part), part: UInt64(part)),
              worker.log("{}\n", id: Int64(part)),
              at: day(Int64(number))))
        }
        _ = try await store.ingest(
          try worker.submission(
            worker.piece("abc", offset: 0), worker.piece("", offset: 3, eof: true, stored: 3),
            worker.stats(.ok, complete: true), at: day(Int64(number))))
      }
      let young = try await store.maintain(now: day(30))
      XCTAssertEqual(young.retention, RetentionReport())
      let removed = try await settle(store, day(50).advanced(by: .seconds(1)))
      XCTAssertEqual(removed.flows, 21)
      let left = try await store.flows(of: agent.name, limit: 100).map(\.name.flow)
      XCTAssertEqual(Set(left), Set(flows.dropFirst(21)))
      for flow in flows.prefix(21) {
        let name = FlowName(client: agent.name, flow: flow)
        let rows = try await store.json(name)
        XCTAssertEqual(rows, [])
      }
      let kept = FlowName(client: agent.name, flow: flows[25])
      let rows = try await store.json(kept)
      XCTAssertEqual(rows.count, 30)
      let upload = try await store.uploads(of: kept)
      XCTAssertEqual(upload.count, 1)
    }
  }

  func testOldUploadsLogsAndAuditGoAloneFromFlowsThatStay() async throws {
    let age: Duration = .seconds(5 * 86_400)
    let options = options { retention in
      retention.uploads = age
      retention.logs = age
      retention.audit = age
    }
    try await forEachStore(options) { store in
      let agent = try await store.enrolled(TestAgent())
      for number in 0..<4 {
        _ = try await store.ingest(
          try agent.submission(
            agent.rows("{}\n", start: UInt64(number)), agent.log("{}\n", id: Int64(number)),
            agent.piece("abc", offset: 0, components: ["f\(number)"], number: Int64(number)),
            agent.piece(
              "", offset: 3, components: ["f\(number)"], number: Int64(number), eof: true, stored: 3),
            at: .now().advanced(by: .seconds(-86_400 * Int64(10 - number * 3)))))
      }
      try await store.changeLabels(of: agent.name, add: ["x"], remove: [], by: alice)
      _ = try await settle(store, .now())
      let uploads = try await store.uploads(of: agent.flowName)
      XCTAssertEqual(uploads.map(\.number), [2, 3])
      let logs = try await store.logs(of: agent.flowName, after: 0, limit: 10)
      XCTAssertEqual(logs.map(\.firstID), [2, 3])
      let rows = try await store.json(agent.flowName)
      XCTAssertEqual(rows.count, 4)
      let audit = try await store.audit(limit: 10)
      XCTAssertEqual(audit.count, 1)
      _ = try await settle(store, Timestamp.now().advanced(by: .seconds(86_400 * 6)))
      let later = try await store.audit(limit: 10)
      XCTAssertEqual(later.count, 0)
      let none = try await store.uploads(of: agent.flowName)
      XCTAssertEqual(none, [])
    }
  }

  /// Files of removed uploads are gone, and so are the directories that held nothing else.
  func testFilesGoWithTheirRecords() async throws {
    let directory = try temporaryDirectory()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let store = try await SQLiteStore.open(location: directory, options: options { $0.flows = .seconds(60) })
    let agent = try await store.enrolled(TestAgent())
    _ = try await store.ingest(
      try agent.submission(
        agent.piece("abc", offset: 0), agent.piece("", offset: 3, eof: true, stored: 3),
        agent.stats(.ok, complete: true), at: start))
    let upload = try await store.uploads(of: agent.flowName)
    let path = try XCTUnwrap(upload.first.map { store.uploadPath($0) })
    XCTAssertTrue(FileManager.default.fileExists(atPath: path))
    _ = try await settle(store, day(1))
    XCTAssertFalse(FileManager.default.fileExists(atPath: path))
    let left = try FileManager.default.subpathsOfDirectory(atPath: directory + "/uploads")
    XCTAssertFalse(left.contains { $0.contains(agent.flow.text) }, "\(left)")
    await store.close()
  }

  func testASizeIsKept() async throws {
    let directory = try temporaryDirectory()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let store = try await SQLiteStore.open(location: directory, options: options { $0.maximumBytes = 2 << 20 })
    let agent = try await store.enrolled(TestAgent())
    let row = "{\"text\":\"" + String(repeating: "x", count: 10_000) + "\"}\n"
    for number in 0..<600 {
      _ = try await store.ingest(
        try agent.submission(
          agent.monitoring(row.replacingOccurrences(of: "{", with: "{\"n\":\(number),")),
          at: start.advanced(by: .seconds(Int64(number)))))
    }
    _ = try await settle(store, .now())
    let used = try await store.read { try SQLiteStore.usedBytes($0) }
    XCTAssertLessThanOrEqual(used, 2 << 20)
    let left = try await store.monitoring(
      org: "", artifact: "Generic.Client.Stats", client: nil, after: 0, limit: 1_000)
    XCTAssertGreaterThan(left.count, 50, "no more than needed")
    XCTAssertEqual(left.last?.receivedAt, start.advanced(by: .seconds(599)), "the oldest went first")
    await store.close()
  }
}
