import Foundation
import PublicIdentity
import Wire
import XCTest

@testable import Store

/// server.md §2 and §3 without a store: one job in, effects out.
final class JobProcessorTests: XCTestCase {
  private let processor = JobProcessor()

  private func process(_ job: Proto_VeloMessage) throws -> JobOutcome {
    processor.process(job, from: try TestAgent().name)
  }

  private func refusal(_ job: Proto_VeloMessage) throws -> JobFailure.Reason? {
    try process(job).failure?.reason
  }

  func testSessionsAreCheckedBeforeUse() throws {
    let agent = try TestAgent()
    for session in ["", "F.../../etc", "F.x", "H.1", "F.CL9V206ULMVEU/.."] {
      XCTAssertEqual(try refusal(agent.rows("{}\n", session: session)), .malformedSession, session)
    }
    let outcome = try process(agent.rows("{}\n", session: "E.Foreman"))
    XCTAssertNil(outcome.failure)
    XCTAssertTrue(outcome.effects.isEmpty)
  }

  /// Agents that were a stock server's echo its tokens: what they name is kept under the names.
  func testTokensOfAStockServerAreRead() throws {
    let token = "$87b4abb4dd550e77bce78ccd887504b222863fdd278641e707785e8964991275"
    let agent = try TestAgent()
    XCTAssertEqual(try refusal(agent.rows("{}\n", name: token)), .malformedArtifact, "the nonce is not known")
    let knowing = JobProcessor(names: ObfuscatedNames(nonce: "o16/H5U1Ee0="))
    func effects(_ job: Proto_VeloMessage) -> [JobEffect] { knowing.process(job, from: agent.name).effects }
    guard case .rows(let rows)? = effects(agent.rows("{\"a\":\"\(token)\"}\n", name: token)).first,
      case .monitoringRows(let events)? = effects(agent.monitoring("{}\n", name: token)).first,
      case .log(let log)? = effects(agent.log("{\"message\":\"\(token): done\"}\n", id: 0)).first
    else { return XCTFail("nothing was stored") }
    XCTAssertEqual(rows.artifact, "Generic.Client.Stats")
    XCTAssertEqual(rows.jsonl, Data("{\"a\":\"\(token)\"}\n".utf8), "rows are never altered")
    XCTAssertEqual(events.artifact, "Generic.Client.Stats")
    XCTAssertEqual(log.jsonl, Data("{\"message\":\"Generic.Client.Stats: done\"}\n".utf8))
  }

  func testRowsKeepTheirText() throws {
    let agent = try TestAgent()
    let text = "{ \"b\" : 1,\"a\":\"\\u00e4\"}\n{\"c\":null}"
    guard case .rows(let part)? = try process(agent.rows(text, start: 5, part: 1)).effects.first else {
      return XCTFail("no rows")
    }
    XCTAssertEqual(part.jsonl, Data((text + "\n").utf8))
    XCTAssertEqual(part.count, 2)
    XCTAssertEqual(part.startRow, 5)
    XCTAssertFalse(part.isChild)
    XCTAssertEqual(part.flow, agent.flow)
  }

  func testCompressedRowsAreInflatedWithinTheLimit() throws {
    let agent = try TestAgent()
    let text = String(repeating: "{\"a\":1}\n", count: 1_000)
    var job = agent.rows("")
    job.vqlresponse.uncompressedSize = UInt64(text.utf8.count)
    job.vqlresponse.compressedJsonResponse = Data(try Zlib.deflate(Array(text.utf8)))
    guard case .rows(let part)? = try process(job).effects.first else { return XCTFail("no rows") }
    XCTAssertEqual(part.jsonl, Data(text.utf8))
    var small = processor
    small.limits.bytesPerPart = 1_000
    XCTAssertEqual(small.process(job, from: agent.name).failure?.reason, .tooLarge)
    job.vqlresponse.compressedJsonResponse = Data([1, 2, 3])
    XCTAssertEqual(try refusal(job), .malformedRows)
  }

