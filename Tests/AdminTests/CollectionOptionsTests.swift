import Foundation
import Store
import XCTest

@testable import microraptor

/// Artifacts on the command line, from names to a request.
final class CollectionOptionsTests: XCTestCase {
  private var folder = ""

  override func setUpWithError() throws {
    folder = NSTemporaryDirectory() + "collection-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder + "/own", withIntermediateDirectories: true)
    try """
    name: Custom.Count
    parameters: [{name: Last, type: int, default: 3}]
    resources: {timeout: 44, max_rows: 9}
    sources: [{name: A, query: SELECT * FROM range(end=Last)}, {name: B, query: SELECT Last FROM scope()}]
    """.write(toFile: folder + "/own/count.yaml", atomically: true, encoding: .utf8)
  }

  override func tearDown() { try? FileManager.default.removeItem(atPath: folder) }

  private func options(_ arguments: String...) throws -> CollectionOptions {
    try CollectionOptions.parse(["--artifacts", folder + "/own"] + arguments)
  }

  func testAnArtifactBecomesARequest() throws {
    let builder = try options("--artifact", "Custom.Count", "--param", "Last=a=b").builder(vql: "")
    XCTAssertEqual(builder.sources, ["Custom.Count/A", "Custom.Count/B"])
    let message = try builder.message(flow: FlowID.make(at: .now()))
    XCTAssertEqual(message.requestID, 1)
    let action = try XCTUnwrap(message.flowRequest.vqlclientActions.first)
    XCTAssertEqual(action.env.map(\.value), ["a=b"])
    XCTAssertEqual(action.timeout, 44)
    XCTAssertEqual([action.queryID, action.totalQueries], [1, 1])
    XCTAssertEqual(message.flowRequest.maxRows, 9)
    let limited = try options("--artifact", "Custom.Count", "--timeout", "5", "--max-rows", "6").builder(vql: "")
    XCTAssertEqual(try limited.request().vqlclientActions.map(\.timeout), [5])
    XCTAssertEqual(try limited.request().maxRows, 6)
  }

  func testWrongNamesAreUsageErrors() throws {
    for arguments in [["--artifact", "Custom.Cunt"], ["--artifact", "Custom.Count", "--param", "First=1"]] {
      let options = try CollectionOptions.parse(["--artifacts", folder + "/own"] + arguments)
      XCTAssertThrowsError(try options.builder(vql: "")) { error in
        XCTAssertEqual((error as? CommandFailure)?.status, .usage)
        XCTAssertTrue("\(error)".contains("Last") || "\(error)".contains("Custom.Count"), "\(error)")
      }
    }
    XCTAssertThrowsError(try options("--param", "Last=1"))
    XCTAssertThrowsError(try options("--artifact", "Custom.Count", "--param", "Last"))
  }

  func testShippedDefinitionsLieAboveTheExecutable() throws {
    let files = FileManager.default
    for place in ["artifacts", "usr/share/microraptor/artifacts"] {
      let root = folder + "/" + place.replacing("/", with: "-")
      try files.createDirectory(atPath: "\(root)/\(place)", withIntermediateDirectories: true)
      XCTAssertNil(ArtifactFolders.shipped(executable: "\(root)/usr/bin/microraptor"))
      XCTAssertTrue(files.createFile(atPath: "\(root)/\(place)/Generic.Client.Info.yaml", contents: nil))
      XCTAssertEqual(ArtifactFolders.shipped(executable: "\(root)/usr/bin/microraptor"), "\(root)/\(place)")
    }
  }
}
