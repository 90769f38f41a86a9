import Foundation
import Wire
import XCTest

@testable import AgentCore

/// Files on their way to the server: in the background, and again after an end that came too early (client.md §6.4).
final class UploadTests: XCTestCase {
  private let engine = FakeEngine()
  private let outbox = RecordingOutbox()
  private var directory: TemporaryDirectory!

  override func setUpWithError() throws { directory = try TemporaryDirectory() }

  private func executor() -> Executor {
    Executor(engine: engine, outbox: outbox, settings: AgentSettings(), log: LogRecorder().logger)
  }

  private func file(_ name: String, _ content: [UInt8]) throws -> String {
    let path = directory.file(name)
    try Data(content).write(to: URL(fileURLWithPath: path))
    return path
  }

  private func response(_ transaction: Proto_UploadTransaction?) throws -> [String: Any] {
    let text = try XCTUnwrap(transaction).response
    return try XCTUnwrap(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  /// What the server would have of a file, put together from its pieces.
  private func stored(_ flow: String, _ number: Int64, after known: [UInt8] = []) -> [UInt8] {
    outbox.buffers(flow).filter { $0.uploadNumber == number }.reduce(into: known) { content, buffer in
      XCTAssertEqual(Int(buffer.offset), content.count)
      content += [UInt8](buffer.data)
    }
  }

  private func resume(_ flow: String, _ transactions: [Proto_UploadTransaction], _ stats: [Proto_VeloStatus] = [])
    -> Proto_VeloMessage
  {
    var message = Proto_VeloMessage()
    message.sessionID = flow
    message.authState = .authenticated
    message.resumeTransactions.flowID = flow
    message.resumeTransactions.transactions = transactions
    message.resumeTransactions.queryStats = stats
    return message
  }

  func testFilesAreSentInTheBackgroundAndTheirEndIsSaid() throws {
    let content = (0..<2_500_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let path = try file("large", content)
    let executor = executor()
    executor.handle(Make.flow("F.1", [Make.collector(["later \(path)", "rows 1"])]))
    outbox.waitForCompletion(of: "F.1")
    let transactions = outbox.transactions("F.1")
    XCTAssertEqual(transactions.map(\.response.isEmpty), [true, false])
    XCTAssertEqual(transactions.map(\.uploadID), [0, 0])
    XCTAssertTrue(outbox.sent.filter { $0.hasUploadTransaction }.allSatisfy { $0.requestID == 5 })
    let result = try response(transactions.last)
    XCTAssertEqual(result["Path"] as? String, path)
    XCTAssertEqual(result["Size"] as? Int, content.count)
    XCTAssertEqual((result["sha256"] as? String)?.count, 64)
    XCTAssertEqual((result["md5"] as? String)?.count, 32)
    XCTAssertEqual(stored("F.1", 0), content)
    XCTAssertEqual(outbox.buffers("F.1").map(\.eof), [false, false, false, true])
    let stats = try XCTUnwrap(outbox.stats("F.1").last)
    XCTAssertTrue(stats.flowComplete)
    XCTAssertEqual(stats.transactionsOutstanding, 0)
    XCTAssertEqual(stats.queryStatus.first?.uploadedBytes, Int64(content.count))
    XCTAssertTrue(outbox.logText("F.1").contains("Test.Artifact: Uploaded 1 files"))
  }

  func testAFileThatCannotBeReadIsAnErrorAndNotOutstanding() throws {
    let executor = executor()
    executor.handle(Make.flow("F.1", [Make.collector(["later /nonexistent/x", "rows 1"])]))
    outbox.waitForCompletion(of: "F.1")
    XCTAssertEqual(try response(outbox.transactions("F.1").last)["Error"] as? String, "No such file or directory")
    let status = outbox.stats("F.1").last?.queryStatus.first
    XCTAssertEqual(status?.transactionsOutstanding, 0)
    XCTAssertEqual(status?.status, .genericError)
  }

  func testAResumedUploadGoesOnWhereItEnded() throws {
    let content = (0..<1_500_000).map { UInt8(truncatingIfNeeded: $0 &* 11) }
    let path = try file("large", content)
    let executor = executor()
    executor.handle(Make.cancel("F.1"))
    XCTAssertEqual(outbox.dropped, ["F.1"])
    var transaction = Proto_UploadTransaction()
    transaction.filename = path
    transaction.accessor = "file"
    transaction.components = ["x", "large"]
    transaction.expectedSize = Int64(content.count)
    transaction.startOffset = 1_048_576
    transaction.uploadID = 3
    var before = Proto_VeloStatus()
    before.status = .genericError
    before.errorMessage = "Query timed out after 5 seconds"
    before.uploadedBytes = 1_048_576
    before.transactionsOutstanding = 1
    var running = Proto_VeloStatus()
    running.status = .progress
    executor.handle(resume("F.1", [transaction], [before, running]))
    outbox.waitForCompletion(of: "F.1")
    XCTAssertEqual(outbox.dropped, [], "its rows are wanted again")
    XCTAssertEqual(stored("F.1", 3, after: Array(content.prefix(1_048_576))), content)
    XCTAssertEqual(outbox.buffers("F.1").last?.eof, true)
    let end = try response(outbox.transactions("F.1").last)
    XCTAssertEqual(end["Size"] as? Int, content.count)
    XCTAssertNil(end["sha256"], "only a part was read")
    let rows = outbox.rows("F.1")
    XCTAssertEqual(rows.map(\.query.name), ["Server.Internal.ResumedUploads"])
    XCTAssertTrue(rows.first?.jsonlresponse.contains("\"UploadId\":3") == true)
    let stats = try XCTUnwrap(outbox.stats("F.1").last)
    XCTAssertEqual(stats.queryStatus.map(\.status), [.genericError, .genericError, .ok])
    XCTAssertEqual(stats.queryStatus.map(\.transactionsOutstanding), [0, 0, 0])
    XCTAssertEqual(stats.queryStatus[0].errorMessage, "Query timed out after 5 seconds")
    XCTAssertEqual(stats.queryStatus[2].uploadedBytes, Int64(content.count - 1_048_576))
    XCTAssertEqual(outbox.stats("F.1").filter(\.flowComplete).count, 1)
  }

  func testWhatCannotBeResumedIsARowWithItsReason() throws {
    let executor = executor()
    var transaction = Proto_UploadTransaction()
    transaction.filename = "/nonexistent/x"
    executor.handle(resume("F.1", [transaction]))
    outbox.waitForCompletion(of: "F.1")
    XCTAssertTrue(outbox.rows("F.1").first?.jsonlresponse.contains("No such file or directory") == true)
  }

  /// holes are skipped, also when the upload goes on inside.
  func testASparseFileIsResumedByItsStoredBytes() throws {
    let path = directory.file("sparse")
    let piece = 1 << 20
    let descriptor = open(path, O_WRONLY | O_CREAT, 0o600)
    defer { close(descriptor) }
    let data = (0..<piece).map { UInt8(truncatingIfNeeded: $0 | 1) }
    XCTAssertEqual(pwrite(descriptor, data, piece, 0), piece)
    XCTAssertEqual(pwrite(descriptor, data, piece, off_t(5 * piece)), piece)
    let executor = executor()
    executor.handle(Make.flow("F.1", [Make.collector(["later \(path)"])]))
    outbox.waitForCompletion(of: "F.1")
    XCTAssertEqual(stored("F.1", 0), data + data)
    let last = try XCTUnwrap(outbox.buffers("F.1").last)
    XCTAssertTrue(last.eof && last.data.isEmpty && last.isSparse)
    XCTAssertEqual(last.index.ranges.map(\.originalOffset), [0, Int64(piece), Int64(5 * piece)])
    XCTAssertEqual(last.index.ranges.map(\.fileLength), [Int64(piece), 0, Int64(piece)])
    var transaction = Proto_UploadTransaction()
    transaction.filename = path
    transaction.startOffset = Int64(piece + 10)
    executor.handle(resume("F.2", [transaction]))
    outbox.waitForCompletion(of: "F.2")
    XCTAssertEqual(stored("F.2", 0, after: data + Array(data.prefix(10))), data + data)
    XCTAssertEqual(outbox.buffers("F.2").last?.index.ranges.count, 3)
  }

  func testDigestsAreThoseOfTheContent() throws {
    final class Sink: UploadStream {
      let number: Int64 = 0
      func write(_ bytes: some Collection<UInt8>) throws {}
      func skip(_ length: Int64) throws {}
      func finish() throws {}
    }
    var pieces: [[UInt8]] = [Array("abc".utf8)]
    let outcome = try UploadCopy.copy(to: Sink(), isSparse: false) { _ in pieces.popLast() }
    XCTAssertEqual(outcome.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    XCTAssertEqual(outcome.md5, "900150983cd24fb0d6963f7d28e17f72")
    XCTAssertEqual(outcome.size, 3)
  }
}
