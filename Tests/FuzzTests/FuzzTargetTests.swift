import Foundation
import XCTest

@testable import fuzz

/// Every input that once crashed a fuzz target, and some thousand damaged ones.
final class FuzzTargetTests: XCTestCase {
  /// Files of `Fuzzing/Crashers/TARGET/`: what fuzzers found stays found.
  func testFormerCrashers() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Fuzzing/Crashers")
    for target in FuzzTarget.all {
      let folder = root.appendingPathComponent(target.name)
      let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
      for name in names where !name.hasPrefix(".") {
        target.run([UInt8](try Data(contentsOf: folder.appendingPathComponent(name))))
      }
    }
  }

  func testDamagedInputs() throws {
    for target in FuzzTarget.all {
      let samples = try target.samples()
      for sample in samples { target.run(sample) }
      var mutator = Mutator(seed: 7, samples: samples)
      for _ in 0..<2_000 { target.run(mutator.next()) }
    }
  }

  /// The samples get as far as they should: a fuzzer that only sees refusals finds nothing.
  func testTheSessionIsOneThatOpens() throws {
    let session = try FuzzSession()
    let body = session.body(lists: [[1, 2, 3], []])
    let opened = try body.withUnsafeBytes { try session.known.open($0, .init($0)) }
    XCTAssertEqual(opened.lists, [[1, 2, 3], []])
    XCTAssertEqual(opened.nonce, "nonce")
    XCTAssertTrue(session.known.verify(with: session.client.publicKey))
  }
}
