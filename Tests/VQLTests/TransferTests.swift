import Foundation
import XCTest

@testable import VQL

/// HTTP over plain connections, packed files, mapped files and the process tracker.
final class TransferTests: XCTestCase {
  /// Answers one request on a local port with a fixed text; gives the port.
  private func serve(_ answer: String) throws -> Int {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let code = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        bind(listener, raw, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, raw, &size) == 0
      }
    }
    guard code else { throw XCTSkip("no local port") }
    let thread = Thread {
      let peer = accept(listener, nil, nil)
      var buffer = [UInt8](repeating: 0, count: 4096)
      _ = read(peer, &buffer, buffer.count)
      try? Posix.writeAll(Array(answer.utf8), to: peer)
      close(peer)
      close(listener)
    }
    thread.start()
    return Int(UInt16(bigEndian: address.sin_port))
  }

  func testBodiesInChunksAreJoined() throws {
    let port = try serve(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-one: 1\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    XCTAssertEqual(
      try rows("SELECT Content, Response, Headers.`X-One` AS X FROM http_client(url='http://127.0.0.1:\(port)/')"),
      ["{\"Content\":\"abcde\",\"Response\":200,\"X\":[\"1\"]}"])
  }

  func testFailuresAreRows() throws {
    XCTAssertEqual(
      try rows("SELECT Response FROM http_client(url='http://127.0.0.1:1/')"), ["{\"Response\":500}"])
    let unknown = try rows("SELECT Content, Response FROM http_client(url='ftp://127.0.0.1:1/')")
    XCTAssertTrue(unknown.first?.contains("known are http and https") == true, "\(unknown)")
  }

  func testPackedFilesCanBeReadBack() throws {
    let path = try FileTree.temporaryDirectory()
    defer { FileTree.remove(path) }
    try FileTree.write([UInt8](repeating: 65, count: 300_000), to: path + "/a")
    XCTAssertEqual(
      try rows(
        "LET p <= compress(path='\(path)/a', output='\(path)/b') "
          + "SELECT len(list=read_file(filename=p, accessor='gzip')) AS A, stat(filename=p).Size < 5000 AS B "
          + "FROM scope()"), ["{\"A\":300000,\"B\":true}"])
  }

  func testRangesAreMapped() throws {
    func map(_ accessor: String, _ place: String) -> String {
      "read_file(accessor='\(accessor)', filename=pathspec("
        + "DelegateAccessor='data', DelegatePath='0123456789', Path='\(place)'))"
    }
    let ranges = "[{\"Offset\":2,\"Length\":2},{\"Offset\":6,\"Length\":2}]"
    XCTAssertEqual(
      try rows(
        "SELECT \(map("offset", "3")) AS A, \(map("ranged", ranges)) AS B, "
          + "len(list=\(map("sparse", ranges))) AS C FROM scope()"),
      ["{\"A\":\"3456789\",\"B\":\"2367\",\"C\":8}"])
  }

  func testForeignNamesSayWhy() throws {
    let log = LogBook()
    XCTAssertEqual(try rows("SELECT * FROM wmi(query='x')", log: log), [])
    XCTAssertTrue(
      log.all.contains { $0.hasPrefix("VQL Plugin wmi() is not implemented for this architecture") })
  }

  func testTrackersAnswerFromTheirQueries() throws {
    let source =
      "{ SELECT * FROM foreach(row=(dict(id=1, parent_id=0, start_time=100, data=dict(Name='init')), "
      + "dict(id=7, parent_id=1, start_time=200, data=dict(Name='sh')))) }"
    XCTAssertEqual(
      try rows(
        "LET T <= process_tracker(sync_query=\(source)) "
          + "SELECT process_tracker_get(id=7).ParentId AS P, process_tracker_callchain(id='7').Data.Name AS C, "
          + "process_tracker_children(id=1).Id AS K, process_tracker_get(id=1).ParentId AS Q, "
          + "process_tracker_get(id=9) AS N FROM scope()"),
      ["{\"P\":\"1-100\",\"C\":[\"init\",\"sh\"],\"K\":[\"7-200\"],\"Q\":\"0-?\",\"N\":null}"])
  }
}
