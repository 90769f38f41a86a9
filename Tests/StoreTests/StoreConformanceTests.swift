import Foundation
import PublicIdentity
import Store
import Wire
import XCTest

/// What every store must do: clients, and what agents send.
final class StoreConformanceTests: XCTestCase {
  // MARK: clients

  func testEnrollmentStoresTheKey() async throws {
    try await forEachStore { store in
      let agent = try TestAgent()
      let missing = try await store.publicKey(of: agent.name)
      XCTAssertNil(missing)
      let at = Timestamp(seconds: 1_800_000_000)
      try await store.enroll(agent.name, publicKeyPEM: "PEM 1", at: at, address: "192.0.2.7:1")
      try await store.enroll(
        agent.name, publicKeyPEM: "PEM 2", at: at.advanced(by: .seconds(5)), address: "192.0.2.8:1")
      let key = try await store.publicKey(of: agent.name)
      XCTAssertEqual(key, StoredKey(publicKeyPEM: "PEM 2", enrolledAt: at.advanced(by: .seconds(5))))
      let record = try await store.client(agent.name)
      XCTAssertEqual(record?.firstSeen, at)
      XCTAssertEqual(record?.lastAddress, "192.0.2.8:1")
      let exists = try await store.clientExists(agent.name)
      XCTAssertTrue(exists)
    }
  }

  func testOrgsAreApart() async throws {
    try await forEachStore { store in
      let root = try await store.enrolled(TestAgent(1))
      let tenant = try TestAgent(1, org: "O123")
      let key = try await store.publicKey(of: tenant.name)
      XCTAssertNil(key)
      _ = try await store.enrolled(tenant)
      _ = try await store.ingest(try root.submission(root.monitoring("{\"a\":1}\n")))
      var filter = ClientFilter()
      filter.org = "O123"
      let clients = try await store.clients(filter)
      XCTAssertEqual(clients.map(\.client), [tenant.name])
      let rows = try await store.monitoring(
        org: "O123", artifact: "Generic.Client.Stats", client: nil, after: 0, limit: 10)
      XCTAssertTrue(rows.isEmpty)
    }
  }

  func testHostFactsAndLabelsAreSearchable() async throws {
    try await forEachStore { store in
      let web = try await store.enrolled(TestAgent(1))
      let other = try await store.enrolled(TestAgent(2))
      let row = #"{"hostname":"Web1","fqdn":"web1.example.org","system":"linux","labels":["prod"]}"# + "\n"
      _ = try await store.ingest(try web.submission(web.monitoring(row, name: "Server.Internal.ClientInfo")))
      // A later row without the system keeps it.
      let later = #"{"hostname":"web1","architecture":"amd64"}"# + "\n"
      _ = try await store.ingest(try web.submission(web.monitoring(later, name: "Server.Internal.ClientInfo")))
      let record = try await store.client(web.name)
      XCTAssertEqual(record?.facts.hostname, "web1")
      XCTAssertEqual(record?.facts.system, "linux")
      XCTAssertEqual(record?.labels, ["prod"])
      for search in ["web", "WEB1", "web1.exa", "label:PROD", "c.0000000000000001", "C.0000000000000001"] {
        var filter = ClientFilter()
        filter.search = search
        let found = try await store.clients(filter)
        XCTAssertEqual(found.map(\.client), [web.name], search)
      }
      try await store.changeLabels(of: web.name, add: ["Linux", "linux"], remove: ["PROD"], by: alice)
      let labels = try await store.client(web.name)?.labels
      XCTAssertEqual(labels, ["Linux"])
      var filter = ClientFilter()
      filter.limit = 1
      let first = try await store.clients(filter)
      filter.after = first.last?.client.id.rawValue
      let second = try await store.clients(filter)
      XCTAssertEqual((first + second).map(\.client), [web.name, other.name])
      await assertThrows(.notFound) {
        try await store.changeLabels(of: try TestAgent(9).name, add: ["x"], remove: [], by: alice)
      }
    }
  }

