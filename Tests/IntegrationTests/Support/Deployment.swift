import Foundation
import ProcessSupport
import XCTest

/// A deployment of the real executables on loopback, in a temporary directory.
final class Deployment {
  let directory: URL
  let ports: [Int]
  private(set) var processes: [String: RunningProcess] = [:]

  /// Makes the files; starts nothing.
  /// - Parameters:
  ///   - datastore: a `postgresql://` URL; nil for SQLite in the deployment's own directory.
  ///   - interrogates: whether new clients are asked who they are; most tests want to see their own tasks only.
  init(
    frontends: Int = 1, workers: Int = 1, maxPoll: Int = 20, datastore: String? = nil, interrogates: Bool = false
  ) throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("mr-\(UUID().uuidString.prefix(8))")
    ports = try (0..<frontends).map { _ in try LoopbackPort.free() }
    var arguments = [
      "config", "generate", "--directory", directory.path, "--hostname", "127.0.0.1", "--bind-address", "127.0.0.1",
      "--workers", "\(workers)", "--max-poll", "\(maxPoll)",
    ]
    for port in ports { arguments += ["--frontend-port", "\(port)"] }
    if let datastore { arguments += ["--datastore", datastore] }
    let result = try RunningProcess.run("microraptor", arguments)
    guard result.status == 0 else { throw RunningProcess.Failure(description: result.errors) }
    if !interrogates {
      let file = path("frontend.config.yaml")
      try text("frontend.config.yaml").replacing(
        "  resources:\n", with: "  resources:\n    enrollments_per_second: -1\n"
      )
      .write(toFile: file, atomically: false, encoding: .utf8)
    }
  }

  func path(_ name: String) -> String { directory.appendingPathComponent(name).path }

  func text(_ name: String) throws -> String { try String(contentsOfFile: path(name), encoding: .utf8) }

  /// The deployment's nonce, from the client file.
  func nonce() throws -> String {
    let line = try XCTUnwrap(text("client.config.yaml").split(separator: "\n").first { $0.contains("  nonce:") })
    return line.split(separator: ":", maxSplits: 1)[1].trimmingCharacters(in: CharacterSet(charactersIn: " \"'"))
  }

  /// Changes the frontends' file, before they are started.
  /// - Parameters:
  ///   - inflightCheckTime: seconds after which the agent of a silent flow is asked about it.
  ///   - connectionsPerSecond: at most 1000; scripted clients make a connection for each request.
  func setFrontend(inflightCheckTime: Int, connectionsPerSecond: Int) throws {
    let file = try text("frontend.config.yaml").replacingOccurrences(
      of: "connections_per_second: 100\n", with: "connections_per_second: \(connectionsPerSecond)\n")
    let defaults = "defaults:\n  inflight_check_time: \(inflightCheckTime)\n"
    let url = URL(fileURLWithPath: path("frontend.config.yaml"))
    let handle = try FileHandle(forWritingTo: url)
    defer { try? handle.close() }
    // In place: the file keeps its mode.
    try handle.truncate(atOffset: 0)
    try handle.write(contentsOf: Data((file + defaults).utf8))
  }

  // MARK: processes

  func startWorker(_ number: Int) throws {
    let name = "worker-\(number)"
    try start(
      name, "crypto-worker",
      [
        "--config", path("crypto-worker.config.yaml"), "--bind", "ipc://\(path("run/worker-\(number).sock"))", "--name",
        name, "--monitoring-port", "0",
      ])
  }

  func startFrontend(_ number: Int, _ extra: [String] = []) throws {
    let name = "frontend-\(number)"
    try start(
      name, "frontend",
      [
        "--config", path("frontend.config.yaml"), "--bind-port", "\(ports[number - 1])", "--name", name,
        "--monitoring-port", "0",
      ] + extra)
  }

  func startAgent(_ number: Int, _ extra: [String] = []) throws {
    let name = "agent-\(number)"
    try start(
      name, "agent",
      [
        "--config", path("client.config.yaml"), "--writeback", path("\(name).writeback.yaml"), "--buffer",
        path("\(name).buffer"), "-v",
      ] + extra, ready: nil)
  }

  private func start(_ name: String, _ executable: String, _ arguments: [String], ready: String? = "ready") throws {
    let process = try RunningProcess(executable, arguments, name: name)
    processes[name] = process
    if let ready { try process.wait(for: ": \(ready)") }
  }

  /// Starts all workers and frontends, and waits until each frontend knows a worker.
  func startAll(workers: Int = 1) throws {
    for number in 1...workers { try startWorker(number) }
    for number in 1...ports.count {
      try startFrontend(number)
      try process("frontend-\(number)").wait(for: "crypto-worker is up")
    }
  }

  func process(_ name: String) throws -> RunningProcess { try XCTUnwrap(processes[name], name) }

  func kill(_ name: String) throws { try process(name).kill() }

  func stopAll() {
    for process in processes.values where process.isRunning { process.kill() }
    try? FileManager.default.removeItem(at: directory)
  }

  // MARK: operator

  func microraptor(_ arguments: [String], file: StaticString = #filePath, line: UInt = #line) throws -> String {
    let command = ["--config", path("admin.config.yaml")] + arguments
    let result = try RunningProcess.run("microraptor", command)
    XCTAssertEqual(
      result.status, 0, "microraptor \(command.joined(separator: " ")): \(result.errors)", file: file, line: line)
    return result.output
  }

  func client(port: Int? = nil) throws -> ScriptedClient {
    try ScriptedClient(nonce: nonce(), serverPEM: messageCertificate(), port: port ?? ports[0])
  }

  /// The message certificate, as `/server.pem` serves it.
  func messageCertificate() throws -> String {
    let answer = try HTTPSClient(port: ports[0]).send("GET", "/server.pem", [])
    return String(decoding: answer.body, as: UTF8.self)
  }

  /// A metric of a process, read from its monitoring port.
  func metric(_ process: String, _ name: String) throws -> Double {
    let line = try self.process(process).wait(for: "monitoring address=")
    let port = try XCTUnwrap(line.split(separator: ":").last.flatMap { Int($0) }, line)
    let answer = try HTTPSClient(port: port, tls: false).send("GET", "/metrics", [])
    let values = String(decoding: answer.body, as: UTF8.self).split(separator: "\n").filter { $0.hasPrefix(name + " ") }
    return values.compactMap { Double($0.dropFirst(name.count + 1)) }.reduce(0, +)
  }
}
