import Foundation
import XCTest

@testable import VQL

/// Every conformance case must pass, but for those listed here with their reason.
final class ConformanceTests: XCTestCase {
  private static let knownFailures: [String: String] = [:]

  private func check(_ name: String) throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures")
    let path = folder.appendingPathComponent(name + ".json").path
    let report = try onLargeStack { try VQLCaseRunner.run(file: path) }
    XCTAssertGreaterThan(report.total, 0)
    let failed = Set(report.failures.map(\.id))
    for failure in report.failures where Self.knownFailures[failure.id] == nil {
      XCTFail("\(failure.id): \(failure.query)\nexpected \(failure.expected)\nactual   \(failure.actual)")
    }
    for id in report.ids where Self.knownFailures[id] != nil && !failed.contains(id) {
      XCTFail("\(id) passes now: remove it from the list")
    }
  }

  func testLanguageAndBuiltins() throws { try check("cases") }
  func testArtifacts() throws { try check("cases-artifacts") }
  func testLinuxEndpoint() throws { try check("cases-linux") }
  /// Not recorded: what the description of the language decides.
  func testDerived() throws { try check("cases-derived") }
}
