import Foundation
import Wire
import XCTest

@testable import AgentCore

final class LogBatchTests: XCTestCase {
  private func batch(limit: UInt64 = 0, pattern: String = "") -> LogBatch {
    LogBatch(limit: limit, pattern: ErrorPattern(pattern))
  }

  func testLevelsAreTakenFromTheText() {
    let cases = [
      ("plain", "DEFAULT", "plain"), ("info: x", "INFO", " x"), ("WARN:x", "WARN", "x"),
      ("Note: x", "DEFAULT", "Note: x"),
      ("ERROR:", "ERROR", ""), (":x", "DEFAULT", ":x"), ("", "DEFAULT", ""), ("DEBUG:a:b", "DEBUG", "a:b"),
    ]
    for (text, level, message) in cases {
      let split = LogBatch.split(text)
      XCTAssertEqual(split.level, level, text)
      XCTAssertEqual(split.message, message, text)
    }
  }

  func testLinesTravelInBatchesWithRunningIds() throws {
    var batch = batch()
    XCTAssertEqual(batch.add("INFO:one\n", at: 5), .line)
    XCTAssertEqual(batch.add("two", at: 6), .line)
    let first = try XCTUnwrap(batch.drain())
    XCTAssertEqual(first.id, 0)
    XCTAssertEqual(first.numberOfRows, 2)
    XCTAssertEqual(
      first.jsonl,
      "{\"client_time\":5,\"level\":\"INFO\",\"message\":\"one\\n\"}\n"
        + "{\"client_time\":6,\"level\":\"DEFAULT\",\"message\":\"two\"}\n")
    XCTAssertNil(batch.drain())
    _ = batch.add("three", at: 7)
    XCTAssertEqual(batch.drain()?.id, 2)
  }

  func testErrorsAreKnownByLevelAndByPattern() {
    var batch = batch()
    XCTAssertEqual(batch.add("ERROR:bad", at: 0), .error("bad"))
    XCTAssertEqual(batch.add("INFO:Symbol foo not found", at: 0), .error("Symbol foo not found"))
    XCTAssertEqual(batch.add("an error: here", at: 0), .error("an error: here"))
    XCTAssertEqual(batch.add("fine", at: 0), .line)
    var own = self.batch(pattern: "fi.e")
    XCTAssertEqual(own.add("fine", at: 0), .error("fine"))
    XCTAssertEqual(own.add("an error: here", at: 0), .line)
    var broken = self.batch(pattern: "([")
    XCTAssertEqual(broken.add("an error: here", at: 0), .error("an error: here"))
  }

  func testTheLimitIsSaidOnceAndErrorsStillCount() throws {
    var batch = batch(limit: 2)
    for _ in 0..<2 { _ = batch.add("x", at: 0) }
    XCTAssertEqual(batch.add("y", at: 0), .dropped)
    XCTAssertEqual(batch.add("ERROR:z", at: 0), .error("z"))
    let message = try XCTUnwrap(batch.drain())
    XCTAssertEqual(message.numberOfRows, 3)
    XCTAssertTrue(message.jsonl.contains(LogBatch.limitText))
    XCTAssertFalse(message.jsonl.contains("z"))
  }

  func testAlertsTravelAlone() throws {
    var batch = batch()
    _ = batch.add("first", at: 0)
    guard case .alert(let alert) = batch.add("ALERT:look", at: 1) else { return XCTFail("an alert") }
    XCTAssertEqual(alert.level, "ALERT")
    XCTAssertEqual(alert.numberOfRows, 1)
    XCTAssertEqual(batch.drain()?.numberOfRows, 1)
  }
}

final class PartBuilderTests: XCTestCase {
  private let start = ContinuousClock.now

  private func row(_ text: String) -> EngineRow { EngineRow(columns: ["c"]) { $0 += Array(text.utf8) } }

