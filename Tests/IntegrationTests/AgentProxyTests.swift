import Foundation
import ProcessSupport
import XCTest

/// The real agent through Debian's tinyproxy, and its service unit as systemd reads it.
final class AgentProxyTests: XCTestCase {
  private var deployment: Deployment!
  private var processes: [RunningProcess] = []

  override func tearDown() {
    for process in processes where process.isRunning { process.kill() }
    deployment?.stopAll()
  }

  private func startProxy() throws -> Int {
    let path = "/usr/bin/tinyproxy"
    try XCTSkipUnless(
      FileManager.default.isExecutableFile(atPath: path), "\(path) is not there; run: apt-get install tinyproxy")
    let port = try LoopbackPort.free()
    let file = deployment.path("tinyproxy.conf")
    try """
    Port \(port)
    Listen 127.0.0.1
    Allow 127.0.0.1
    Timeout 600
    MaxClients 20
    BasicAuth agent secret
    LogLevel Connect
    """.write(toFile: file, atomically: true, encoding: .utf8)
    let proxy = try RunningProcess(path, ["-d", "-c", file], name: "tinyproxy")
    processes.append(proxy)
    let end = Date(timeIntervalSinceNow: 30)
    while Date() < end {
      if (try? HTTPSClient(port: port, tls: false).send("GET", "/", [], seconds: 5)) != nil { return port }
    }
    throw RunningProcess.Failure(description: "tinyproxy does not listen: \(proxy.lines)")
  }

  private func startAgent(proxy: String, environment: [String: String] = [:]) throws -> RunningProcess {
    let file = deployment.path("client.config.yaml")
    let text = try deployment.text("client.config.yaml")
    XCTAssertTrue(text.contains("Client:\n"))
    try text.replacingOccurrences(of: "Client:\n", with: "Client:\n  proxy_config:\n    https: \(proxy)\n")
      .write(toFile: file, atomically: true, encoding: .utf8)
    let agent = try RunningProcess(
      "agent", ["--config", file, "--writeback", deployment.path("w.yaml"), "--buffer", deployment.path("b"), "-v"],
      name: "agent", environment: environment)
    processes.append(agent)
    return agent
  }

  func testARealProxyWithCredentials() throws {
    deployment = try Deployment(maxPoll: 5)
    try deployment.startAll()
    let port = try startProxy()
    let agent = try startAgent(proxy: "http://agent:secret@127.0.0.1:\(port)")
    try agent.wait(for: "through the proxy http://127.0.0.1:\(port) by HTTP/2")
    try agent.wait(for: "Enrolled: ")
    let id = try XCTUnwrap(
      agent.lines.first { $0.contains("Sending CSR for ") }?.components(separatedBy: "CSR for ").last)
    let output = try deployment.microraptor([
      "query", id, "SELECT _value FROM range(end=2500)", "--format", "jsonl", "--timeout", "120",
    ])
    XCTAssertEqual(output.split(separator: "\n").filter { $0.hasPrefix("{") }.count, 2500)
    XCTAssertTrue(
      agent.lines.contains { $0.contains("starts") && $0.contains("http://127.0.0.1:\(port) for https://") })
    XCTAssertFalse(agent.lines.joined().contains("secret"))
    XCTAssertTrue(processes[0].lines.contains { $0.contains("CONNECT 127.0.0.1:\(deployment.ports[0])") })
  }

  func testWrongCredentialsAreNamed() throws {
    deployment = try Deployment(maxPoll: 5)
    try deployment.startAll()
    let port = try startProxy()
    let agent = try startAgent(proxy: "http://agent:wrong@127.0.0.1:\(port)")
    try agent.wait(for: "does not accept the user and password")
    try agent.wait(for: "next try at https://")
    XCTAssertFalse(agent.lines.joined().contains("wrong@"))
  }

  func testNoProxyLeadsAroundIt() throws {
    deployment = try Deployment(maxPoll: 5)
    try deployment.startAll()
    let agent = try startAgent(proxy: "http://127.0.0.1:1", environment: ["NO_PROXY": "127.0.0.0/8"])
    try agent.wait(for: "Enrolled: ")
    XCTAssertTrue(agent.lines.contains { $0.contains("starts") && $0.contains("proxy=none") })
  }

  func testSystemdTakesTheServiceUnit() throws {
    let analyze = "/usr/bin/systemd-analyze"
    try XCTSkipUnless(FileManager.default.isExecutableFile(atPath: analyze), "\(analyze) is not there")
    deployment = try Deployment()
    let printed = try RunningProcess.run(
      "agent", ["install", "--print", "--config", deployment.path("client.config.yaml")])
    XCTAssertEqual(printed.status, 0, printed.errors)
    let unit = deployment.path("microraptor-agent.service")
    try printed.output.write(toFile: unit, atomically: true, encoding: .utf8)
    let verified = try RunningProcess.run(analyze, ["verify", "--man=no", unit])
    XCTAssertEqual(verified.status, 0, verified.errors)
    XCTAssertFalse(verified.errors.contains(unit), verified.errors)
  }
}
