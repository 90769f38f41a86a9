import Foundation
import XCTest

@testable import VQL

final class WatcherTests: XCTestCase {
  func testNewLinesAreSeen() throws {
    let path = try FileTree.temporaryDirectory()
    defer { FileTree.remove(path) }
    let file = path + "/log"
    try FileTree.write(Array("old\n".utf8), to: file)
    let writer = Thread {
      usleep(300_000)
      guard let handle = FileHandle(forWritingAtPath: file) else { return }
      _ = try? handle.seekToEnd()
      try? handle.write(contentsOf: Data("new one\r\nhalf".utf8))
    }
    writer.start()
    XCTAssertEqual(
      try rows("SELECT Line FROM watch_syslog(filename='\(file)') LIMIT 1"), ["{\"Line\":\"new one\"}"])
  }
}
