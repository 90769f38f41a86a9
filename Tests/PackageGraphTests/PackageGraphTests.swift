import Foundation
import XCTest

/// The trust boundaries, as the package description states them.
final class PackageGraphTests: XCTestCase {
  private struct Description: Decodable {
    struct Target: Decodable {
      struct Dependency: Decodable {
        var byName: [String?]?
        var target: [String?]?
        var product: [String?]?
        enum CodingKeys: String, CodingKey { case byName, target, product }
        init(from decoder: any Decoder) throws {
          let container = try decoder.container(keyedBy: CodingKeys.self)
          func names(_ key: CodingKeys) -> [String?]? {
            guard var list = try? container.nestedUnkeyedContainer(forKey: key) else { return nil }
            var result: [String?] = []
            while !list.isAtEnd, let name = try? list.decode(String.self) { result.append(name) }
            return result
          }
          byName = names(.byName)
          target = names(.target)
          product = names(.product)
        }
        var name: String? { (byName ?? target ?? product)?.first ?? nil }
      }
      var name: String
      var dependencies: [Dependency]
    }
    var targets: [Target]
  }

  /// Targets of this package that a target can reach.
  private func reachable() throws -> [String: Set<String>] {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("graph-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: scratch) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    // A scratch folder of its own: the build that runs this test holds the lock of the usual one.
    process.arguments = [
      "swift", "package", "--package-path", root.path, "--scratch-path", scratch.path, "dump-package",
    ]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    XCTAssertEqual(process.terminationStatus, 0)
    let description = try JSONDecoder().decode(Description.self, from: data)
    let direct = Dictionary(
      uniqueKeysWithValues: description.targets.map { ($0.name, Set($0.dependencies.compactMap(\.name))) })
    var result: [String: Set<String>] = [:]
    for name in direct.keys {
      var seen: Set<String> = []
      var queue = Array(direct[name] ?? [])
      while let next = queue.popLast() {
        if seen.insert(next).inserted { queue += Array(direct[next] ?? []) }
      }
      result[name] = seen
    }
    return result
  }

  func testTheFrontendCannotOpenEnvelopes() throws {
    let graph = try reachable()
    let frontend = try XCTUnwrap(graph["frontend"])
    XCTAssertTrue(frontend.isSuperset(of: ["Wire", "WorkerLink", "Store", "PublicIdentity"]), "the graph was read")
    XCTAssertTrue(frontend.isDisjoint(with: ["Envelope", "PKI"]), "\(frontend.sorted())")
  }

  func testTheWorkerHasNoDatabase() throws {
    let worker = try XCTUnwrap(reachable()["crypto-worker"])
    XCTAssertTrue(worker.contains("Envelope"))
    XCTAssertTrue(worker.isDisjoint(with: ["Store", "GRDB", "VQL"]), "\(worker.sorted())")
  }

  /// The engine knows nothing of the agent's protocol. What a query itself asks of the network (`http_client()`,
  /// `host()`) needs sockets and OpenSSL, nothing more.
  func testTheQueryEngineKnowsNoProtocol() throws {
    let engine = try XCTUnwrap(reachable()["VQL"])
    XCTAssertEqual(engine, ["YAML", "CYAML", "CZlib", "CLibCrypto", "CLibSSL"])
  }
}
