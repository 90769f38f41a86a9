import Foundation
import PublicIdentity
import Wire
import XCTest

@testable import Store

/// Uploads of agents as files below the datastore directory (verify.md S-8, S-9).
final class UploadTests: XCTestCase {
  private func withStore(_ body: (SQLiteStore, TestAgent, String) async throws -> Void) async throws {
    let directory = try temporaryDirectory()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let store = try await SQLiteStore.open(location: directory)
    let agent = try await store.enrolled(TestAgent())
    try await body(store, agent, directory)
    await store.close()
  }

  private func content(_ directory: String, _ upload: UploadRecord) throws -> String {
    try String(contentsOfFile: directory + "/" + upload.storedPath, encoding: .utf8)
  }

  func testPiecesAreWrittenAtTheirOffset() async throws {
    try await withStore { store, agent, directory in
      let pieces = [
        agent.piece("hello ", offset: 0), agent.piece("world", offset: 6),
        agent.piece("", offset: 11, eof: true, stored: 11),
      ]
      for piece in pieces { _ = try await store.ingest(try agent.submission(piece)) }
      // The first piece comes again, in another list: nothing is truncated, nothing appended.
      _ = try await store.ingest(try agent.submission(pieces[0], agent.checkIn()))
      let uploads = try await store.uploads(of: agent.flowName)
      XCTAssertEqual(uploads.count, 1)
      XCTAssertEqual(uploads[0].clientPath, "etc/passwd")
      XCTAssertEqual(uploads[0].storedSize, 11)
      XCTAssertTrue(uploads[0].complete)
      XCTAssertEqual(try content(directory, uploads[0]), "hello world")
      let events = try await store.monitoring(
        org: "", artifact: "System.Upload.Completion", client: nil, after: 0, limit: 10)
      XCTAssertEqual(events.count, 1)
    }
  }

  func testAShorterUploadOfTheSameNameLeavesNoTail() async throws {
    try await withStore { store, agent, directory in
      _ = try await store.ingest(try agent.submission(agent.piece("long content", offset: 0)))
      _ = try await store.ingest(
        try agent.submission(agent.piece("new", offset: 0), agent.piece("", offset: 3, eof: true, stored: 3)))
      let upload = try await store.uploads(of: agent.flowName)[0]
      XCTAssertEqual(try content(directory, upload), "new")
      XCTAssertEqual(upload.storedSize, 3)
    }
  }

  func testComponentsCannotLeaveTheClientsDirectory() async throws {
    try await withStore { store, agent, directory in
      let evil: [[String]] = [
        ["..", "..", "..", "escape"], ["/etc/cron.d/x"], ["a/../../b"], ["\0"], [""], ["."], ["C:", "\\..\\x"],
        Array(repeating: "deep", count: 400), [String(repeating: "n", count: 5_000)],
      ]
      for (number, components) in evil.enumerated() {
        let job = agent.piece("evil", offset: 0, components: components, number: Int64(number))
        let result = try await store.ingest(try agent.submission(job))
        XCTAssertEqual(result.failures, [], "\(components.first ?? "")")
      }
      let uploads = try await store.uploads(of: agent.flowName)
      XCTAssertEqual(uploads.count, evil.count)
      let root = "uploads/root/\(agent.name.id.rawValue)/\(agent.flow.text)/"
      for upload in uploads {
        XCTAssertTrue(upload.storedPath.hasPrefix(root), upload.storedPath)
        XCTAssertFalse(upload.storedPath.split(separator: "/").contains(".."), upload.storedPath)
        XCTAssertEqual(try content(directory, upload), "evil")
      }
      XCTAssertEqual(
        try FileManager.default.contentsOfDirectory(atPath: directory + "/uploads/root"), [agent.name.id.rawValue])
    }
  }

  func testAPathThatNoFileCanHaveIsRefusedAndTheBodyGoesOn() async throws {
    try await withStore { store, agent, _ in
      _ = try await store.ingest(try agent.submission(agent.piece("x", offset: 0, components: ["a"])))
      let result = try await store.ingest(
        try agent.submission(agent.piece("x", offset: 0, components: ["a", "b"]), agent.rows("{}\n")))
      XCTAssertEqual(result.failures.map(\.reason), [.malformedUpload])
      XCTAssertEqual(result.rows, 1)
    }
  }

  func testSparseIndexIsKept() async throws {
    try await withStore { store, agent, _ in
      var last = agent.piece("", offset: 0, eof: true, stored: 0)
      var range = Proto_Range()
      range.originalOffset = 4_096
      last.fileBuffer.index.ranges = [range]
      _ = try await store.ingest(try agent.submission(last))
      let upload = try await store.uploads(of: agent.flowName)[0]
      XCTAssertEqual(try Proto_Index(serializedBytes: upload.index).ranges, [range])
    }
  }
}
