import CLibPQ
import Foundation
import Synchronization
import XCTest

/// A private PostgreSQL server in a directory of its own, reached by a unix socket there and by nothing else. One is
/// started for the whole test process and stopped at its end; tests that kill their server start another.
package final class PostgreSQLServer: Sendable {
  package let directory: String
  private let binaries: String
  private let databases = Mutex(0)
  private var data: String { directory + "/data" }

  package struct Failure: Error, CustomStringConvertible {
    package var description: String
  }

  private static let common = Mutex<PostgreSQLServer?>(nil)

  /// The server of the test process.
  /// - Throws: `XCTSkip` when the machine has no PostgreSQL.
  package static func shared() throws -> PostgreSQLServer {
    try common.withLock { server in
      if let server { return server }
      let new = try PostgreSQLServer()
      server = new
      atexit { PostgreSQLServer.common.withLock { $0?.remove() } }
      return new
    }
  }

  /// The newest version's directory of programs, as Debian and others install them; nil without any.
  static var binaryDirectory: String? {
    let roots = ["/usr/lib/postgresql", "/usr/local/pgsql"]
    var found: [String] = []
    for root in roots {
      let versions = ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).sorted {
        $0.compare($1, options: .numeric) == .orderedAscending
      }
      found += versions.map { "\(root)/\($0)/bin" } + ["\(root)/bin"]
    }
    return found.last { FileManager.default.isExecutableFile(atPath: $0 + "/initdb") }
  }

  /// Makes a cluster and starts it.
  package init() throws {
    guard let binaries = Self.binaryDirectory else {
      throw XCTSkip("PostgreSQL's programs are not installed (apt-get install postgresql): its store is not tested")
    }
    self.binaries = binaries
    // Unix sockets have short paths.
    directory = "/tmp/mrpg-" + UUID().uuidString.prefix(8)
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    if getuid() == 0 { try run("/bin/chown", [Self.user, directory], asUser: false) }
    try run(
      binaries + "/initdb",
      ["-D", data, "-U", "microraptor", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"])
    try start()
  }

  /// PostgreSQL refuses root.
  private static let user: String = getpwnam("postgres") == nil ? "nobody" : "postgres"

  /// Runs a program to its end. The server outlives `pg_ctl`, so it must inherit nothing that somebody waits for.
  private func run(_ program: String, _ arguments: [String], asUser: Bool = true) throws {
    let isRoot = asUser && getuid() == 0
    let command = (isRoot ? ["/usr/sbin/runuser", "-u", Self.user, "--"] : []) + [program] + arguments
    let output = directory + "/output"
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    var texts: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for text in texts { free(text) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, command[0], &actions, nil, &texts, environ)
    guard code == 0 else { throw Failure(description: "\(program) cannot be started: \(code)") }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    guard status == 0 else {
      let said = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
      let log = (try? String(contentsOfFile: directory + "/server.log", encoding: .utf8)) ?? ""
      throw Failure(description: "\(program) ended with \(status): \(said)\(log.suffix(2_000))")
    }
  }

  /// Starts the server and waits until it takes connections.
  package func start() throws {
    // Killed processes lose nothing that the kernel has, so the tests need no wait for the disk.
    let options = [
      "-c fsync=off",
      "-c listen_addresses=''", "-c unix_socket_directories='\(directory)'", "-c unix_socket_permissions=0777",
      "-c max_connections=60", "-c shared_buffers=64MB",
    ]
    try run(
      binaries + "/pg_ctl",
      [
        "-D", data, "-w", "-t", "60", "-s", "-l", directory + "/server.log", "-o", options.joined(separator: " "),
        "start",
      ])
  }

  package func stop(_ mode: String = "fast") throws {
    try run(binaries + "/pg_ctl", ["-D", data, "-w", "-m", mode, "-s", "stop"])
  }

  /// Kills the server's processes as a power cut would, and waits until they are gone.
  package func kill() throws {
    let text = try String(contentsOfFile: data + "/postmaster.pid", encoding: .utf8)
    guard let line = text.split(separator: "\n").first, let postmaster = pid_t(line) else {
      throw Failure(description: "no process id of the server")
    }
    let children = Self.children(of: postmaster)
    for process in [postmaster] + children { Glibc.kill(process, SIGKILL) }
    for process in [postmaster] + children {
      // A zombie has no command line.
      while FileManager.default.contents(atPath: "/proc/\(process)/cmdline")?.isEmpty == false { sched_yield() }
    }
    // Where nobody reaps orphans the process ids stay taken; the lock files would then seem to be in use.
    for file in ["/data/postmaster.pid", "/.s.PGSQL.5432.lock", "/.s.PGSQL.5432"] {
      try? FileManager.default.removeItem(atPath: directory + file)
    }
  }

  private static func children(of parent: pid_t) -> [pid_t] {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return entries.compactMap(pid_t.init).filter { process in
      guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
        let rest = stat.split(separator: ")").last
      else { return false }
      return rest.split(separator: " ").dropFirst().first.flatMap { pid_t($0) } == parent
    }
  }

  private func remove() {
    try? stop("immediate")
    try? FileManager.default.removeItem(atPath: directory)
  }

  /// Stops it for good and removes its files.
  package func dispose() {
    remove()
  }

  // MARK: databases

  package func url(_ database: String) -> String {
    "postgresql:///\(database)?host=\(directory)&user=microraptor"
  }

  /// The URL of a new, empty database.
  package func newDatabase() throws -> String {
    let number = databases.withLock { count in
      count += 1
      return count
    }
    let name = "test\(number)"
    try execute("CREATE DATABASE \(name)", in: "postgres")
    return url(name)
  }

  /// Runs SQL on a connection of its own, waiting for it.
  @discardableResult
  package func execute(_ sql: String, in database: String) throws -> [[String]] {
    try Self.execute(sql, url: url(database))
  }

  @discardableResult
  package static func execute(_ sql: String, url: String) throws -> [[String]] {
    let connection = PQconnectdb(url)
    defer { PQfinish(connection) }
    let result = PQexec(connection, sql)
    defer { PQclear(result) }
    guard [PGRES_COMMAND_OK, PGRES_TUPLES_OK].contains(PQresultStatus(result)) else {
      throw Failure(description: PQerrorMessage(connection).map { String(cString: $0) } ?? "no connection")
    }
    return (0..<PQntuples(result)).map { row in
      (0..<PQnfields(result)).map { PQgetvalue(result, row, $0).map { String(cString: $0) } ?? "" }
    }
  }
}
