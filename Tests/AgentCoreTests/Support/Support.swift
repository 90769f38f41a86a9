import Foundation
import Logging
import Synchronization
import Wire
import XCTest

@testable import AgentCore

/// How many seconds a test waits for what must happen. Generous, because only a failing test ever waits so long.
let patience: TimeInterval = 180

/// A directory that goes with the test.
final class TemporaryDirectory {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("agent-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }
}

/// Log lines, for tests that look for what an operator would search for.
final class LogRecorder: Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }

  func contains(_ text: String) -> Bool { all.contains { $0.contains(text) } }

  var logger: Logger {
    Logger(label: "test") { _ in Handler(recorder: self) }
  }

  private struct Handler: LogHandler {
    let recorder: LogRecorder
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .trace
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) { recorder.lines.withLock { $0.append("\(event.level): \(event.message)") } }
  }
}

/// An outbox that keeps everything, and lets tests wait for a message.
final class RecordingOutbox: Outbox {
  private struct State {
    var sent: [Proto_VeloMessage] = []
    var urgent: [Proto_VeloMessage] = []
    var dropped: [String] = []
  }

  private let state = Mutex(State())
  private let changed = ThreadSignal()

  var sent: [Proto_VeloMessage] { state.withLock { $0.sent } }
  var urgent: [Proto_VeloMessage] { state.withLock { $0.urgent } }
  var dropped: [String] { state.withLock { $0.dropped } }

  func send(_ message: Proto_VeloMessage, isAbandoned: () -> Bool) {
    state.withLock { $0.sent.append(message) }
    changed.signal()
  }

  func sendUrgent(_ message: Proto_VeloMessage) {
    state.withLock { $0.urgent.append(message) }
    changed.signal()
  }

  func dropRows(ofFlow id: String) { state.withLock { $0.dropped.append(id) } }

  func keepRows(ofFlow id: String) { state.withLock { $0.dropped.removeAll { $0 == id } } }

  /// Blocks until the condition holds, at most `patience`.
  func wait(_ condition: (RecordingOutbox) -> Bool, file: StaticString = #filePath, line: UInt = #line) {
    let deadline = Date(timeIntervalSinceNow: patience)
    while !condition(self) {
      guard Date() < deadline else { return XCTFail("it did not happen", file: file, line: line) }
      changed.wait(atMost: 1)
    }
  }

  func waitForCompletion(of flow: String, file: StaticString = #filePath, line: UInt = #line) {
    wait({ $0.sent.contains { $0.sessionID == flow && $0.flowStats.flowComplete } }, file: file, line: line)
  }

  func rows(_ flow: String) -> [Proto_VQLResponse] {
    sent.filter { $0.sessionID == flow && $0.hasVqlresponse }.map(\.vqlresponse)
  }

  func stats(_ flow: String) -> [Proto_FlowStats] {
    sent.filter { $0.sessionID == flow && $0.hasFlowStats }.map(\.flowStats)
  }

  func buffers(_ flow: String) -> [Proto_FileBuffer] {
    sent.filter { $0.sessionID == flow && $0.hasFileBuffer }.map(\.fileBuffer)
  }

  func transactions(_ flow: String) -> [Proto_UploadTransaction] {
    sent.filter { $0.sessionID == flow && $0.hasUploadTransaction }.map(\.uploadTransaction)
  }

  func logText(_ flow: String) -> String {
    sent.filter { $0.sessionID == flow && $0.hasLogMessage }.map(\.logMessage.jsonl).joined()
  }
}

/// An engine that understands a few words, one per statement:
/// `rows N`, `log TEXT`, `fail TEXT`, `block` (until cancelled), `none`, `bytes` (a row that is not UTF-8),
/// `noise N` (a row of N characters), `env KEY`, `upload N`, `later PATH` (an upload in the background).
final class FakeEngine: CollectorEngine {
  let started = Mutex<[String]>([])
  /// Fulfilled when the first statement runs.
  let firstStart: XCTestExpectation = {
    let expectation = XCTestExpectation(description: "a statement runs")
    expectation.assertForOverFulfill = false
    return expectation
  }()
  private let changed = ThreadSignal()

