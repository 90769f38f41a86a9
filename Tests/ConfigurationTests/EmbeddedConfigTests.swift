import XCTest

@testable import Configuration

final class EmbeddedConfigTests: XCTestCase {
  private var directory = URL(fileURLWithPath: "/")

  override func setUpWithError() throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  }

  override func tearDownWithError() throws {
    try FileManager.default.removeItem(at: directory)
  }

  private func file(_ name: String, _ bytes: [UInt8]) throws -> String {
    let path = directory.appendingPathComponent(name).path
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return path
  }

  private let program: [UInt8] = [0x7F, 0x45, 0x4C, 0x46] + [UInt8](repeating: 7, count: 1000)

  func testWrittenAndRead() throws {
    let agent = try file("agent", program)
    XCTAssertEqual(chmod(agent, 0o755), 0)
    let output = directory.appendingPathComponent("packed").path
    try EmbeddedConfig.write("Client: ü\n", into: agent, output: output)
    XCTAssertEqual(try EmbeddedConfig.read(from: output), "Client: ü\n")
    XCTAssertNil(try EmbeddedConfig.read(from: agent))
    let packed = try Data(contentsOf: URL(fileURLWithPath: output))
    XCTAssertEqual(Array(packed.prefix(program.count)), program, "the executable itself is not touched")
    XCTAssertEqual(access(output, X_OK), 0, "the mode is the agent's")
  }

  func testAnEarlierOneIsReplaced() throws {
    let agent = try file("agent", program)
    let first = directory.appendingPathComponent("first").path
    let second = directory.appendingPathComponent("second").path
    try EmbeddedConfig.write("a: long enough to be seen\n", into: agent, output: first)
    try EmbeddedConfig.write("b: 1\n", into: first, output: second)
    XCTAssertEqual(try EmbeddedConfig.read(from: second), "b: 1\n")
    let size = try Data(contentsOf: URL(fileURLWithPath: second)).count
    XCTAssertEqual(size, program.count + 5 + 8 + EmbeddedConfig.marker.count)
  }

  func testOtherFilesAreRefused() throws {
    let script = try file("script", Array("#!/bin/sh\n".utf8))
    XCTAssertThrowsError(try EmbeddedConfig.write("a: 1\n", into: script, output: script + ".out"))
    XCTAssertThrowsError(try EmbeddedConfig.write("a: 1\n", into: script + ".none", output: script + ".out"))
    XCTAssertThrowsError(try EmbeddedConfig.read(from: script + ".none"))
  }

  func testAnImpossibleLengthIsNamed() throws {
    for length: UInt64 in [1_000_000, .max] {
      let bytes = (0..<8).map { UInt8(truncatingIfNeeded: length >> ($0 * 8)) }
      let path = try file("damaged", program + bytes + EmbeddedConfig.marker)
      XCTAssertThrowsError(try EmbeddedConfig.read(from: path)) { error in
        XCTAssertTrue("\(error)".contains("repack"), "\(error)")
      }
    }
  }

  func testShortFilesCarryNothing() throws {
    XCTAssertNil(try EmbeddedConfig.read(from: try file("empty", [])))
    XCTAssertNil(try EmbeddedConfig.read(from: try file("short", Array(program.prefix(10)))))
  }
}
