import Foundation
import ProcessSupport
import Wire
import XCTest

/// The files of `deploy/` with Debian's nginx and haproxy: agents go through them to two frontends.
final class ProxyTests: XCTestCase {
  private var deployment: Deployment!
  private var proxy: RunningProcess?

  override func tearDown() {
    if let proxy, proxy.isRunning { _ = proxy.stop() }
    deployment?.stopAll()
  }

  private static let deploy = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("deploy")

  /// The executable of a Debian package; the test is skipped without it.
  private func executable(_ name: String) throws -> String {
    let path = "/usr/sbin/\(name)"
    try XCTSkipUnless(
      FileManager.default.isExecutableFile(atPath: path), "\(path) is not there; run: apt-get install \(name)")
    return path
  }

  /// A file of `deploy/` with each text replaced; a text that is not in it fails the test.
  private func write(_ name: String, _ replacements: [(String, String)]) throws -> String {
    var text = try String(contentsOf: Self.deploy.appendingPathComponent(name), encoding: .utf8)
    for (old, new) in replacements {
      XCTAssertTrue(text.contains(old), "\(name) no longer has «\(old)»")
      text = text.replacingOccurrences(of: old, with: new)
    }
    let path = deployment.path(name)
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  private func addToFrontend(_ lines: [String]) throws {
    let text = try deployment.text("frontend.config.yaml")
    let mark = "Frontend:\n"
    XCTAssertTrue(text.contains(mark))
    let edited = text.replacingOccurrences(of: mark, with: mark + lines.map { "  \($0)\n" }.joined())
    let path = deployment.path("frontend.config.yaml")
    try edited.write(toFile: path, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
  }

  private func startProcesses(_ extra: [String] = []) throws {
    try deployment.startWorker(1)
    for number in 1...deployment.ports.count {
      try deployment.startFrontend(number, extra)
      try deployment.process("frontend-\(number)").wait(for: "crypto-worker is up")
    }
  }

  /// Waits until the proxy passes requests on, and returns a client of it.
  private func client(port: Int) throws -> ScriptedClient {
    let end = Date(timeIntervalSinceNow: 30)
    while Date() < end {
      let answer = try? HTTPSClient(port: port).send("GET", "/server.pem", [])
      if let answer, answer.status == 200 {
        return try ScriptedClient(
          nonce: deployment.nonce(), serverPEM: String(decoding: answer.body, as: UTF8.self), port: port)
      }
    }
    throw RunningProcess.Failure(description: "no answer through the proxy: \(proxy?.lines ?? [])")
  }

  private func startNginx() throws -> Int {
    let nginx = try executable("nginx")
    deployment = try Deployment(frontends: 2, maxPoll: 60)
    try addToFrontend([
      "use_plain_http: true", "proxy_header: X-Forwarded-For", "trusted_proxies: [127.0.0.1/32]",
    ])
    try startProcesses()
    let port = try LoopbackPort.free()
    let (pem, key) = (deployment.path("tls.pem"), deployment.path("tls.key"))
    let made = try RunningProcess.run(
      "/usr/bin/openssl",
      [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
        "-days", "2", "-keyout", key, "-out", pem,
      ])
    XCTAssertEqual(made.status, 0)
    let file = try write(
      "nginx.conf",
      [
        ("127.0.0.1:8001", "127.0.0.1:\(deployment.ports[0])"), ("127.0.0.1:8002", "127.0.0.1:\(deployment.ports[1])"),
        ("listen 443 ", "listen 127.0.0.1:\(port) "), ("/etc/microraptor/tls.pem", pem),
        ("/etc/microraptor/tls.key", key), ("/run/microraptor-nginx.pid", deployment.path("nginx.pid")),
      ])
    proxy = try RunningProcess(
      nginx, ["-p", deployment.directory.path, "-c", file, "-g", "daemon off;"], name: "nginx")
    return port
  }

  private func startHAProxy() throws -> Int {
    let haproxy = try executable("haproxy")
    deployment = try Deployment(frontends: 2, maxPoll: 60)
    try addToFrontend(["trusted_proxies: [127.0.0.1/32]"])
    try startProcesses(["--proxy-protocol"])
    let port = try LoopbackPort.free()
    let file = try write(
      "haproxy.cfg",
      [
        ("127.0.0.1:8001", "127.0.0.1:\(deployment.ports[0])"), ("127.0.0.1:8002", "127.0.0.1:\(deployment.ports[1])"),
        ("bind :443 ", "bind 127.0.0.1:\(port) "), ("maxconn 60000", "maxconn 500"),
      ])
    proxy = try RunningProcess(haproxy, ["-db", "-f", file], name: "haproxy")
    return port
  }

  // MARK: what goes through them

  /// Enrolls, delivers bodies small and large, and holds a reader open over several pads until a task ends it.
  private func converse(_ client: ScriptedClient) throws {
    try client.enroll()
    let flow = "F.AAAAAAAAAAAA9"
    for round in 0..<10 { try client.deliver([ScriptedClient.rows(flow: flow, from: round * 5, count: 5)]) }
    try client.deliver([ScriptedClient.rows(flow: flow, from: 50, count: 100_000)])
    let reader = try client.startReader()
    try waitForPads(reader, 3, seconds: 60)
    XCTAssertEqual(reader.partial?.status, 200)
    let output = try deployment.microraptor(["query", client.id, "SELECT * FROM info()", "--no-wait"])
    let queued = try XCTUnwrap(output.split(separator: "\n").last.map(String.init))
    let jobs = try XCTUnwrap(client.open(reader.wait(seconds: 20)))
    XCTAssertTrue(jobs.contains { $0.sessionID == queued && $0.hasFlowRequest })
    let rows = try deployment.microraptor(["results", client.id, flow, "--format", "jsonl"])
    XCTAssertEqual(rows.split(separator: "\n").count, 100_050)
  }

  private func waitForPads(_ reader: HTTPSClient.Exchange, _ count: Int, seconds: Double) throws {
    let end = Date(timeIntervalSinceNow: seconds)
    while (reader.partial?.body.count ?? 0) < count * envelopePad.count {
      guard Date() < end else { return XCTFail("no pads: \(String(describing: reader.partial))") }
      Thread.sleep(forTimeInterval: 0.05)
    }
    XCTAssertEqual(reader.partial?.body.prefix(3).map { $0 }, envelopePad)
  }

  private func curl(_ arguments: [String]) throws -> String {
    try RunningProcess.run("/usr/bin/curl", ["-sk", "--max-time", "20"] + arguments).output
  }

  /// A frontend stops while the proxy runs: those behind go on, and the reader's end arrives whole.
  /// - Returns: which one.
  @discardableResult
  private func stopOne(_ client: ScriptedClient) throws -> Int {
    let reader = try client.startReader()
    try waitForReaders(1)
    let holder = try XCTUnwrap(
      try (1...2).first { try deployment.metric("frontend-\($0)", "client_comms_current_connections") == 1 })
    XCTAssertEqual(try deployment.process("frontend-\(holder)").stop(), 0)
    let answer = try reader.wait(seconds: 40)
    XCTAssertEqual(answer.status, 200)
    XCTAssertTrue(answer.isComplete)
    for _ in 0..<20 { try client.deliver([ScriptedClient.checkIn]) }
    return holder
  }

  private func waitForReaders(_ count: Double) throws {
    let end = Date(timeIntervalSinceNow: 30)
    while Date() < end {
      let waiting = try (1...2).reduce(0.0) {
        try $0 + deployment.metric("frontend-\($1)", "client_comms_current_connections")
      }
      if waiting == count { return }
    }
    XCTFail("no reader waits")
  }

  /// SSL offload: H-20, H-21.
  func testNginx() throws {
    let port = try startNginx()
    let client = try client(port: port)
    let version = try curl([
      "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "https://127.0.0.1:\(port)/server.pem",
    ])
    XCTAssertEqual(version, "2 200")
    try converse(client)
    XCTAssertTrue(try deployment.microraptor(["clients", "--json"]).contains("127.0.0.1"))
    let socket = try curl([
      "--http1.1", "-i", "-N", "--max-time", "2", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H",
      "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
      "https://127.0.0.1:\(port)/reader",
    ])
    XCTAssertTrue(socket.hasPrefix("HTTP/1.1 101"), socket)
    // A rolling restart.
    for _ in 0..<2 {
      let stopped = try stopOne(client)
      try deployment.startFrontend(stopped)
      try deployment.process("frontend-\(stopped)").wait(for: "crypto-worker is up")
    }
  }

  /// TCP balancing with PROXY headers: TLS and HTTP/2 are the frontends' own.
  func testHAProxy() throws {
    let port = try startHAProxy()
    let client = try client(port: port)
    let version = try curl([
      "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "https://127.0.0.1:\(port)/server.pem",
    ])
    XCTAssertEqual(version, "2 200")
    try converse(client)
    // The frontend shows the address that the header names: the agent's port at the proxy, not the proxy's own.
    XCTAssertTrue(try deployment.microraptor(["clients", "--json"]).contains("127.0.0.1:"))
    // Without the header a trusted proxy gets nothing.
    let direct = try HTTPSClient(port: deployment.ports[0]).send("GET", "/server.pem", [])
    XCTAssertEqual(direct.status, 0)
    try stopOne(client)
  }
}