  func testMalformedRowsAreRefused() throws {
    let agent = try TestAgent()
    XCTAssertEqual(try refusal(agent.rows("")), .malformedRows)
    XCTAssertEqual(try refusal(agent.rows("{}\n", name: "")), .malformedArtifact)
    XCTAssertEqual(try refusal(agent.rows("{}\n", name: "$6f6b")), .malformedArtifact)
    XCTAssertEqual(try refusal(agent.rows("{}\n", name: "../../x")), .malformedArtifact)
    var small = processor
    small.limits.rowsPerPart = 1
    XCTAssertEqual(small.process(agent.rows("{}\n{}\n"), from: agent.name).failure?.reason, .tooLarge)
  }

  func testMonitoringRowsGetClientIDAsValidJSON() throws {
    let agent = try TestAgent()
    let job = agent.monitoring("{}\n{ }\n{\"a\":{}}\r\n{\"b\":\"}\"}")
    guard case .monitoringRows(let part)? = try process(job).effects.first else { return XCTFail("no rows") }
    XCTAssertEqual(part.count, 4)
    let lines = JSONLines.split(part.jsonl).map { String(decoding: $0, as: UTF8.self) }
    XCTAssertEqual(lines.first, "{\"ClientId\":\"\(agent.name)\"}")
    for line in lines {
      let row = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      XCTAssertEqual(row?["ClientId"] as? String, agent.name.id.rawValue, line)
    }
  }

  func testLinesThatAreNoObjectsAreCountedAndTheOthersKept() throws {
    let agent = try TestAgent()
    let outcome = try process(agent.monitoring("{\"a\":1}\n[1]\nx\n"))
    XCTAssertEqual(outcome.failure?.reason, .malformedRows)
    guard case .monitoringRows(let part)? = outcome.effects.first else { return XCTFail("no rows") }
    XCTAssertEqual(part.count, 1)
  }

  func testAgentsCannotForgeTheServersEvents() throws {
    let agent = try TestAgent()
    for name in ["System.Flow.Completion", "Server.Internal.Alerts", "Server.Internal.ClientConflict"] {
      XCTAssertEqual(try refusal(agent.monitoring("{}\n", name: name)), .malformedArtifact)
    }
  }

  func testClientInfoRowsBecomeHostFacts() throws {
    let agent = try TestAgent()
    let row = """
      {"hostname":"web\\u001b1","fqdn":"web1.example","system":"linux","release":"debian12","build_time":7,\
      "install_time":1700000000,"labels":["prod",3,""]}
      """
    let effects = try process(agent.monitoring(row, name: "Server.Internal.ClientInfo")).effects
    guard case .hostFacts(let facts, let labels)? = effects.last else { return XCTFail("no facts") }
    XCTAssertEqual(facts.hostname, "web1", "control characters never reach a terminal")
    XCTAssertEqual(facts.buildTime, "", "a wrong type is absent")
    XCTAssertEqual(facts.installTime, 1_700_000_000)
    XCTAssertEqual(labels, ["prod"])
  }

