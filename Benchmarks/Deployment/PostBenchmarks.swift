import Foundation
import ProcessSupport
import Synchronization

extension Benchmark {
  static let checkIn = Benchmark(
    name: "check-in", abstract: "Check-ins over TLS keep-alive: processor time of frontend and worker for each.",
    run: PostBenchmarks.checkIn)
  static let monitoringRows = Benchmark(
    name: "monitoring-rows", abstract: "1 KiB of monitoring rows, stored durably: processor time for each POST.",
    run: PostBenchmarks.monitoringRows)
  static let tlsPost = Benchmark(
    name: "tls-post", abstract: "POSTs over TLS that a frontend core answers with a static body, against nginx.",
    run: TLSPost.run)
}

enum PostBenchmarks {
  private static let connections = 64

  private static func withDeployment(
    _ settings: Settings, _ run: (Deployment, [LoadClient]) async throws -> [Figure]
  ) async throws -> [Figure] {
    let deployment = try Deployment(settings)
    defer { deployment.stop() }
    let clients = try deployment.clients(ClientKeys.make(connections))
    try await deployment.enroll(clients)
    try deployment.startAll()
    return try await run(deployment, clients)
  }

  private static func drive(
    _ deployment: Deployment, _ settings: Settings, _ bodies: @escaping PostLoad.Bodies
  ) async throws -> (window: PostLoad.Window, worker: Double) {
    guard let port = deployment.ports.first else { throw Trouble("no frontend") }
    let load = try await PostLoad(port: port, path: "/control", connections: connections, status: 200, bodies: bodies)
    do {
      let worker = try deployment.pid("worker")
      let (workerBefore, before) = (try ProcessStatus.cpuSeconds(worker), try deployment.serverCPU())
      let window = try await load.measure(rounds: settings.rounds, seconds: settings.seconds(2)) {
        try deployment.serverCPU()
      }
      let all = try deployment.serverCPU() - before
      let part = all > 0 ? (try ProcessStatus.cpuSeconds(worker) - workerBefore) / all : 0
      await load.stop()
      return (window, part)
    } catch {
      await load.stop()
      throw error
    }
  }

  static func checkIn(_ settings: Settings) async throws -> [Figure] {
    try await withDeployment(settings) { deployment, clients in
      let bodies = try clients.map { try $0.seal([LoadClient.checkIn]) }
      let (window, worker) = try await drive(deployment, settings) { bodies[$0] }
      return figures("check-in", window, worker, most: 30, reference: 134)
    }
  }

  static func monitoringRows(_ settings: Settings) async throws -> [Figure] {
    try await withDeployment(settings) { deployment, clients in
      let number = Atomic<Int>(0)
      let (window, worker) = try await drive(deployment, settings) { connection in
        let next = number.add(1, ordering: .relaxed).newValue
        return try? clients[connection].seal([LoadClient.monitoring(next, bytes: 1024)])
      }
      return figures("1 KiB of monitoring rows, stored", window, worker, most: 70, reference: 221)
    }
  }

  private static func figures(
    _ what: String, _ window: PostLoad.Window, _ worker: Double, most: Double, reference: Double
  ) -> [Figure] {
    let frontend = Int(((1 - worker) * 100).rounded())
    return [
      Figure(
        "\(what): CPU of frontend, store and worker a request", window.cpuPerRequest * 1e6, "µs", goal: .atMost(most),
        note: "\(frontend) % in the frontend; the reference needs \(Number.text(reference))"),
      Figure("\(what): requests over TLS, the load generator on the same cores", window.requestsPerSecond, "/s"),
    ]
  }
}

/// A frontend and nginx answer the same POST with the same static body.
enum TLSPost {
  static func run(_ settings: Settings) async throws -> [Figure] {
    let deployment = try Deployment(settings)
    defer { deployment.stop() }
    try deployment.startAll()
    let nginx = try await Nginx(settings, bodyBytes: 1200)
    defer { nginx.stop() }
    guard let port = deployment.ports.first else { throw Trouble("no frontend") }
    let frontend = try deployment.pid("frontend-1")
    var rates: ([Double], [Double]) = ([], [])
    for _ in 0..<3 {
      rates.0.append(try await rate(port, "/server.pem", frontend, settings))
      rates.1.append(try await rate(nginx.port, "/static", nginx.pid, settings))
    }
    return [
      Figure(
        "TLS POST of 1 KiB answered with a static body, one frontend core", Statistics.median(rates.0), "/s",
        limit: ("nginx", Statistics.median(rates.1)), goal: .ratioAtLeast(0.8))
    ]
  }

  /// Requests for each second of the server's processor time.
  private static func rate(_ port: Int, _ path: String, _ pid: Int32, _ settings: Settings) async throws -> Double {
    let body = [UInt8](repeating: 65, count: 1024)
    let load = try await PostLoad(port: port, path: path, connections: 64, status: 200) { _ in body }
    do {
      let window = try await load.measure(rounds: 1, seconds: settings.seconds(2)) { try ProcessStatus.cpuSeconds(pid) }
      await load.stop()
      return window.cpuPerRequest > 0 ? 1 / window.cpuPerRequest : 0
    } catch {
      await load.stop()
      throw error
    }
  }
}

/// nginx as one process, with TLS and a P-256 key.
final class Nginx: Sendable {
  let port: Int
  private let process: ServerProcess

  init(_ settings: Settings, bodyBytes: Int) async throws {
    port = try LoopbackPort.free()
    let folder = settings.scratch.appendingPathComponent("nginx")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let paths = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
    guard let nginx = paths.first(where: { FileManager.default.isExecutableFile(atPath: $0) }) else {
      throw Trouble("nginx is not installed")
    }
    _ = try Command.check(
      "openssl",
      [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-keyout", folder.path + "/key.pem", "-out", folder.path + "/cert.pem",
      ], in: settings.scratch)
    let file = folder.path + "/nginx.conf"
    try Self.configuration(folder.path, port, bodyBytes).write(toFile: file, atomically: false, encoding: .utf8)
    process = try ServerProcess(
      URL(fileURLWithPath: nginx), ["-p", folder.path, "-c", file, "-e", folder.path + "/error.log"], name: "nginx")
    try await Task.sleep(for: .milliseconds(300))
    guard process.isRunning else {
      throw Trouble("nginx ended: \(process.lines.last ?? "")")
    }
  }

  var pid: Int32 { process.pid }

  func stop() { process.kill() }

  private static func configuration(_ folder: String, _ port: Int, _ bytes: Int) -> String {
    """
    daemon off;
    master_process off;
    pid \(folder)/pid;
    error_log \(folder)/error.log;
    events { worker_connections 1024; }
    http {
      access_log off;
      client_body_temp_path \(folder)/body;
      proxy_temp_path \(folder)/proxy;
      fastcgi_temp_path \(folder)/fastcgi;
      uwsgi_temp_path \(folder)/uwsgi;
      scgi_temp_path \(folder)/scgi;
      keepalive_requests 1000000000;
      server {
        listen 127.0.0.1:\(port) ssl;
        ssl_certificate \(folder)/cert.pem;
        ssl_certificate_key \(folder)/key.pem;
        ssl_protocols TLSv1.3;
        location / { default_type text/plain; return 200 "\(String(repeating: "x", count: bytes))"; }
      }
    }

    """
  }
}