  func testAPartIsFullByRowsByBytesAndByTime() {
    let limits = PartBuilder.Limits(rows: 2, bytes: 10, wait: .seconds(5))
    var builder = PartBuilder(limits: limits, at: start)
    XCTAssertNil(builder.add(row("{}"), at: start))
    XCTAssertEqual(builder.add(row("{}"), at: start)?.rows, 2)
    XCTAssertEqual(builder.add(row("{\"a\":123456}"), at: start)?.number, 1)
    XCTAssertNil(builder.add(row("{}"), at: start))
    XCTAssertNil(builder.due(at: start + .seconds(4)))
    let late = builder.due(at: start + .seconds(5))
    XCTAssertEqual(late?.number, 2)
    XCTAssertEqual(late.map { String(decoding: $0.jsonl, as: UTF8.self) }, "{}\n")
    XCTAssertNil(builder.due(at: start + .seconds(50)), "no empty parts")
    XCTAssertNil(builder.take(at: start))
  }

  func testSizesReadLikeTheReferences() {
    XCTAssertEqual(
      [0, 999, 1000, 1234, 99_400, 5_000_000].map(ByteCount.text),
      ["0 B", "999 B", "1.0 kB", "1.2 kB", "99 kB", "5.0 MB"])
  }
}

final class ExecutorTests: XCTestCase {
  private let engine = FakeEngine()
  private let outbox = RecordingOutbox()

  private func executor(
    journal: String? = nil, change: (inout AgentSettings) -> Void = { _ in }, hooks: Executor.Hooks = Executor.Hooks()
  ) -> Executor {
    var settings = AgentSettings()
    change(&settings)
    return Executor(
      engine: engine, outbox: outbox, settings: settings, journalPath: journal, log: LogRecorder().logger,
      hooks: hooks)
  }

  private func run(_ flow: Proto_VeloMessage) {
    executor().handle(flow)
    outbox.waitForCompletion(of: flow.sessionID)
  }

  /// rows, logs before the final status, exactly one completion, times in their units.
  func testAFlowDeliversRowsLogsAndOneCompletion() throws {
    run(Make.flow("F.1", [Make.collector(["none", "log INFO:hello", "rows 3"])]))
    let rows = outbox.rows("F.1")
    XCTAssertEqual(rows.map(\.jsonlresponse), ["{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n"])
    XCTAssertEqual(rows[0].query.name, "Test.Artifact")
    XCTAssertEqual(rows[0].queryID, 2)
    XCTAssertEqual(rows[0].columns, ["n"])
    XCTAssertEqual(outbox.stats("F.1").filter(\.flowComplete).count, 1)
    let status = try XCTUnwrap(outbox.stats("F.1").last?.queryStatus.first)
    XCTAssertEqual(status.status, .ok)
    XCTAssertEqual(status.resultRows, 3)
    XCTAssertEqual(status.namesWithResponse, ["Test.Artifact"])
    XCTAssertGreaterThan(status.firstActive, 1_600_000_000_000_000, "microseconds")
    XCTAssertGreaterThan(status.duration, 0)
    let messages = outbox.sent
    XCTAssertTrue(messages.last?.flowStats.flowComplete == true, "nothing follows the completion")
    XCTAssertEqual(messages.last?.requestID, 981)
    XCTAssertEqual(messages.first { $0.hasLogMessage }?.requestID, 980)
    let log = outbox.logText("F.1")
    XCTAssertTrue(log.contains("Starting query execution for Test.Artifact.\\n"), log)
    XCTAssertTrue(log.contains("Sending response part 0 24 B (3 rows)."), log)
    XCTAssertTrue(log.contains("hello"))
    XCTAssertEqual(Int64(log.split(separator: "\n").count), status.logRows)
  }

  ///
  func testPartsAreNumberedAndCounted() {
    var collector = Make.collector(["rows 25"])
    collector.maxRow = 10
    run(Make.flow("F.1", [collector]) { $0.compression = .zlib })
    let rows = outbox.rows("F.1")
    XCTAssertEqual(rows.map(\.part), [0, 1, 2])
    XCTAssertEqual(rows.map(\.totalRows), [10, 10, 5])
    XCTAssertEqual(rows.map(\.queryStartRow), [0, 10, 20])
    XCTAssertEqual(rows.map(\.byteOffset), [0, 80, 170])
  }