  func testAnUnknownClientStoresNothing() async throws {
    try await forEachStore { store in
      let agent = try TestAgent()
      let result = try await store.ingest(try agent.submission(agent.rows("{}\n"), agent.piece("x", offset: 0)))
      XCTAssertEqual(result.outcome, .unknownClient)
      let exists = try await store.clientExists(agent.name)
      XCTAssertFalse(exists)
    }
  }

  // MARK: rows

  func testRowsComeBackExactlyAndInOrder() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let lines = (0..<25).map { "{ \"n\" : \($0),\"t\":\"a\\u0000\u{0000}ü\"}" }
      for part in 0..<5 {
        let text = lines[(part * 5)..<(part * 5 + 5)].joined(separator: "\n")
        let result = try await store.ingest(
          try agent.submission(agent.rows(text, start: UInt64(part * 5), part: UInt64(part))))
        XCTAssertEqual(result.rows, 5)
      }
      let all = try await store.json(agent.flowName)
      XCTAssertEqual(all, lines)
      let some = try await store.rows(of: agent.flowName, source: "Custom.Query", from: 7, limit: 6)
      XCTAssertEqual(some.map(\.index), Array(7..<13))
      XCTAssertEqual(some.map(\.json), Array(lines[7..<13]))
      let sources = try await store.sources(of: agent.flowName)
      XCTAssertEqual(sources.map(\.rows), [25])
      let beyond = try await store.rows(of: agent.flowName, source: "Custom.Query", from: 25, limit: 6)
      XCTAssertTrue(beyond.isEmpty)
    }
  }

  func testAReSentListChangesNothing() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let at = Timestamp(seconds: 1_800_000_000)
      let jobs = [
        agent.rows("{\"a\":1}\n"), agent.monitoring("{\"m\":1}\n"), agent.log("{\"l\":1}\n", id: 0),
        agent.piece("hello", offset: 0), agent.checkIn(version: 7),
      ]
      var body = Submission(client: agent.name, remoteAddress: "1", receivedAt: at, lists: [try agent.list(jobs)])
      let first = try await store.ingest(body)
      XCTAssertEqual(first.duplicateLists, 0)
      body.receivedAt = at.advanced(by: .seconds(90))
      body.remoteAddress = "2"
      // The same list with a new one beside it, as an agent's retry may carry.
      body.lists.append(try agent.list([agent.rows("{\"a\":2}\n", start: 1, part: 1)]))
      let second = try await store.ingest(body)
      XCTAssertEqual(second.duplicateLists, 1)
      XCTAssertEqual(second.rows, 1)
      XCTAssertEqual(second.eventTableVersion, 7)
      let rows = try await store.json(agent.flowName)
      XCTAssertEqual(rows, ["{\"a\":1}", "{\"a\":2}"])
      let monitoring = try await store.monitoring(
        org: "", artifact: "Generic.Client.Stats", client: nil, after: 0, limit: 10)
      XCTAssertEqual(monitoring.map(\.jsonl), ["{\"m\":1,\"ClientId\":\"\(agent.name)\"}\n"])
      let logs = try await store.logs(of: agent.flowName, after: 0, limit: 10)
      XCTAssertEqual(logs.map(\.jsonl), ["{\"l\":1}\n"])
      let contact = try await store.client(agent.name)
      XCTAssertEqual(contact?.lastSeen, body.receivedAt)
      XCTAssertEqual(contact?.lastAddress, "2")
    }
  }

  func testCheckInsAreNotRememberedAndAlwaysRefreshTheContact() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      for second in 1...3 {
        let at = Timestamp(seconds: 1_900_000_000 + Int64(second))
        let result = try await store.ingest(try agent.submission(agent.checkIn(version: 0), at: at))
        XCTAssertEqual(result.duplicateLists, 0)
        XCTAssertEqual(result.eventTableVersion, 0)
        let seen = try await store.client(agent.name)?.lastSeen
        XCTAssertEqual(seen, at)
      }
    }
  }

  func testQueryStartRow() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      _ = try await store.ingest(try agent.submission(agent.rows("{\"a\":1}\n{\"a\":2}\n")))
      let again = try await store.ingest(try agent.submission(agent.rows("{\"a\":1}\n{\"a\":2}\n"), agent.checkIn()))
      XCTAssertEqual(again.duplicateParts, 1)
      // A gap keeps the agent's numbers.
      _ = try await store.ingest(try agent.submission(agent.rows("{\"a\":9}\n", start: 8, part: 3)))
      _ = try await store.ingest(try agent.submission(agent.rows("{\"a\":9}\n", start: 8, part: 3), agent.checkIn()))
      // A child flow appends to its parent's rows.
      _ = try await store.ingest(try agent.submission(agent.rows("{\"c\":1}\n", session: agent.flow.text + "/1")))
      let rows = try await store.rows(of: agent.flowName, source: "Custom.Query", from: 0, limit: 100)
      XCTAssertEqual(rows.map(\.json), ["{\"a\":1}", "{\"a\":2}", "{\"a\":9}", "{\"c\":1}"])
      XCTAssertEqual(rows.map(\.index), [0, 1, 8, 9])
    }
  }

  func testAFailingJobDoesNotStopTheOthers() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let result = try await store.ingest(
        try agent.submission(
          agent.rows("{}\n", session: "F.bad"), agent.rows("{\"a\":1}\n", name: "../up"), agent.rows("{\"a\":1}\n"),
          agent.job { $0.fileBuffer.data = Data([1]) }))
      XCTAssertEqual(result.outcome, .stored)
      XCTAssertEqual(result.rows, 1)
      XCTAssertEqual(result.failures.map(\.reason), [.malformedSession, .malformedArtifact, .malformedUpload])
    }
  }

  // MARK: logs, alerts, conflicts

  func testReSentLogsDoNotDouble() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      _ = try await store.ingest(try agent.submission(agent.log("{\"m\":1}\n{\"m\":2}\n", id: 0)))
      let again = try await store.ingest(
        try agent.submission(agent.log("{\"m\":1}\n{\"m\":2}\n", id: 0), agent.log("{\"m\":3}\n", id: 2)))
      XCTAssertEqual(again.duplicateParts, 1)
      XCTAssertEqual(again.logs, 1)
      // Another text under an old number is another message: nothing is lost.
      _ = try await store.ingest(try agent.submission(agent.log("{\"m\":\"refused\"}\n", id: 0)))
      let logs = try await store.logs(of: agent.flowName, after: 0, limit: 10)
      XCTAssertEqual(logs.map(\.jsonl), ["{\"m\":1}\n{\"m\":2}\n", "{\"m\":3}\n", "{\"m\":\"refused\"}\n"])
      let rest = try await store.logs(of: agent.flowName, after: logs[0].cursor, limit: 10)
      XCTAssertEqual(rest.map(\.firstID), [2, 0])
    }
  }

  func testAlertsAndConflictsAreEvents() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let line = #"{"client_time":1,"level":"ALERT","message":"{\"name\":\"x\"}"}"# + "\n"
      _ = try await store.ingest(try agent.submission(agent.log(line, id: 0, level: "ALERT")))
      let alerts = try await store.monitoring(
        org: "", artifact: "Server.Internal.Alerts", client: agent.name, after: 0, limit: 10)
      XCTAssertEqual(alerts.count, 1)
      let conflict = ClientConflict(
        client: agent.name, remoteAddress: "198.51.100.1:7", userAgent: "\"x\"", at: Timestamp(seconds: 9))
      try await store.recordConflict(conflict)
      let events = try await store.monitoring(
        org: "", artifact: "Server.Internal.ClientConflict", client: nil, after: 0, limit: 10)
      let row = try JSONSerialization.jsonObject(with: Data(events[0].jsonl.utf8)) as? [String: Any]
      XCTAssertEqual(row?["UserAgent"] as? String, "\"x\"")
      XCTAssertEqual(row?["ClientId"] as? String, agent.name.id.rawValue)
    }
  }

  func testMonitoringIsFollowedByCursor() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      for number in 0..<5 {
        _ = try await store.ingest(try agent.submission(agent.monitoring("{\"n\":\(number)}\n")))
      }
      var cursor: Int64 = 0
      var seen: [String] = []
      while true {
        let page = try await store.monitoring(
          org: "", artifact: "Generic.Client.Stats", client: agent.name, after: cursor, limit: 2)
        guard let last = page.last else { break }
        cursor = last.cursor
        seen += page.map(\.jsonl)
      }
      XCTAssertEqual(seen.count, 5)
      let end = try await store.monitoringEnd()
      XCTAssertEqual(end, cursor)
    }
  }

  // MARK: deletion

  func testDeletionRemovesEverythingAndLetsTheClientEnrollAgain() async throws {
    try await forEachStore { store in
      let agent = try await store.enrolled(TestAgent())
      let other = try await store.enrolled(TestAgent(2))
      try await store.queue([agent.flowTask(), other.flowTask()], by: alice)
      for item in [agent, other] {
        _ = try await store.ingest(
          try item.submission(item.rows("{\"a\":1}\n"), item.monitoring("{}\n"), item.piece("x", offset: 0)))
      }
      let events = try await store.events()
      let deleted = try await store.delete(agent.name, by: alice)
      XCTAssertTrue(deleted)
      for await event in events {
        XCTAssertEqual(event, .clientDeleted(agent.name))
        break
      }
      let key = try await store.publicKey(of: agent.name)
      XCTAssertNil(key)
      let twice = try await store.delete(agent.name, by: alice)
      XCTAssertFalse(twice)
      _ = try await store.enrolled(agent)
      let flows = try await store.flows(of: agent.name, limit: 10)
      XCTAssertTrue(flows.isEmpty)
      let lease = try await store.leaseTasks(for: agent.name, now: .now())
      XCTAssertNil(lease)
      // What was deleted can be sent again.
      let again = try await store.ingest(try agent.submission(agent.rows("{\"a\":1}\n")))
      XCTAssertEqual(again.rows, 1)
      let untouched = try await store.json(other.flowName)
      XCTAssertEqual(untouched, ["{\"a\":1}"])
      let audit = try await store.audit(limit: 1)
      XCTAssertEqual(audit.map(\.action), ["delete"])
      XCTAssertEqual(audit.map(\.by), [alice])
    }
  }

  func testManyAtOnce() async throws {
    try await forEachStore { store in
      let agents = try (1...20).map { try TestAgent($0) }
      for agent in agents { _ = try await store.enrolled(agent) }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for agent in agents {
          group.addTask {
            for part in 0..<20 {
              let job = agent.rows("{\"n\":\(part)}\n", start: UInt64(part), part: UInt64(part))
              _ = try await store.ingest(try agent.submission(job))
            }
          }
        }
        try await group.waitForAll()
      }
      for agent in agents {
        let rows = try await store.json(agent.flowName)
        XCTAssertEqual(rows, (0..<20).map { "{\"n\":\($0)}" })
      }
    }
  }
}

/// Expects a `StoreError` of this code.
func assertThrows(
  _ code: StoreError.Code, file: StaticString = #filePath, line: UInt = #line, _ body: () async throws -> Void
) async {
  do {
    try await body()
    XCTFail("nothing was thrown, expected \(code)", file: file, line: line)
  } catch {
    XCTAssertEqual((error as? StoreError)?.code, code, "\(error)", file: file, line: line)
  }
}
