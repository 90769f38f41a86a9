import Foundation
import PKI
import ProcessSupport
import PublicIdentity
import Store
import Synchronization

/// A deployment of the real executables on loopback.
final class Deployment: Sendable {
  let directory: URL
  let ports: [Int]
  private let settings: Settings
  private let processes = Mutex<[String: ServerProcess]>([:])

  /// Makes the files; starts nothing.
  init(_ settings: Settings, frontends: Int = 1, workers: Int = 1, maxPoll: Int = 300) throws {
    self.settings = settings
    directory = settings.scratch.appendingPathComponent("d-\(UUID().uuidString.prefix(4).lowercased())")
    ports = try (0..<frontends).map { _ in try LoopbackPort.free() }
    var arguments = [
      "config", "generate", "--directory", directory.path, "--hostname", "127.0.0.1", "--bind-address", "127.0.0.1",
      "--workers", "\(workers)", "--max-poll", "\(maxPoll)",
    ]
    for port in ports { arguments += ["--frontend-port", "\(port)"] }
    _ = try Command.check(settings.bin.appendingPathComponent("microraptor").path, arguments, in: settings.scratch)
    // The guard against connection floods would be what is measured; and scripted agents do not say who they are.
    let file = path("frontend.config.yaml")
    let text = try String(contentsOfFile: file, encoding: .utf8)
    try text.replacingOccurrences(
      of: "connections_per_second: 100", with: "connections_per_second: 1000\n    enrollments_per_second: -1"
    )
    .write(toFile: file, atomically: false, encoding: .utf8)
  }

  func path(_ name: String) -> String { directory.appendingPathComponent(name).path }

  var workerEndpoint: String { endpoint(1) }

  private func endpoint(_ number: Int) -> String { "ipc://" + path("run/worker-\(number).sock") }

  /// Starts the worker of this number; the first is called `worker`, others `worker-2` and so on.
  func startWorker(_ number: Int = 1, extra: [String] = []) throws {
    let name = number == 1 ? "worker" : "worker-\(number)"
    try start(
      name, "crypto-worker",
      ["--config", path("crypto-worker.config.yaml"), "--bind", endpoint(number), "--monitoring-port", "0"] + extra)
    try process(name).wait(for: ": ready")
  }

  /// Changes text in a configuration file.
  func edit(_ name: String, _ change: (String) -> String) throws {
    try change(String(contentsOfFile: path(name), encoding: .utf8))
      .write(toFile: path(name), atomically: false, encoding: .utf8)
  }

  func startAll(workers: Int = 1) throws {
    for number in 1...workers { try startWorker(number) }
    for (index, port) in ports.enumerated() {
      let name = "frontend-\(index + 1)"
      try start(
        name, "frontend",
        [
          "--config", path("frontend.config.yaml"), "--bind-port", "\(port)", "--name", name, "--monitoring-port", "0",
        ])
      try process(name).wait(for: ": ready")
      try process(name).wait(for: "crypto-worker is up")
    }
  }

  func start(_ name: String, _ executable: String, _ arguments: [String]) throws {
    try start(name, path: settings.bin.appendingPathComponent(executable).path, arguments)
  }

  func start(_ name: String, path: String, _ arguments: [String]) throws {
    let process = try ServerProcess(URL(fileURLWithPath: path), arguments, name: name)
    processes.withLock { $0[name] = process }
  }

  func process(_ name: String) throws -> ServerProcess {
    guard let process = processes.withLock({ $0[name] }) else { throw Trouble("\(name) was not started") }
    return process
  }

  /// What each process has said, by name.
  func output() -> [String: [String]] { processes.withLock { $0.mapValues(\.lines) } }

  func pid(_ name: String) throws -> Int32 { try process(name).pid }

  /// Seconds of processor time of the frontends and the worker.
  func serverCPU() throws -> Double {
    let all = processes.withLock { $0.filter { $0.key.hasPrefix("frontend") || $0.key == "worker" } }
    return try all.values.reduce(0) { try $0 + ProcessStatus.cpuSeconds($1.pid) }
  }

  func stop() {
    let all = processes.withLock { $0 }
    for (name, process) in all where name.hasPrefix("agent") { process.stop() }
    for process in all.values { process.kill() }
    try? FileManager.default.removeItem(at: directory)
  }

  // MARK: clients

  /// The key that agents wrap their sessions for, from the worker's file.
  func serverKey() throws -> RSAPublicKey {
    try RSAPrivateKey(pem: block("RSA PRIVATE KEY", in: "crypto-worker.config.yaml")).publicKey
  }

  private func block(_ type: String, in file: String) throws -> String {
    let lines = try String(contentsOfFile: path(file), encoding: .utf8).split(separator: "\n")
      .map { $0.trimmingCharacters(in: .whitespaces) }
    guard let start = lines.firstIndex(of: "-----BEGIN \(type)-----"),
      let end = lines.firstIndex(of: "-----END \(type)-----"), start < end
    else { throw Trouble("\(file) holds no \(type)") }
    return lines[start...end].joined(separator: "\n") + "\n"
  }

  func nonce() throws -> String {
    let text = try String(contentsOfFile: path("client.config.yaml"), encoding: .utf8)
    guard let line = text.split(separator: "\n").first(where: { $0.contains("  nonce:") }),
      let value = line.split(separator: ":", maxSplits: 1).last
    else { throw Trouble("the client file holds no nonce") }
    return value.trimmingCharacters(in: CharacterSet(charactersIn: " \"'"))
  }

  /// Clients with sessions; each costs an RSA operation of this process.
  func clients(_ keys: [RSAPrivateKey]) throws -> [LoadClient] {
    let (nonce, server) = (try nonce(), try serverKey())
    let made = Mutex<[(Int, LoadClient)]>([])
    DispatchQueue.concurrentPerform(iterations: keys.count) { index in
      guard let client = try? LoadClient(key: keys[index], nonce: nonce, server: server) else { return }
      made.withLock { $0.append((index, client)) }
    }
    let clients = made.withLock { $0.sorted { $0.0 < $1.0 }.map(\.1) }
    guard clients.count == keys.count else { throw Trouble("sessions could not be made") }
    return clients
  }

  func openStore() async throws -> SQLiteStore { try await SQLiteStore.open(location: path("datastore")) }

  /// Puts the clients' keys into the store, as enrollments do.
  func enroll(_ clients: [LoadClient]) async throws {
    let store = try await openStore()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for client in clients {
        group.addTask {
          try await store.enroll(
            client.name, publicKeyPEM: client.key.publicKey.pkcs1PEM, at: .now(), address: "127.0.0.1:1")
        }
      }
      try await group.waitForAll()
    }
    await store.close()
  }
}
