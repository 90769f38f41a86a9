import Foundation
import XCTest

@testable import VQL

/// Files that block, vanish, loop or never end: each costs a log line at most.
final class HostileFilesTests: XCTestCase {
  private var folder = ""

  override func setUpWithError() throws { folder = try FileTree.temporaryDirectory() }
  override func tearDown() { FileTree.remove(folder) }

  func testPipesAndSocketsAreNotWaitedFor() throws {
    XCTAssertEqual(mkfifo(folder + "/pipe", 0o600), 0)
    let log = LogBook()
    XCTAssertEqual(
      try rows(
        "SELECT read_file(filename='\(folder)/pipe') AS A, hash(path='\(folder)/pipe') AS B, "
          + "read_file(filename='\(folder)/pipe', accessor='raw_file') AS C FROM scope() "
          + "SELECT * FROM cat(filename='\(folder)/pipe') SELECT * FROM parse_lines(filename='\(folder)/pipe')",
        log: log),
      ["{\"A\":\"\",\"B\":null,\"C\":\"\"}"])
    XCTAssertTrue(log.all.contains { $0.hasSuffix("Only regular files supported") }, "\(log.all)")
  }

  func testLinksThatLoopAreEnteredOnce() throws {
    FileTree.makeParents(of: folder + "/a/b/c")
    XCTAssertEqual(symlink("../..", folder + "/a/b/up"), 0)
    XCTAssertEqual(symlink("self", folder + "/self"), 0)
    let found = try rows("SELECT count() AS N FROM glob(globs='**', root='\(folder)') GROUP BY 1")
    // a, a/b, a/b/up, self; and once more through `up`.
    XCTAssertEqual(found, ["{\"N\":8}"])
  }

  func testFoldersDeeperThanAPathCanNameEnd() throws {
    let start = FileManager.default.currentDirectoryPath
    defer { _ = FileManager.default.changeCurrentDirectoryPath(start) }
    XCTAssertTrue(FileManager.default.changeCurrentDirectoryPath(folder))
    for _ in 0..<250 {
      XCTAssertEqual(mkdir("a-name-of-twenty-byte", 0o700), 0)
      XCTAssertEqual(chdir("a-name-of-twenty-byte"), 0)
    }
    let log = LogBook()
    let found = try rows("SELECT count() AS N FROM glob(globs='**1000', root='\(folder)') GROUP BY 1", log: log)
    XCTAssertEqual(found.count, 1)
    XCTAssertTrue(log.all.contains { $0.contains("Globber:") && $0.contains("name too long") }, "\(log.all.count)")
    // Too deep for a path: back up step by step.
    for _ in 0..<250 {
      XCTAssertEqual(chdir(".."), 0)
      XCTAssertEqual(rmdir("a-name-of-twenty-byte"), 0)
    }
  }

  func testFilesThatVanishAreLogLines() throws {
    for name in ["a", "b", "c"] { try FileTree.write(Array("x\n".utf8), to: folder + "/" + name) }
    // The file goes while the walk is between its neighbours.
    let found = try rows(
      """
      SELECT * FROM foreach(row={ SELECT OSPath, Name FROM glob(globs='*', root='\(folder)') },
        query={ SELECT Name, Line FROM parse_lines(filename=OSPath)
                WHERE rm(filename='\(folder)/b') = TRUE OR TRUE })
      """)
    XCTAssertEqual(found, ["{\"Name\":\"a\",\"Line\":\"x\"}", "{\"Name\":\"c\",\"Line\":\"x\"}"])
    let log = LogBook()
    XCTAssertEqual(try rows("SELECT * FROM parse_lines(filename=['\(folder)/b', '\(folder)/c'])", log: log).count, 1)
    XCTAssertTrue(log.all.contains { $0.hasPrefix("parse_lines:") && $0.contains("no such file") }, "\(log.all)")
  }

  func testEndlessDevicesAreBounded() throws {
    XCTAssertEqual(
      try rows(
        "SELECT len(list=read_file(filename='/dev/zero', accessor='raw_file', length=100000)) AS A FROM scope()"),
      ["{\"A\":100000}"])
    XCTAssertEqual(
      try rows("SELECT * FROM cat(filename='/dev/zero', chunk=4) LIMIT 1"), ["{\"Data\":\"AAAAAA==\"}"])
  }

  func testKeptValuesRespectTheLimit() throws {
    for query in [
      "SELECT enumerate(items=_value) AS E FROM range(end=50000) GROUP BY 1",
      "SELECT _value FROM range(end=50000) ORDER BY _value",
      "SELECT _value FROM range(end=50000) GROUP BY _value",
      "LET X <= SELECT _value FROM range(end=50000)",
      "LET M <= memoize(query={ SELECT str(str=_value) AS K FROM range(end=50000) }, key='K') "
        + "SELECT get(item=M, field='x') FROM scope()",
    ] {
      let log = LogBook()
      _ = try rows(query, log: log, limit: 1 << 19)
      XCTAssertTrue(log.all.contains { $0.contains("memory limit") }, query)
    }
  }
}
