import Foundation
import XCTest

@testable import VQL

/// Loads the artifacts that come with the project and calls them.
class ArtifactTestCase: XCTestCase {
  static var folder: URL {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../artifacts")
      .standardizedFileURL
  }

  func load() throws -> [VQLArtifact] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: Self.folder.path)) ?? []
    let files = names.filter { $0.hasSuffix(".yaml") }.sorted()
    if files.isEmpty { throw XCTSkip("there is no folder of artifacts beside the tests") }
    return try files.map { name in
      let text = try String(contentsOf: Self.folder.appendingPathComponent(name), encoding: .utf8)
      let artifact = try VQLArtifact(yaml: text)
      XCTAssertEqual(artifact.name + ".yaml", name)
      return artifact
    }
  }

  /// Rows of a call of an artifact, as dictionaries.
  func run(_ query: String, _ artifacts: [VQLArtifact]) throws -> [[String: Any]] {
    let log = LogBook()
    let lines = try onLargeStack { () -> [String] in
      var options = VQLSessionOptions()
      options.artifacts = artifacts
      options.log = { log.add($0) }
      let session = VQLSession(options: options)
      defer { session.close() }
      var found: [String] = []
      try session.run(query) { row in
        var text: [UInt8] = []
        row.appendJSON(to: &text)
        found.append(String(decoding: text, as: UTF8.self))
        return .more
      }
      return found
    }
    let complaints = log.all.filter { $0.hasPrefix("ERROR:") }
    XCTAssertEqual(complaints, [], query)
    return try lines.compactMap { try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] }
  }

  /// What a program of the system prints, one element per line; skips the test where there is no such program.
  func lines(_ arguments: String...) throws -> [String] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    if process.terminationStatus == 127 { throw XCTSkip("\(arguments[0]) is not installed") }
    return String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
  }
}
