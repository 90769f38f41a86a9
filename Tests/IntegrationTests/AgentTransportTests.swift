import Foundation
import XCTest

/// The real agent and the real frontend by each protocol they share: HTTP/2, HTTP/1.1 and websockets.
final class AgentTransportTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  /// Starts everything, with the agent's URLs changed to another scheme, and runs a query that fills several bodies.
  private func run(scheme: String, plain: Bool = false, says: String) throws {
    deployment = try Deployment(maxPoll: 5)
    let client = try deployment.text("client.config.yaml")
    XCTAssertTrue(client.contains("https://127.0.0.1"))
    try client.replacingOccurrences(of: "https://127.0.0.1", with: "\(scheme)://127.0.0.1")
      .write(toFile: deployment.path("client.config.yaml"), atomically: true, encoding: .utf8)
    if plain {
      let path = deployment.path("frontend.config.yaml")
      try deployment.text("frontend.config.yaml")
        .replacingOccurrences(of: "Frontend:\n", with: "Frontend:\n  use_plain_http: true\n")
        .write(toFile: path, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
    }
    try deployment.startAll()
    try deployment.startAgent(1)
    let agent = try deployment.process("agent-1")
    try agent.wait(for: says)
    try agent.wait(for: "Sending CSR for ")
    let id = try XCTUnwrap(
      agent.lines.first { $0.contains("Sending CSR for ") }?.components(separatedBy: "CSR for ").last)
    let output = try deployment.microraptor([
      "query", id, "SELECT _value, format(format='%0500d', args=_value) AS Text FROM range(end=20000)", "--format",
      "jsonl", "--timeout", "120",
    ])
    let values = try output.split(separator: "\n").filter { $0.hasPrefix("{") }.map { line in
      try XCTUnwrap((JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["_value"] as? Int)
    }
    XCTAssertEqual(values, Array(0..<20_000))
    XCTAssertEqual(agent.stop(), 0)
  }

  func testByHTTP2() throws { try run(scheme: "https", says: "by HTTP/2") }

  func testByPlainHTTP() throws { try run(scheme: "http", plain: true, says: "by HTTP/1.1") }

  func testByWebsockets() throws { try run(scheme: "wss", says: "by a websocket") }

  func testByPlainWebsockets() throws { try run(scheme: "ws", plain: true, says: "by a websocket") }
}
