import Foundation
import XCTest

@testable import VQL

final class ReferenceTests: XCTestCase {
  func testEveryBuiltinIsDescribed() {
    XCTAssertGreaterThan(VQLReference.entries.count, 140)
    for entry in VQLReference.entries {
      XCTAssertFalse(entry.summary.isEmpty, entry.name)
      XCTAssertEqual(Set(entry.arguments.map(\.name)).count, entry.arguments.count, entry.name)
    }
    XCTAssertEqual(VQLReference.entries(named: "stat").map(\.kind), [.plugin, .function])
    let glob = VQLReference.entries(named: "glob").first
    XCTAssertEqual(glob?.arguments.first?.name, "globs")
    XCTAssertEqual(glob?.arguments.first?.required, true)
  }

  func testThePageInTheDocumentationIsCurrent() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let page = try String(contentsOf: root.appendingPathComponent("docs/vql-reference.md"), encoding: .utf8)
    XCTAssertEqual(page, VQLReference.page, "run `microraptor vql --reference > docs/vql-reference.md`")
  }

  func testAWrongArgumentIsToldWhichAreKnown() throws {
    let log = LogBook()
    XCTAssertEqual(try rows("SELECT * FROM range(end=1, stop=2)", log: log), [])
    XCTAssertTrue(log.all.contains("range: Unexpected arg stop"), "\(log.all)")
    XCTAssertTrue(log.all.contains("INFO:range: known arguments are start, end*, step"), "\(log.all)")
  }

  /// Whatever a built-in is given, it answers or logs; it neither crashes nor hangs.
  func testBuiltinsSurviveOddArguments() throws {
    let odd = [
      "NULL", "-1", "9223372036854775807", "1e300", "''", "'\\xff('", "dict()", "(1, NULL)", "TRUE",
      "{ SELECT * FROM range(end=2) }", "timestamp(epoch=1)", "scope()",
    ]
    let skipped = [
      "sleep", "pskill", "clock", "diff", "delay", "host", "rm", "execve", "compress", "upload_directory",
      "process_tracker", "http_client", "background", "copy", "write_file", "write_csv",
      "write_jsonl", "unzip", "watch_syslog", "watch_jsonl", "watch_csv", "glob", "cat", "range",
      "watch_journald", "watch_auditd", "audit", "vfs_ls",
    ]
    for entry in VQLReference.entries where !skipped.contains(entry.name) {
      for value in odd {
        let arguments = entry.arguments.map { "\($0.name)=\(value)" } + (entry.acceptsAnyName ? ["zz=\(value)"] : [])
        let call = "\(entry.name)(\(arguments.joined(separator: ", ")))"
        let query = entry.kind == .plugin ? "SELECT * FROM \(call) LIMIT 3" : "SELECT \(call) AS A FROM scope()"
        XCTAssertNoThrow(try rows(query), query)
      }
    }
  }
}