  ///
  func testZlibMovesRows() throws {
    run(Make.flow("F.1", [Make.collector(["rows 3"])]) { $0.compression = .zlib })
    let row = try XCTUnwrap(outbox.rows("F.1").first)
    XCTAssertEqual(row.jsonlresponse, "")
    XCTAssertEqual(row.uncompressedSize, 24)
    XCTAssertEqual(
      try Zlib.inflate(Array(row.compressedJsonResponse), limit: 1000), Array("{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n".utf8))
  }

  /// W-8, W-9.
  func testInvalidTextIsRepairedAndOpaqueNamesAreEchoed() {
    run(Make.flow("F.1", [Make.collector(["bytes"], name: "$00ff/x"), Make.collector(["rows 1"], name: "Other")]))
    let names = Set(outbox.rows("F.1").map(\.query.name))
    XCTAssertEqual(names, ["$00ff/x", "Other"])
    XCTAssertTrue(outbox.logText("F.1").contains("Starting query execution for $00ff."))
  }

  func testEnvironmentReachesTheQuery() {
    var collector = Make.collector(["env Key"])
    collector.env = [
      .with {
        $0.key = "Key"
        $0.value = "value"
      }
    ]
    run(Make.flow("F.1", [collector]))
    XCTAssertEqual(outbox.rows("F.1").map(\.jsonlresponse), ["{\"v\":\"value\"}\n"])
  }

  func testAFailingStatementEndsItsCollectorOnly() {
    run(
      Make.flow("F.1", [Make.collector(["fail no such thing", "rows 1"]), Make.collector(["rows 2"], name: "Other")]))
    let status = outbox.stats("F.1").last?.queryStatus ?? []
    XCTAssertEqual(status.map(\.status), [.genericError, .ok])
    XCTAssertEqual(status[0].errorMessage, "no such thing")
    XCTAssertEqual(outbox.rows("F.1").map(\.query.name), ["Other"])
  }

  func testAnErrorLineMarksTheStatusAndDoesNotStopTheQuery() {
    run(Make.flow("F.1", [Make.collector(["log Symbol x not found", "rows 1"])]))
    XCTAssertEqual(outbox.stats("F.1").last?.queryStatus.first?.status, .genericError)
    XCTAssertEqual(outbox.rows("F.1").count, 1)
  }

  ///
  func testExpiredSkippedAndEmptyCollectors() {
    var expired = Make.collector(["rows 1"], name: "Expired")
    expired.expiry = 1
    var skipped = Make.collector(["rows 1"], name: "Skipped")
    skipped.precondition = "none"
    var wanted = Make.collector(["rows 1"], name: "Wanted")
    wanted.precondition = "rows 1"
    var broken = Make.collector(["rows 1"], name: "Broken")
    broken.precondition = "fail x"
    run(Make.flow("F.1", [expired, skipped, wanted, Proto_VQLCollectorArgs(), broken]))
    let status = outbox.stats("F.1").last?.queryStatus ?? []
    XCTAssertEqual(status.map(\.status), [.genericError, .ok, .ok, .genericError, .genericError])
    XCTAssertEqual(
      status.map(\.errorMessage),
      ["Query expired.", "", "", "Query should be specified.", "While evaluating preconditions: x"])
    XCTAssertEqual(outbox.rows("F.1").map(\.query.name), ["Wanted"])
    XCTAssertTrue(outbox.logText("F.1").contains("Skipping query due to preconditions"))
  }

  ///
  func testARowLimitCancelsTheFlowAfterThePartThatCrossedIt() {
    var collector = Make.collector(["rows 100"])
    collector.maxRow = 15
    run(Make.flow("F.1", [collector, Make.collector(["block"], name: "Other")]) { $0.maxRows = 10 })
    XCTAssertEqual(outbox.rows("F.1").first?.totalRows, 15)
    let status = outbox.stats("F.1").last?.queryStatus ?? []
    XCTAssertEqual(status.map(\.status), [.genericError, .genericError])
    XCTAssertEqual(status.map(\.errorMessage), ["Rows 15 exceeded limit 10 for flow F.1. Cancelling.", "Cancelled"])
  }