  func testInterrogationNeedsTheOS() throws {
    let agent = try TestAgent()
    let name = "Generic.Client.Info/BasicInformation"
    let good = #"{"Hostname":"db1","OS":"linux","Platform":"debian","PlatformVersion":"12","MACAddresses":["aa:bb"]}"#
    guard case .hostFacts(let facts, _)? = try process(agent.rows(good, name: name)).effects.last else {
      return XCTFail("no facts")
    }
    XCTAssertEqual(facts.release, "debian12")
    XCTAssertEqual(facts.macAddresses, ["aa:bb"])
    XCTAssertEqual(try process(agent.rows(#"{"Hostname":"db1"}"#, name: name)).effects.count, 1)
  }

  func testAlertsAreTakenOutOfTheLog() throws {
    let agent = try TestAgent()
    let line = #"{"client_time":1,"level":"ALERT","message":"{\"name\":\"x\"}"}"# + "\n"
    guard case .log(let part)? = try process(agent.log(line, id: 0, level: "ALERT")).effects.first,
      let alert = part.alert
    else { return XCTFail("no alert") }
    let row = try JSONSerialization.jsonObject(with: alert) as? [String: String]
    XCTAssertEqual(row, ["name": "x", "ClientId": agent.name.id.rawValue, "FlowId": agent.flow.text])
    XCTAssertEqual(part.jsonl, Data(line.utf8))
  }

  func testRefusalTextWithoutRowsBecomesALogLine() throws {
    let agent = try TestAgent()
    let job = agent.job { $0.logMessage.errorMessage = "no \"such\" thing" }
    guard case .log(let part)? = try process(job).effects.first else { return XCTFail("no log") }
    let row = try JSONSerialization.jsonObject(with: part.jsonl) as? [String: Any]
    XCTAssertEqual(row?["message"] as? String, "no \"such\" thing")
  }

  func testUploadsAreBounded() throws {
    let agent = try TestAgent()
    XCTAssertEqual(try refusal(agent.job { $0.fileBuffer.data = Data([1]) }), .malformedUpload)
    XCTAssertEqual(try refusal(agent.piece("x", offset: .max)), .tooLarge)
    var job = agent.piece("", offset: 0)
    job.fileBuffer.data = Data(try Zlib.deflate(Array("hello".utf8)))
    job.fileBuffer.uncompressedLength = 5
    guard case .upload(let piece)? = try process(job).effects.first else { return XCTFail("no piece") }
    XCTAssertEqual(piece.data, Data("hello".utf8))
    job.fileBuffer.data = Data([0x78])
    XCTAssertEqual(try refusal(job), .malformedUpload)
  }

  func testRandomMessagesAreNeverAFault() throws {
    var generator = SystemRandomNumberGenerator()
    let agent = try TestAgent()
    for _ in 0..<2_000 {
      let bytes = (0..<Int.random(in: 0...60)).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
      guard let job = try? Proto_VeloMessage(serializedBytes: bytes) else { continue }
      _ = processor.process(job, from: agent.name)
      var valid = job
      valid.sessionID = agent.flow.text
      _ = processor.process(valid, from: agent.name)
    }
  }
}

final class RowRuleTests: XCTestCase {
  private func decide(start: Int64, part: UInt64 = 0, child: Bool = false, next: Int64) throws -> RowRule.Decision {
    RowRule.decide(
      RowsPart(
        flow: try TestAgent().flow, isChild: child, artifact: "A", jsonl: Data(), count: 10, startRow: start,
        part: part),
      next: next)
  }

  func testRows() throws {
    XCTAssertEqual(try decide(start: 0, next: 0), .store(first: 0))
    XCTAssertEqual(try decide(start: 10, part: 1, next: 10), .store(first: 10))
    XCTAssertEqual(try decide(start: 0, next: 10), .drop)
    XCTAssertEqual(try decide(start: 5, part: 1, next: 10), .drop)
    XCTAssertEqual(try decide(start: 20, part: 2, next: 10), .store(first: 20), "a gap is accepted")
    XCTAssertEqual(try decide(start: 0, part: 3, next: 10), .store(first: 10), "an agent that does not count")
    XCTAssertEqual(try decide(start: 0, child: true, next: 10), .store(first: 10), "child flows always append")
    XCTAssertEqual(try decide(start: .max, next: 10), .store(first: 10))
  }
}

final class FlowProgressTests: XCTestCase {
  func testSums() throws {
    let agent = try TestAgent()
    var message = agent.stats(.ok, .genericError, .genericError, complete: true, text: "first", rows: 3)
    message.flowStats.queryStatus[0].duration = 7
    message.flowStats.queryStatus[1].firstActive = 5
    message.flowStats.queryStatus[2].firstActive = 3
    message.flowStats.queryStatus[2].resultRows = .max
    message.flowStats.queryStatus[2].logRows = -4
    let progress = FlowProgress(message.flowStats)
    XCTAssertTrue(progress.isComplete && progress.hasError && !progress.isUnknown)
    XCTAssertEqual(progress.errorText, "first")
    XCTAssertEqual(progress.totals.duration, 7)
    XCTAssertEqual(progress.totals.firstActive, 3)
    XCTAssertEqual(progress.totals.rows, .max)
    XCTAssertEqual(progress.totals.logs, 0)
  }

  func testUnknownFlow() throws {
    let agent = try TestAgent()
    XCTAssertTrue(FlowProgress(agent.stats(.unknownFlow, complete: true).flowStats).isUnknown)
    let text = "Flow not known - maybe the client crashed?"
    XCTAssertTrue(FlowProgress(agent.stats(.genericError, complete: true, text: text).flowStats).isUnknown)
    XCTAssertFalse(FlowProgress(agent.stats(.unknownFlow, .ok, complete: true).flowStats).isUnknown)
    XCTAssertFalse(FlowProgress(agent.stats(.unknownFlow, complete: false).flowStats).isUnknown)
  }
}