  /// Blocks until this statement runs, at most `patience`.
  func waitForStart(of text: String, file: StaticString = #filePath, line: UInt = #line) {
    let deadline = Date(timeIntervalSinceNow: patience)
    while !started.withLock({ $0.contains(text) }) {
      guard Date() < deadline else { return XCTFail("\(text) did not start", file: file, line: line) }
      changed.wait(atMost: 1)
    }
  }

  func makeSession(_ request: EngineRequest) throws -> any EngineSession {
    if let artifact = request.artifacts.first(where: { $0.name == "Broken" }) {
      throw AgentError(.request, "Failed to compile artifact \(artifact.name).")
    }
    return Session(request, self)
  }

  final class Session: EngineSession {
    private let request: EngineRequest
    private let engine: FakeEngine
    private let cancelled = ThreadSignal()
    private let reason = Mutex<String?>(nil)

    init(_ request: EngineRequest, _ engine: FakeEngine) {
      self.request = request
      self.engine = engine
    }

    func run(_ text: String, sink: (EngineRow) throws -> Bool) throws {
      engine.started.withLock { $0.append(text) }
      engine.firstStart.fulfill()
      engine.changed.signal()
      let words = text.split(separator: " ", maxSplits: 1).map(String.init)
      let argument = words.count > 1 ? words[1] : ""
      switch words.first {
      case "rows":
        for index in 0..<(Int(argument) ?? 0) {
          request.operation()
          let goOn = try sink(
            EngineRow(columns: ["n"]) { $0 += Array("{\"n\":\(index)}".utf8) })
          if !goOn { return }
        }
      case "noise":
        var random = RandomSource(seed: 5)
        let text = (0..<(Int(argument) ?? 0) / 2).map { _ in
          String(UInt8.random(in: 16...255, using: &random), radix: 16)
        }.joined()
        _ = try sink(EngineRow(columns: ["x"]) { $0 += Array("{\"x\":\"\(text)\"}".utf8) })
      case "bytes": _ = try sink(EngineRow(columns: ["b"]) { $0 += [0x7B, 0xFF, 0xFE, 0x7D] })
      case "env":
        let value = request.environment.first { $0.key == argument }?.value ?? ""
        _ = try sink(EngineRow(columns: [argument]) { $0 += Array("{\"v\":\"\(value)\"}".utf8) })
      case "log": request.log(argument)
      case "fail": throw AgentError(.request, argument)
      case "block":
        while reason.withLock({ $0 }) == nil { cancelled.wait(atMost: 1) }
        throw AgentError(.request, "interrupted")
      case "later":
        var file = UploadFile()
        file.path = argument
        file.accessor = "file"
        file.components = argument.split(separator: "/").map(String.init)
        _ = try request.uploads?.later(file)
      case "upload":
        var file = UploadFile()
        file.path = "/tmp/some"
        file.accessor = "file"
        file.components = ["tmp", "some"]
        file.expectedSize = Int64(argument) ?? 0
        let stream = try request.uploads?.begin(file)
        try stream?.write([UInt8](repeating: 7, count: Int(argument) ?? 0))
        try stream?.finish()
      default: break
      }
    }

    func cancel(reason: String) {
      self.reason.withLock { $0 = reason }
      cancelled.signal()
    }

    func close() {}
  }
}

/// Requests as a server builds them.
enum Make {
  static func collector(_ statements: [String], name: String = "Test.Artifact") -> Proto_VQLCollectorArgs {
    var arguments = Proto_VQLCollectorArgs()
    for (index, statement) in statements.enumerated() {
      var query = Proto_VQLRequest()
      query.vql = statement
      if index == statements.count - 1 { query.name = name }
      arguments.query.append(query)
    }
    return arguments
  }

  static func flow(
    _ id: String, _ collectors: [Proto_VQLCollectorArgs], change: (inout Proto_FlowRequest) -> Void = { _ in }
  ) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = id
    message.requestID = 1
    message.authState = .authenticated
    message.flowRequest.vqlclientActions = collectors
    change(&message.flowRequest)
    return message
  }

  static func cancel(_ id: String) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = id
    message.authState = .authenticated
    message.cancel = Proto_Cancel()
    return message
  }

  static func statusRequest(_ ids: [String]) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = "F.Status"
    message.authState = .authenticated
    message.flowStatsRequest.flowID = ids
    return message
  }

  static func message(_ id: String, text: String = "") -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = id
    message.vqlresponse.jsonlresponse = text
    message.vqlresponse.totalRows = 1
    return message
  }
}
