import Configuration
import Foundation
import ProcessSupport
import Store

/// Two frontends behind nginx, two crypto-workers, agents that reach nginx over two bad networks.
final class SoakDeployment: Sendable {
  static let frontends = 2
  static let workers = 2

  let deployment: Deployment
  let networks: [FaultProxy]
  let agents: [String]
  private let settings: Settings
  private let nginxPort: Int
  private let nginxFile: String

  /// - Parameter nginxTemplate: the project's `deploy/nginx.conf`.
  init(_ settings: Settings, agents count: Int, nginxTemplate: String) async throws {
    self.settings = settings
    deployment = try Deployment(settings, frontends: Self.frontends, workers: Self.workers, maxPoll: 20)
    nginxPort = try LoopbackPort.free()
    var networks: [FaultProxy] = []
    for _ in deployment.ports { networks.append(try await FaultProxy(to: nginxPort)) }
    self.networks = networks
    agents = (1...count).map { "agent-\($0)" }
    nginxFile = deployment.path("nginx.conf")
    try prepareFiles(nginxTemplate)
  }

  private func prepareFiles(_ template: String) throws {
    for (port, network) in zip(deployment.ports, networks) {
      try edit("client.config.yaml", [("127.0.0.1:\(port)/", "127.0.0.1:\(network.port)/")])
    }
    let frontend = try FrontendConfig.load(path: deployment.path("frontend.config.yaml"))
    guard case .inline(let certificate, let key) = frontend.frontend.tls else {
      throw Trouble("the frontends' file holds no TLS key")
    }
    // Agents of a self-signed deployment accept what its CA signed; nginx shows the frontends' own leaf.
    try write(deployment.path("tls.pem"), certificate)
    try write(deployment.path("tls.key"), key)
    try edit(
      "frontend.config.yaml",
      [
        (
          "\nFrontend:\n",
          """

          Frontend:
            use_plain_http: true
            proxy_header: X-Forwarded-For
            trusted_proxies: [127.0.0.1/32]

          """
        )
      ])
    let text = try String(contentsOfFile: template, encoding: .utf8)
    try write(
      nginxFile,
      try Self.replaced(
        text,
        [
          ("127.0.0.1:8001", "127.0.0.1:\(deployment.ports[0])"),
          ("127.0.0.1:8002", "127.0.0.1:\(deployment.ports[1])"), ("listen 443 ", "listen 127.0.0.1:\(nginxPort) "),
          ("/etc/microraptor/tls.pem", deployment.path("tls.pem")),
          ("/etc/microraptor/tls.key", deployment.path("tls.key")),
          ("/run/microraptor-nginx.pid", deployment.path("nginx.pid")),
          ("worker_connections 32768", "worker_connections 512"),
        ], in: template))
  }

  private static func replaced(_ text: String, _ pairs: [(String, String)], in file: String) throws -> String {
    try pairs.reduce(text) { text, pair in
      guard text.contains(pair.0) else { throw Trouble("\(file) no longer has «\(pair.0)»") }
      return text.replacingOccurrences(of: pair.0, with: pair.1)
    }
  }

  private func edit(_ name: String, _ pairs: [(String, String)]) throws {
    let path = deployment.path(name)
    try write(path, try Self.replaced(String(contentsOfFile: path, encoding: .utf8), pairs, in: name))
  }

  private func write(_ path: String, _ text: String) throws {
    try ConfigFile.write(text, to: path)
  }

  // MARK: processes

  func startServers() throws {
    for number in 1...Self.workers { try startWorker(number) }
    for number in 1...Self.frontends { try startFrontend(number) }
    try startNginx()
  }

  func startWorker(_ number: Int) throws {
    try deployment.start(
      "worker-\(number)", "crypto-worker",
      [
        "--config", deployment.path("crypto-worker.config.yaml"), "--bind",
        "ipc://\(deployment.path("run/worker-\(number).sock"))", "--name", "worker-\(number)", "--monitoring-port", "0",
      ])
    try deployment.process("worker-\(number)").wait(for: ": ready")
  }

  func startFrontend(_ number: Int) throws {
    try deployment.start(
      "frontend-\(number)", "frontend",
      [
        "--config", deployment.path("frontend.config.yaml"), "--bind-port", "\(deployment.ports[number - 1])", "--name",
        "frontend-\(number)", "--monitoring-port", "0",
      ])
    try deployment.process("frontend-\(number)").wait(for: ": ready")
  }

  /// One process: workers of a killed master would live on and keep the port.
  func startNginx() throws {
    try deployment.start(
      "nginx", path: "/usr/sbin/nginx",
      [
        "-p", deployment.directory.path, "-c", nginxFile, "-g", "daemon off; master_process off;", "-e",
        deployment.path("nginx.log"),
      ])
  }

  func startAgents() throws {
    for name in agents {
      try deployment.start(
        name, "agent",
        [
          "--config", deployment.path("client.config.yaml"), "--writeback", deployment.path("\(name).writeback.yaml"),
          "--buffer", deployment.path("\(name).buffer"), "-v",
        ])
    }
  }

  func stop() async {
    deployment.stop()
    for network in networks { await network.stop() }
  }

  /// Runs the operator's command.
  func microraptor(_ arguments: [String]) throws -> String {
    let command = [arguments[0], "--config", deployment.path("admin.config.yaml")] + arguments.dropFirst()
    return try Command.check(
      settings.bin.appendingPathComponent("microraptor").path, Array(command), in: settings.scratch)
  }
}