  ///
  func testCancelEndsAFlow() {
    let executor = executor()
    executor.handle(Make.flow("F.1", [Make.collector(["rows 1", "block"])]))
    engine.waitForStart(of: "block")
    executor.handle(Make.cancel("F.1"))
    executor.handle(Make.cancel("F.1"))
    executor.handle(Make.cancel("F.unknown"))
    outbox.waitForCompletion(of: "F.1")
    XCTAssertEqual(outbox.stats("F.1").last?.queryStatus.first?.errorMessage, "Cancelled")
    XCTAssertTrue(outbox.logText("F.1").contains("Cancelled all in-flight queries for flow F.1"))
    XCTAssertEqual(outbox.dropped, ["F.1", "F.1", "F.unknown"])
    XCTAssertEqual(outbox.stats("F.1").filter(\.flowComplete).count, 1)
  }

  /// A-29, and a request that is sent again.
  func testStatusOfRunningFinishedAndUnknownFlows() {
    let executor = executor()
    executor.handle(Make.flow("F.done", [Make.collector(["rows 2"])]))
    outbox.waitForCompletion(of: "F.done")
    executor.handle(Make.flow("F.run", [Make.collector(["block"])]))
    engine.waitForStart(of: "block")
    outbox.wait { _ in !executor.running.contains("F.done") }
    executor.handle(Make.statusRequest(["F.done", "F.run", "F.none"]))
    let answers = outbox.urgent
    XCTAssertEqual(answers.map(\.sessionID), ["F.done", "F.run", "F.none"])
    XCTAssertTrue(answers.allSatisfy(\.urgent))
    XCTAssertEqual(answers.map(\.flowStats.flowComplete), [true, false, true])
    XCTAssertEqual(answers.map { $0.flowStats.queryStatus.first?.status }, [.ok, .progress, .unknownFlow])
    executor.handle(Make.flow("F.done", [Make.collector(["rows 2"])]))
    executor.handle(Make.flow("F.run", [Make.collector(["block"])]))
    XCTAssertEqual(outbox.urgent.count, 5)
    XCTAssertEqual(outbox.rows("F.done").count, 1, "it was not run again")
    executor.handle(Make.cancel("F.run"))
    outbox.waitForCompletion(of: "F.run")
  }

  func testFinishedAndLostFlowsAreKnownAfterARestart() throws {
    let directory = try TemporaryDirectory()
    let journal = directory.file("flows")
    let first = executor(journal: journal)
    first.handle(Make.flow("F.done", [Make.collector(["rows 2"])]))
    outbox.waitForCompletion(of: "F.done")
    outbox.wait { _ in first.running.isEmpty }
    first.handle(Make.flow("F.lost", [Make.collector(["block"])]))
    let second = executor(journal: journal)
    second.start(savedTable: nil)
    let lost = outbox.stats("F.lost").last
    XCTAssertEqual(lost?.flowComplete, true)
    XCTAssertEqual(lost?.queryStatus.first?.status, .genericError)
    second.handle(Make.flow("F.done", [Make.collector(["rows 2"])]))
    second.handle(Make.flow("F.lost", [Make.collector(["rows 2"])]))
    XCTAssertEqual(outbox.urgent.map(\.sessionID), ["F.done", "F.lost"])
    first.handle(Make.cancel("F.lost"))
    outbox.wait { _ in first.running.isEmpty }
  }

  /// A-35, C-24.
  func testWhatMustNotBeExecuted() {
    let executor = executor()
    var old = Proto_VeloMessage()
    old.sessionID = "F.old"
    old.authState = .authenticated
    old.vqlclientAction = Make.collector(["rows 1"])
    executor.handle(old)
    var forged = Make.flow("F.forged", [Make.collector(["rows 1"])])
    forged.authState = .unauthenticated
    executor.handle(forged)
    XCTAssertTrue(executor.running.isEmpty)
    var both = Make.flow("F.both", [Make.collector(["rows 1"])])
    both.vqlclientAction = Make.collector(["rows 1"])
    executor.handle(both)
    outbox.waitForCompletion(of: "F.both")
    XCTAssertEqual(outbox.rows("F.both").count, 1)
    XCTAssertTrue(outbox.sent.allSatisfy { $0.sessionID == "F.both" })
  }

