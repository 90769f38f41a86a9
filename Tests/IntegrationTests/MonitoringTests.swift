import Foundation
import XCTest

/// What operators see from outside.
final class MonitoringTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private struct Dashboard: Decodable {
    struct Panel: Decodable {
      struct Target: Decodable { var expr: String }
      var title: String
      var targets: [Target]
    }
    var panels: [Panel]
  }

  private func metrics(_ process: String) throws -> String {
    let line = try deployment.process(process).wait(for: "monitoring address=")
    let port = try XCTUnwrap(line.split(separator: ":").last.flatMap { Int($0) }, line)
    return String(decoding: try HTTPSClient(port: port, tls: false).send("GET", "/metrics", []).body, as: UTF8.self)
  }

  /// Every metric that the dashboard asks for is one that a frontend or a crypto-worker has.
  func testTheDashboardAsksForWhatThereIs() throws {
    deployment = try Deployment()
    try deployment.startAll()
    let client = try deployment.client()
    try client.enroll()
    try client.deliver([ScriptedClient.checkIn])
    let text = try metrics("frontend-1") + metrics("worker-1")
    let names = Set(
      text.split(separator: "\n").filter { !$0.hasPrefix("#") }
        .compactMap { $0.split(whereSeparator: { $0 == " " || $0 == "{" }).first.map(String.init) })
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("deploy/grafana-dashboard.json")
    let dashboard = try JSONDecoder().decode(Dashboard.self, from: Data(contentsOf: file))
    XCTAssertGreaterThan(dashboard.panels.count, 10)
    let words = try Regex("[a-z_]+_[a-z_]+")
    for panel in dashboard.panels {
      for target in panel.targets {
        let asked = target.expr.matches(of: words).map { String($0.output[0].substring ?? "") }
          .filter { !["histogram_quantile"].contains($0) }
        XCTAssertFalse(asked.isEmpty, panel.title)
        for name in asked { XCTAssertTrue(names.contains(name), "\(panel.title): \(name)") }
      }
    }
    // Those that the reference's dashboards know by the same names.
    for name in [
      "client_comms_current_connections", "frontend_received_count", "frontend_decryption_errors", "rsa_decrypt_op",
      "cipher_lru_total_size",
    ] { XCTAssertTrue(names.contains(name), name) }
  }
}
