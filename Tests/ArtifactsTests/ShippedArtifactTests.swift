import Foundation
import Store
import VQL
import Wire
import XCTest

@testable import Artifacts

/// The definitions that come with the project, compiled.
final class ShippedArtifactTests: XCTestCase {
  private func library() throws -> ArtifactLibrary {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../artifacts")
    var library = ArtifactLibrary()
    try library.load(folder: folder.standardizedFileURL.path)
    return library
  }

  func testAllCompile() throws {
    let library = try library()
    XCTAssertEqual(library.problems, [])
    XCTAssertGreaterThan(library.all.count, 10)
    for artifact in library.all {
      XCTAssertTrue(artifact.isClient || artifact.isClientEvent, artifact.name)
      XCTAssertFalse(artifact.description.isEmpty, artifact.name)
      let collectors = try ArtifactCompiler(library).collectors(of: artifact.name)
      let names = collectors.flatMap(\.query).map(\.name).filter { !$0.isEmpty }
      XCTAssertEqual(names.count, artifact.sources.count, artifact.name)
    }
  }

  /// The frontends' copy, which they need because they have no compiler.
  func testInterrogationIsTheCompiledArtifact() throws {
    let compiled = try ArtifactCompiler(library()).flowRequest(of: [Interrogation.artifact])
    XCTAssertEqual(Interrogation.request, compiled)
  }

  /// The engine of the agent runs the compiled statements one by one, as they travel.
  func testInterrogationGivesTheColumnsOfARecord() throws {
    let collectors = try ArtifactCompiler(library()).collectors(of: "Generic.Client.Info")
    XCTAssertEqual(collectors.count, 1)
    var rows: [[String: Any]] = []
    var options = VQLSessionOptions()
    options.log = { if $0.hasPrefix("ERROR") { XCTFail($0) } }
    let version = VQLValue.dict([("Name", .string("agent")), ("Version", .string("1"))])
    options.config = .dict([("Version", version), ("Labels", .array([.string("web")]))])
    let session = VQLSession(options: options)
    defer { session.close() }
    for request in collectors.flatMap(\.query) {
      try session.run(request.vql) { row in
        var text: [UInt8] = []
        row.appendJSON(to: &text)
        let value = try JSONSerialization.jsonObject(with: Data(text)) as? [String: Any]
        XCTAssertEqual(request.name, "Generic.Client.Info/BasicInformation")
        rows.append(value ?? [:])
        return .more
      }
    }
    let row = try XCTUnwrap(rows.first)
    XCTAssertEqual(rows.count, 1)
    XCTAssertEqual(row["OS"] as? String, "linux")
    XCTAssertEqual(row["Name"] as? String, "agent")
    XCTAssertEqual(row["Labels"] as? [String], ["web"])
    XCTAssertNotNil(row["MACAddresses"] as? [String])
    for column in [
      "BuildTime", "Version", "build_url", "install_time", "Hostname", "Architecture", "Platform", "PlatformVersion",
      "KernelVersion", "Fqdn",
    ] { XCTAssertNotNil(row[column], column) }
  }

  func testAFolderThatIsNotThereIsNamed() {
    var library = ArtifactLibrary()
    XCTAssertThrowsError(try library.load(folder: "/nowhere/artifacts")) {
      XCTAssertEqual(($0 as? ArtifactError)?.code, .unreadable)
    }
  }

  func testABrokenFileStopsNothing() throws {
    let folder = NSTemporaryDirectory() + "artifacts-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder + "/deeper", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try "description: no name".write(toFile: folder + "/bad.yaml", atomically: true, encoding: .utf8)
    try "name: \"Custom.Good\"\nsources: [{query: 'SELECT 1 FROM scope()'}]".write(
      toFile: folder + "/deeper/good.yml", atomically: true, encoding: .utf8)
    var library = ArtifactLibrary()
    try library.load(folder: folder)
    XCTAssertEqual(library.all.map(\.name), ["Custom.Good"])
    XCTAssertEqual(library.problems.count, 1)
    XCTAssertTrue(library.problems[0].contains("bad.yaml"))
  }
}
