import Foundation
import Wire
import XCTest

@testable import AgentCore

/// The executor with the real query engine.
final class VQLEngineTests: XCTestCase {
  private let outbox = RecordingOutbox()

  private func run(_ flow: Proto_VeloMessage) {
    var settings = AgentSettings()
    settings.labels = ["lab"]
    let executor = Executor(
      engine: VQLEngine(settings: settings, installTime: 77), outbox: outbox, settings: settings,
      log: LogRecorder().logger)
    executor.handle(flow)
    outbox.waitForCompletion(of: flow.sessionID)
  }

  func testRowsLetsAndEnvironment() {
    var collector = Make.collector([
      "LET N <= int(int=N)", "SELECT _value * N AS V, config.Version.install_time AS T FROM range(start=1, end=3)",
    ])
    collector.env = [
      .with {
        $0.key = "N"
        $0.value = "10"
      }
    ]
    run(Make.flow("F.1", [collector]))
    XCTAssertEqual(outbox.rows("F.1").map(\.jsonlresponse), ["{\"V\":10,\"T\":77}\n{\"V\":20,\"T\":77}\n"])
    XCTAssertEqual(outbox.rows("F.1").first?.columns, ["V", "T"])
    XCTAssertEqual(outbox.stats("F.1").last?.queryStatus.first?.status, .ok)
  }

  /// A-32: holes are not sent; the last piece says where the data belongs.
  func testASparseFileTravelsWithItsIndex() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("sparse.bin")
    XCTAssertTrue(FileManager.default.createFile(atPath: path, contents: Data(repeating: 7, count: 1 << 20)))
    let file = try XCTUnwrap(FileHandle(forWritingAtPath: path))
    try file.truncate(atOffset: 4 << 20)
    try file.seek(toOffset: 3 << 20)
    try file.write(contentsOf: Data(repeating: 9, count: 1 << 20))
    try file.close()
    run(Make.flow("F.1", [Make.collector(["SELECT upload(file='\(path)') AS U FROM scope()"])]))
    let buffers = outbox.sent.filter(\.hasFileBuffer).map(\.fileBuffer)
    XCTAssertEqual(buffers.map(\.data.count), [1 << 20, 1 << 20, 0])
    XCTAssertEqual(buffers.last?.isSparse, true)
    let ranges = buffers.last?.index.ranges ?? []
    XCTAssertEqual(ranges.map(\.originalOffset), [0, 1 << 20, 3 << 20])
    XCTAssertEqual(ranges.map(\.fileOffset), [0, 1 << 20, 1 << 20])
    XCTAssertEqual(ranges.map(\.fileLength), [1 << 20, 0, 1 << 20])
    XCTAssertEqual(ranges.map(\.length), [1 << 20, 2 << 20, 1 << 20])
    XCTAssertTrue(outbox.rows("F.1").first?.jsonlresponse.contains("\"StoredSize\":2097152") == true)
  }

  func testASyntaxErrorIsTheCollectorsError() {
    run(Make.flow("F.1", [Make.collector(["SELECT FROM WHERE"])]))
    let status = outbox.stats("F.1").last?.queryStatus.first
    XCTAssertEqual(status?.status, .genericError)
    XCTAssertFalse(status?.errorMessage.isEmpty ?? true)
  }

  func testAPreconditionDecides() {
    var no = Make.collector(["SELECT 1 AS A FROM scope()"], name: "No")
    no.precondition = "LET X <= 1 SELECT * FROM info() WHERE OS = 'windows'"
    var yes = Make.collector(["SELECT 1 AS A FROM scope()"], name: "Yes")
    yes.precondition = "SELECT OS FROM info() WHERE OS = 'linux'"
    run(Make.flow("F.1", [no, yes]))
    XCTAssertEqual(outbox.rows("F.1").map(\.query.name), ["Yes"])
  }

  func testArtifactsTravelWithTheRequest() {
    var collector = Make.collector(["SELECT * FROM Artifact.Custom.A(P='x')"])
    collector.artifacts = [
      .with {
        $0.name = "Custom.A"
        $0.parameters = [.with { $0.name = "P" }]
        $0.sources = [.with { $0.queries = ["SELECT P AS Given FROM scope()"] }]
      }
    ]
    run(Make.flow("F.1", [collector]))
    XCTAssertEqual(outbox.rows("F.1").count, 1)
    XCTAssertTrue(outbox.rows("F.1").first?.jsonlresponse.contains("\"Given\":\"x\"") == true)
  }

  func testAFileIsUploaded() throws {
    let directory = try TemporaryDirectory()
    try "content".write(toFile: directory.file("f"), atomically: true, encoding: .utf8)
    run(Make.flow("F.1", [Make.collector(["SELECT upload(file='\(directory.file("f"))') AS U FROM scope()"])]))
    let buffers = outbox.sent.filter(\.hasFileBuffer).map(\.fileBuffer)
    XCTAssertEqual(buffers.map { String(decoding: $0.data, as: UTF8.self) }, ["content", ""])
    XCTAssertEqual(buffers.last?.eof, true)
    XCTAssertGreaterThan(buffers.first?.mtime ?? 0, 1_600_000_000_000_000_000)
    XCTAssertTrue(outbox.rows("F.1").first?.jsonlresponse.contains("\"Size\":7") == true)
  }

  func testAnEndlessQueryIsCancelled() {
    let settings = AgentSettings()
    let executor = Executor(
      engine: VQLEngine(settings: settings), outbox: outbox, settings: settings, log: LogRecorder().logger)
    var endless = Make.collector(["SELECT * FROM range(end=1000000000000)"])
    endless.maxRow = 10
    executor.handle(Make.flow("F.1", [endless]))
    outbox.wait { $0.rows("F.1").count > 3 }
    executor.handle(Make.cancel("F.1"))
    outbox.waitForCompletion(of: "F.1")
    XCTAssertEqual(outbox.stats("F.1").last?.queryStatus.first?.errorMessage, "Cancelled")
  }
}
