import Foundation
import PublicIdentity
import Store
import Wire
import XCTest

@testable import microraptor

/// `uploads get`: files as they were on the client.
final class UploadCopyTests: XCTestCase {
  private var directory: URL!

  override func setUpWithError() throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("copy-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  }

  override func tearDown() { try? FileManager.default.removeItem(at: directory) }

  private func range(_ stored: Int64, _ storedLength: Int64, at original: Int64, _ length: Int64) -> Proto_Range {
    var range = Proto_Range()
    range.fileOffset = stored
    range.fileLength = storedLength
    range.originalOffset = original
    range.length = length
    return range
  }

  private func record(_ ranges: [Proto_Range], size: Int64, stored: Int64) throws -> UploadRecord {
    var index = Proto_Index()
    index.ranges = ranges
    return UploadRecord(
      number: 1, accessor: "sparse", clientPath: "a", storedPath: "uploads/x", size: size, storedSize: stored,
      complete: true, index: try index.serializedBytes())
  }

  func testHolesAreWhereTheyWere() throws {
    let upload = try record(
      [range(0, 3, at: 0, 3), range(3, 0, at: 3, 10), range(3, 2, at: 13, 2)], size: 20, stored: 5)
    let (parts, size) = try UploadCopy.layout(upload)
    XCTAssertEqual(
      parts, [.init(stored: 0, length: 3, place: 0), .init(stored: 3, length: 2, place: 13)])
    XCTAssertEqual(size, 20)
  }

  func testAnIndexThatMakesNoSenseIsRefused() throws {
    for range in [range(-1, 3, at: 0, 3), range(0, 3, at: -1, 3), range(0, 3, at: .max, 3)] {
      XCTAssertThrowsError(try UploadCopy.layout(try record([range], size: 3, stored: 3)))
    }
    // More than is stored is not read.
    XCTAssertEqual(
      try UploadCopy.layout(try record([range(2, 9, at: 0, 9)], size: 9, stored: 5)).parts.first?.length, 3)
  }

  private func job(_ fill: (inout Proto_VeloMessage) -> Void) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = "F.CHAOS"
    fill(&message)
    return message
  }

  /// A store with a sparse upload and a row that gives the digest of another.
  private func filled() async throws -> (any Store, FlowName) {
    let store = try await SQLiteStore.open(location: directory.appendingPathComponent("store").path)
    let client = ClientName(id: try XCTUnwrap(ClientID("C.0000000000000001")), org: "")
    try await store.enroll(client, publicKeyPEM: "x", at: .now(), address: "")
    func piece(_ number: Int64, _ data: String, index: [Proto_Range] = [], eof: Bool = false) -> Proto_VeloMessage {
      job {
        $0.fileBuffer.pathspec.components = ["f\(number)"]
        $0.fileBuffer.uploadNumber = number
        $0.fileBuffer.data = Data(data.utf8)
        $0.fileBuffer.eof = eof
        if eof {
          $0.fileBuffer.offset = 5
          $0.fileBuffer.storedSize = 5
          $0.fileBuffer.size = index.isEmpty ? 5 : 20
          $0.fileBuffer.index.ranges = index
          if index.isEmpty { $0.fileBuffer.clearIndex() }
        }
      }
    }
    let holes = [range(0, 3, at: 0, 3), range(3, 0, at: 3, 10), range(3, 2, at: 13, 2)]
    let digest = DigestStream()
    digest.update(Array("hello".utf8))
    let rows = job {
      $0.vqlresponse.query.name = "Custom.Query"
      $0.vqlresponse.jsonlresponse =
        "{\"U\":{\"UploadId\":2,\"sha256\":\"\(digest.finish())\"}}\n{\"U\":[{\"UploadId\":3,\"sha256\":\"00\"}]}\n"
    }
    var list = Proto_MessageList()
    list.job = [
      piece(1, "abcde"), piece(1, "", index: holes, eof: true), piece(2, "hello"), piece(2, "", eof: true),
      piece(3, "hello"), piece(3, "", eof: true), rows,
    ]
    _ = try await store.ingest(
      Submission(
        client: client, remoteAddress: "", receivedAt: .now(),
        lists: [ReceivedList(bytes: try list.serializedBytes(), jobs: list.job)]))
    return (store, FlowName(client: client, flow: try XCTUnwrap(FlowID("F.CHAOS"))))
  }

  func testFilesAreWrittenAndChecked() async throws {
    let (store, flow) = try await filled()
    let uploads = try await store.uploads(of: flow)
    XCTAssertEqual(uploads.map(\.number), [1, 2, 3])
    let digests = try await UploadDigests.find(in: flow, store)
    XCTAssertEqual(digests.keys.sorted(), [2, 3])
    func write(_ upload: UploadRecord) async throws -> URL {
      let target = directory.appendingPathComponent("out-\(upload.number)")
      try await UploadCopy(store: store, flow: flow, upload: upload).write(to: target, digest: digests[upload.number])
      return target
    }
    let sparse = try Data(contentsOf: try await write(uploads[0]))
    XCTAssertEqual(sparse, Data("abc".utf8) + Data(count: 10) + Data("de".utf8) + Data(count: 5))
    let plain = try await write(uploads[1])
    XCTAssertEqual(try String(contentsOf: plain, encoding: .utf8), "hello")
    do {
      _ = try await write(uploads[2])
      XCTFail("its digest is another")
    } catch let failure as CommandFailure {
      XCTAssertTrue(failure.description.contains("SHA-256"), failure.description)
    }
    XCTAssertFalse(FileManager.default.fileExists(atPath: directory.appendingPathComponent("out-3").path))
    do {
      _ = try await write(uploads[1])
      XCTFail("nothing is overwritten")
    } catch let failure as CommandFailure {
      XCTAssertTrue(failure.description.contains("exists"), failure.description)
    }
    await store.close()
  }
}
