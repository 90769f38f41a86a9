import Foundation
import ProcessSupport
import Wire
import XCTest

/// What the deployment must survive, with real processes.
final class SurvivalTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private func rows(_ client: String, _ flow: String) throws -> [Int] {
    let output = try deployment.microraptor(["results", client, flow, "--format", "jsonl"])
    return try output.split(separator: "\n").map { line in
      let object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      return try XCTUnwrap((object["n"] ?? object["_value"]) as? Int)
    }
  }

  /// S-21, H-26: a worker dies under load; what was acknowledged is stored once, and the other worker opens the rest.
  func testAWorkerDies() throws {
    deployment = try Deployment(workers: 2)
    try deployment.startAll(workers: 2)
    let clients = try (0..<4).map { _ in try deployment.client() }
    for client in clients { try client.enroll() }
    var expected: [String: [Int]] = [:]
    for round in 0..<40 {
      if round == 15 { try deployment.kill("worker-1") }
      if round == 30 { try deployment.startWorker(1) }
      for client in clients {
        let jobs = [ScriptedClient.rows(flow: "F.AAAAAAAAAAAA5", from: round * 3, count: 3)]
        // As an agent does: the same lists again until they are acknowledged.
        var delivered = false
        for _ in 0..<20 where !delivered {
          let answer = try client.post("/control", client.seal(jobs))
          delivered = try answer.status == 200 && answer.isComplete && client.agent.open(answer.body) != nil
        }
        XCTAssertTrue(delivered)
        expected[client.id, default: []] += Array(round * 3..<round * 3 + 3)
      }
    }
    for client in clients { XCTAssertEqual(try rows(client.id, "F.AAAAAAAAAAAA5"), expected[client.id]) }
  }

  /// A worker that is stopped and started again knows its sessions: no RSA for known clients.
  func testARollingRestartCostsNoRSA() throws {
    deployment = try Deployment()
    try deployment.startAll()
    let clients = try (0..<5).map { _ in try deployment.client() }
    for client in clients {
      try client.enroll()
      try client.deliver([ScriptedClient.checkIn])
    }
    XCTAssertEqual(try deployment.metric("worker-1", "rsa_decrypt_op"), 5)
    XCTAssertEqual(try deployment.metric("worker-1", "rsa_sign_op"), 5)
    XCTAssertEqual(try deployment.process("worker-1").stop(), 0)
    try deployment.startWorker(1)
    for client in clients { try client.deliver([ScriptedClient.checkIn]) }
    XCTAssertEqual(try deployment.metric("worker-1", "rsa_decrypt_op"), 0)
    XCTAssertEqual(try deployment.metric("worker-1", "rsa_sign_op"), 0)
    // Gone after the start: it must not come back after a later crash.
    XCTAssertFalse(FileManager.default.fileExists(atPath: deployment.path("run/worker-1.sock.sessions")))
  }

  /// Bytes that are no TLS, no HTTP and no ZeroMQ on every port: every process stays up and says so.
  func testGarbageOnEveryPort() throws {
    deployment = try Deployment()
    let port = try LoopbackPort.free()
    let endpoint = "tcp://127.0.0.1:\(port)"
    let worker = try RunningProcess(
      "crypto-worker",
      [
        "--config", deployment.path("crypto-worker.config.yaml"), "--bind", endpoint, "--name", "worker-1",
        "--monitoring-port", "0",
      ], name: "worker-1")
    defer { worker.kill() }
    try worker.wait(for: ": ready")
    try deployment.startFrontend(1, ["--worker", endpoint])
    let frontend = try deployment.process("frontend-1")
    try frontend.wait(for: "crypto-worker is up")
    let monitoring = try frontend.wait(for: "monitoring address=").split(separator: ":").last.flatMap { Int($0) }
    var generator = SystemRandomNumberGenerator()
    for target in [deployment.ports[0], port, try XCTUnwrap(monitoring)] {
      for size in [1, 100, 10_000] {
        try send((0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }, to: target)
        try send(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8), to: target)
      }
    }
    try worker.wait(for: "did not speak ZeroMQ")
    try frontend.wait(for: "a connection ended in an error")
    XCTAssertTrue(worker.isRunning)
    XCTAssertTrue(frontend.isRunning)
    let client = try deployment.client()
    try client.enroll()
    try client.deliver([ScriptedClient.checkIn])
  }

  private func send(_ bytes: [UInt8], to port: Int) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    XCTAssertEqual(connected, 0)
    _ = bytes.withUnsafeBytes { Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
  }

  /// The frontend's file has no RSA private key, and the process never needs the worker's file.
  func testTheFrontendKnowsNoMessageKey() throws {
    deployment = try Deployment()
    XCTAssertFalse(try deployment.text("frontend.config.yaml").contains("RSA PRIVATE KEY"))
    try deployment.startWorker(1)
    try FileManager.default.removeItem(atPath: deployment.path("crypto-worker.config.yaml"))
    try deployment.startFrontend(1)
    try deployment.process("frontend-1").wait(for: "crypto-worker is up")
    let client = try deployment.client()
    try client.enroll()
    try client.deliver([ScriptedClient.checkIn])
  }

  /// Both certificates chain to the deployment's CA, as openssl sees it.
  func testOpenSSLAgrees() throws {
    deployment = try Deployment(frontends: 2)
    try deployment.startAll()
    for port in deployment.ports {
      let pem = deployment.path("server-\(port).pem")
      let answer = try HTTPSClient(port: port).send("GET", "/server.pem", [])
      try Data(answer.body).write(to: URL(fileURLWithPath: pem))
      let verified = try RunningProcess.run("/usr/bin/openssl", ["verify", "-CAfile", deployment.path("ca.pem"), pem])
      XCTAssertEqual(verified.status, 0, verified.errors)
    }
  }

  /// Three agents, two frontends: one frontend dies, and every agent still gets its queries and delivers all rows once.
  func testAFrontendDiesUnderRealAgents() throws {
    deployment = try Deployment(frontends: 2, workers: 2, maxPoll: 5)
    try deployment.startAll(workers: 2)
    for number in 1...3 { try deployment.startAgent(number) }
    let ids = try waitForClients(3)
    try query(ids)
    try deployment.kill("frontend-1")
    try deployment.kill("worker-2")
    try query(ids)
    try deployment.startFrontend(1)
    try deployment.startWorker(2)
    try query(ids)
    for number in 1...3 { XCTAssertEqual(try deployment.process("agent-\(number)").stop(), 0) }
  }

  private func waitForClients(_ count: Int) throws -> [String] {
    let end = Date(timeIntervalSinceNow: 60)
    while Date() < end {
      let output = try deployment.microraptor(["clients", "--json"])
      let object = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [[String: Any]] ?? []
      let ids = object.compactMap { $0["client_id"] as? String }
      if ids.count == count { return ids }
    }
    throw RunningProcess.Failure(description: "not all agents enrolled: \(try deployment.process("agent-1").lines)")
  }

  private func query(_ ids: [String]) throws {
    for id in ids {
      let output = try deployment.microraptor([
        "query", id, "SELECT _value FROM range(end=2500)", "--format", "jsonl", "--timeout", "120",
      ])
      let values = try output.split(separator: "\n").filter { $0.hasPrefix("{") }.map { line in
        try XCTUnwrap((JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["_value"] as? Int)
      }
      XCTAssertEqual(values, Array(0..<2500))
    }
  }
}