  /// A-34 (without the wait, which the agent makes).
  func testKillAndUnknownPayloadsAreAnswered() {
    let asked = expectation(description: "restart")
    var hooks = Executor.Hooks()
    hooks.restart = { asked.fulfill() }
    let executor = executor(hooks: hooks)
    var kill = Proto_VeloMessage()
    kill.sessionID = "F.Monitoring"
    kill.authState = .authenticated
    kill.killKillKill = Proto_Cancel()
    executor.handle(kill)
    var unknown = Proto_VeloMessage()
    unknown.sessionID = "F.x"
    unknown.authState = .authenticated
    executor.handle(unknown)
    wait(for: [asked], timeout: patience)
    XCTAssertTrue(outbox.logText("F.Monitoring").contains("Unsupported payload for message"))
    XCTAssertTrue(outbox.logText("F.x").contains("Unsupported payload for message"))
  }

  func testConcurrencySlotsAndUrgentFlows() {
    let executor = executor(change: { $0.concurrency = 1 })
    executor.handle(Make.flow("F.1", [Make.collector(["block"])]))
    engine.waitForStart(of: "block")
    executor.handle(Make.flow("F.2", [Make.collector(["rows 1"])]))
    var urgent = Make.flow("F.3", [Make.collector(["rows 1"])])
    urgent.urgent = true
    executor.handle(urgent)
    outbox.waitForCompletion(of: "F.3")
    XCTAssertTrue(outbox.rows("F.2").isEmpty, "it waits for its place")
    executor.handle(Make.cancel("F.1"))
    outbox.waitForCompletion(of: "F.2")
    XCTAssertEqual(outbox.rows("F.2").count, 1)
  }

  func testAWaitingFlowCanBeCancelled() {
    let executor = executor(change: { $0.concurrency = 1 })
    executor.handle(Make.flow("F.1", [Make.collector(["block"])]))
    executor.handle(Make.flow("F.2", [Make.collector(["rows 1"])]))
    executor.handle(Make.cancel("F.2"))
    outbox.waitForCompletion(of: "F.2")
    XCTAssertEqual(outbox.stats("F.2").last?.queryStatus.first?.errorMessage, "Cancelled")
    executor.handle(Make.cancel("F.1"))
    outbox.waitForCompletion(of: "F.1")
  }

  /// A-32 (dense files).
  func testUploadsTravelInPiecesWithAnEmptyLastOne() {
    run(Make.flow("F.1", [Make.collector(["upload 2500000"])]))
    let sent = outbox.sent.filter { $0.requestID == 5 }
    XCTAssertTrue(sent.first?.hasUploadTransaction == true)
    let buffers = sent.filter(\.hasFileBuffer).map(\.fileBuffer)
    XCTAssertEqual(buffers.map(\.data.count), [1_048_576, 1_048_576, 402_848, 0])
    XCTAssertEqual(buffers.map(\.offset), [0, 1_048_576, 2_097_152, 2_500_000])
    XCTAssertEqual(buffers.map(\.eof), [false, false, false, true])
    XCTAssertEqual(buffers.last?.storedSize, 2_500_000)
    let status = outbox.stats("F.1").last?.queryStatus.first
    XCTAssertEqual(status?.uploadedFiles, 1)
    XCTAssertEqual(status?.uploadedBytes, 2_500_000)
  }

  /// A-30 (bytes).
  func testAnUploadLimitCancelsTheFlow() {
    run(Make.flow("F.1", [Make.collector(["upload 2500000"])]) { $0.maxUploadBytes = 10 })
    let message = outbox.stats("F.1").last?.queryStatus.first?.errorMessage
    XCTAssertEqual(message, "Upload bytes 1048576 exceeded limit 10 for flow F.1. Cancelling.")
  }

  func testTracesEndWithTheirFlow() {
    run(Make.flow("F.1", [Make.collector(["rows 1"])]) { $0.trace = [Make.collector(["block"], name: "Trace")] })
    XCTAssertEqual(outbox.stats("F.1").last?.queryStatus.count, 2)
  }
}
