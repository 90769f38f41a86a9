import Foundation
import XCTest

@testable import VQL

/// Journal files made byte by byte, and what is read from them.
final class JournalTests: XCTestCase {
  /// Lays out a journal file: a header, data and entry objects, arrays of entries.
  private struct Builder {
    private(set) var bytes = [UInt8](repeating: 0, count: 256)
    let isCompact: Bool
    private var entries: [Int] = []

    init(compact: Bool) {
      isCompact = compact
      bytes.replaceSubrange(0..<8, with: "LPKSHHRH".utf8)
      bytes[12] = compact ? 16 : 0
    }

    static func little(_ value: Int, _ count: Int = 8) -> [UInt8] {
      (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// Adds an object at the next multiple of eight; gives its place.
    mutating func add(_ kind: UInt8, flags: UInt8 = 0, _ payload: [UInt8]) -> Int {
      while bytes.count % 8 != 0 { bytes.append(0) }
      let place = bytes.count
      bytes += [kind, flags, 0, 0, 0, 0, 0, 0] + Self.little(16 + payload.count) + payload
      return place
    }

    mutating func data(_ text: [UInt8], flags: UInt8 = 0) -> Int {
      add(1, flags: flags, [UInt8](repeating: 0, count: isCompact ? 56 : 48) + text)
    }

    mutating func entry(_ number: Int, microseconds: Int, _ fields: [Int]) {
      var payload = Self.little(number) + Self.little(microseconds) + Self.little(7)
      payload += [UInt8](repeating: 0xAB, count: 16) + Self.little(0)
      for field in fields { payload += isCompact ? Self.little(field, 4) : Self.little(field) + Self.little(0) }
      entries.append(add(3, payload))
    }

    mutating func finish(arraySize: Int) -> [UInt8] {
      var next = 0
      let width = isCompact ? 4 : 8
      var arrays: [[Int]] = []
      for start in stride(from: 0, to: entries.count, by: arraySize) {
        arrays.append(Array(entries[start..<min(entries.count, start + arraySize)]))
      }
      var places: [Int] = []
      for array in arrays {
        places.append(add(6, Self.little(0) + array.flatMap { Self.little($0, width) }))
      }
      for (index, place) in places.enumerated() where index + 1 < places.count {
        bytes.replaceSubrange((place + 16)..<(place + 24), with: Self.little(places[index + 1]))
      }
      next = places.first ?? 0
      bytes.replaceSubrange(152..<160, with: Self.little(entries.count))
      bytes.replaceSubrange(176..<184, with: Self.little(next))
      return bytes
    }
  }

  private func query(_ bytes: [UInt8], _ columns: String, _ arguments: String = "") throws -> [String] {
    let folder = try FileTree.temporaryDirectory()
    defer { FileTree.remove(folder) }
    try FileTree.write(bytes, to: folder + "/a.journal")
    return try rows("SELECT \(columns) FROM parse_journald(filename='\(folder)/a.journal'\(arguments))")
  }

  private func journal(compact: Bool) -> [UInt8] {
    var builder = Builder(compact: compact)
    let pid = builder.data(Array("_PID=12".utf8))
    for number in 1...5 {
      let message = builder.data(Array("MESSAGE=line \(number)".utf8))
      builder.entry(number, microseconds: 1_700_000_000_000_000 + number * 1_000_000, [message, pid])
    }
    return builder.finish(arraySize: 2)
  }

  func testEntriesOfBothLayouts() throws {
    for compact in [false, true] {
      let found = try query(journal(compact: compact), "System.Seq AS S, EventData")
      XCTAssertEqual(found.count, 5)
      XCTAssertEqual(found.first, "{\"S\":1,\"EventData\":{\"MESSAGE\":\"line 1\",\"_PID\":\"12\"}}")
    }
  }

  func testTimesBoundTheEntries() throws {
    let found = try query(
      journal(compact: false), "System.Seq AS S, System.Timestamp AS T", ", start_time=1700000002, end_time=1700000003")
    XCTAssertEqual(
      found, ["{\"S\":2,\"T\":\"2023-11-14T22:13:22Z\"}", "{\"S\":3,\"T\":\"2023-11-14T22:13:23Z\"}"])
  }

  func testLZ4DataIsUnpacked() throws {
    var builder = Builder(compact: false)
    // "MESSAGE=abc" and then 20 bytes copied from 3 back.
    let packed: [UInt8] = [0xBF] + Array("MESSAGE=abc".utf8) + [3, 0, 1, 0x00]
    let message = builder.data(Builder.little(11 + 20) + packed, flags: 2)
    builder.entry(1, microseconds: 1, [message])
    let found = try query(builder.finish(arraySize: 4), "EventData.MESSAGE AS M")
    XCTAssertEqual(found, ["{\"M\":\"abc" + String(repeating: "abc", count: 6) + "ab\"}"])
  }

  /// Whatever bytes are wrong, reading ends.
  func testDamagedFilesEnd() throws {
    let whole = journal(compact: false)
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      var bytes = whole
      for _ in 0..<4 { bytes[Int.random(in: 8..<bytes.count, using: &generator)] = UInt8.random(in: 0...255) }
      if Bool.random() { bytes.removeLast(Int.random(in: 0..<bytes.count - 8)) }
      if let file = try? JournalFile(MemorySource(bytes)) {
        var count = 0
        _ = try? file.read(from: 0) { _ in
          count += 1
          return count < 100_000
        }
        XCTAssertLessThan(count, 100_000)
      }
    }
  }

  func testNewEntriesAreSeen() throws {
    let folder = try FileTree.temporaryDirectory()
    defer { FileTree.remove(folder) }
    let path = folder + "/a.journal"
    var builder = Builder(compact: false)
    let message = builder.data(Array("MESSAGE=one".utf8))
    builder.entry(1, microseconds: 1_000_000, [message])
    var grown = builder
    try FileTree.write(builder.finish(arraySize: 8), to: path)
    let second = grown.data(Array("MESSAGE=two".utf8))
    grown.entry(2, microseconds: 2_000_000, [second])
    let later = grown.finish(arraySize: 8)
    let found = try onLargeStack {
      var options = VQLSessionOptions()
      options.pollInterval = 1_000_000
      let session = VQLSession(options: options)
      defer { session.close() }
      var found: [String] = []
      // The clock's first row comes after the watcher has looked at the file: then the file grows.
      try session.run(
        """
        SELECT * FROM chain(async=TRUE,
          a={ SELECT EventData.MESSAGE AS M FROM watch_journald(filename='\(path)') },
          b={ SELECT 'grow' AS M FROM clock(ms=300) })
        """
      ) { row in
        guard case .bytes(let text)? = row["M"] else { return .more }
        if String(decoding: text, as: UTF8.self) == "grow" {
          try FileTree.write(later, to: path)
          return .more
        }
        found.append(String(decoding: text, as: UTF8.self))
        return .stop
      }
      return found
    }
    XCTAssertEqual(found, ["two"])
  }
}
