import Foundation
import XCTest

/// `microraptor pool` against the real deployment: many agents in one process, the same clients in the next run.
final class PoolTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private struct Report: Decodable {
    var accepted: Int
    var mostConnected: Int
    var statuses: [String: Int]
  }

  private func pool(_ count: Int) throws -> Report {
    let result = try RunningProcess.run(
      "microraptor",
      [
        "pool", "--client", deployment.path("client.config.yaml"), "--directory", deployment.path("pool"), "--agents",
        "\(count)", "--ramp", "0", "--seconds", "6", "--json",
      ])
    XCTAssertEqual(result.status, 0, result.errors + result.output)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Report.self, from: Data(result.output.utf8))
  }

  func testAgentsOfAPoolEnrollAndComeBack() throws {
    deployment = try Deployment(frontends: 2)
    try deployment.startAll()
    let first = try pool(6)
    XCTAssertEqual(first.accepted, 6)
    XCTAssertGreaterThan(first.statuses["406"] ?? 0, 0, "they had to enroll")
    let second = try pool(6)
    XCTAssertEqual(second.accepted, 6)
    XCTAssertNil(second.statuses["406"], "they are known")
    XCTAssertEqual(try deployment.microraptor(["clients", "--json"]).components(separatedBy: "\"client_id\"").count, 7)
  }

  func testWrongFilesAreNamed() throws {
    let result = try RunningProcess.run("microraptor", ["pool", "--client", "/none/client.config.yaml"])
    XCTAssertEqual(result.status, 78)
    XCTAssertTrue(result.errors.contains("/none/client.config.yaml"), result.errors)
  }
}
