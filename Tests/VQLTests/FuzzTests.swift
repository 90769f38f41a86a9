import Foundation
import XCTest

@testable import VQL

/// Queries made of the conformance cases with tokens removed, doubled, swapped and mixed: none may crash or hang.
/// `VQL_FUZZ_COUNT` and `VQL_FUZZ_SEED` set how many and which.
final class FuzzTests: XCTestCase {
  private struct Random: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return state
    }
  }
  private struct Enough: Error {}
  private final class Counter: @unchecked Sendable {
    // Used by the query's thread only.
    var value = 0
  }
  private static let banned = [
    "sleep", "clock", "diff", "pskill", "rm", "execve", "copy", "write_", "delay", "host", "tempdir", "upload",
    "atexit", "watch", "audit", "generate", "proc_yara", "http_client", "upload", "vfs_ls",
  ]
  private static let files = ["cases", "cases-linux", "cases-derived"]

  func testMixedQueriesNeitherCrashNorHang() throws {
    let variables = ProcessInfo.processInfo.environment
    let count = Int(variables["VQL_FUZZ_COUNT"] ?? "") ?? 3000
    let seed = UInt64(variables["VQL_FUZZ_SEED"] ?? "") ?? 1
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures")
    let queries = try Self.files.flatMap { name -> [String] in
      let data = try Data(contentsOf: folder.appendingPathComponent(name + ".json"))
      guard case .dict(let file)? = JSONReader.value(Array(data)), case .array(let cases)? = file["cases"] else {
        throw CallError("no cases in \(name)")
      }
      return cases.compactMap { item in
        guard case .dict(let dict) = item else { return nil }
        return dict["query"]?.string
      }
    }
    let slowest = try onLargeStack { Self.run(queries, count, seed) }
    XCTAssertLessThan(slowest.seconds, 20, slowest.query)
  }

  private static func run(_ queries: [String], _ count: Int, _ seed: UInt64) -> (seconds: Double, query: String) {
    let tokens = queries.map(split)
    let all = tokens.flatMap { $0 }
    var random = Random(state: seed &* 0x9E37_79B9_7F4A_7C15 | 1)
    var slowest = (seconds: 0.0, query: "")
    for _ in 0..<count {
      let query = mutate(tokens, all, &random).joined()
      if banned.contains(where: { query.contains($0) }) { continue }
      let start = Date()
      run(query)
      let seconds = Date().timeIntervalSince(start)
      if seconds > slowest.seconds { slowest = (seconds, query) }
    }
    return slowest
  }

  private static func run(_ query: String) {
    let operations = Counter()
    var options = VQLSessionOptions()
    options.memoryLimit = 64 << 20
    options.throttle = {
      operations.value += 1
      if operations.value > 2000 { throw Enough() }
    }
    let session = VQLSession(options: options)
    try? session.run(query) { row in
      var text: [UInt8] = []
      row.appendJSON(to: &text)
      return .more
    }
    session.close()
  }

  private static func mutate(_ tokens: [[String]], _ all: [String], _ random: inout Random) -> [String] {
    var text = tokens.randomElement(using: &random) ?? []
    for _ in 0..<Int.random(in: 0...4, using: &random) where !text.isEmpty {
      let place = Int.random(in: 0..<text.count, using: &random)
      switch Int.random(in: 0...4, using: &random) {
      case 0: text.remove(at: place)
      case 1: text.insert(all.randomElement(using: &random) ?? "", at: place)
      case 2: text[place] = all.randomElement(using: &random) ?? ""
      case 3: text.swapAt(place, Int.random(in: 0..<text.count, using: &random))
      default:
        let other = tokens.randomElement(using: &random) ?? []
        let from = Int.random(in: 0...other.count, using: &random)
        text.insert(contentsOf: other[from..<min(other.count, from + 12)], at: place)
      }
    }
    return text
  }

  private static func split(_ text: String) -> [String] {
    var parts: [String] = []
    var word = ""
    for character in text {
      if character.isLetter || character.isNumber || character == "_" {
        word.append(character)
        continue
      }
      if !word.isEmpty { parts.append(word) }
      word = ""
      parts.append(String(character))
    }
    return word.isEmpty ? parts : parts + [word]
  }
}
