import CLibPQ
import Foundation

/// `StoreAdministration` for a PostgreSQL database, over a blocking connection of its own: `VACUUM` cannot run in the
/// pipelines of the store.
struct PGAdministration {
  private let url: String

  /// - Throws: `.invalid` when libpq does not understand the URL.
  init(url: String) throws {
    _ = try PGTarget(url: url)
    self.url = url
  }

  private static let sqlSchema = "SELECT coalesce(max(step), 0) FROM schema_steps"
  private static let sqlDatabase = """
    SELECT current_setting('server_version'), current_database(),
      coalesce(host(inet_server_addr()), 'unix socket'), pg_database_size(current_database())
    """
  private static let sqlEstimates = """
    SELECT relname, greatest(reltuples, 0)::bigint FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace
      AND relname IN ('flows', 'uploads', 'monitoring_chunks', 'seen_lists') ORDER BY relname
    """
  private static let names = ["flows": "flows", "uploads": "uploads", "monitoring_chunks": "event messages"]

  func status() throws -> StoreStatus {
    try connected { connection in
      let about = try Self.run(connection, Self.sqlDatabase).first ?? []
      guard about.count == 4 else { throw StoreError(.internalError, "PostgreSQL does not say what it is") }
      var status = StoreStatus(
        implementation: "PostgreSQL \(about[0])", place: "database \(about[1]) (\(about[2]))", schema: 0,
        knownSchema: PGSchema.steps.count, bytes: Int64(about[3]) ?? 0, freeBytes: 0, uploadBytes: 0, records: [])
      guard try Self.run(connection, "SELECT to_regclass('schema_steps') IS NOT NULL").first == ["t"] else {
        return status
      }
      status.schema = try Self.run(connection, Self.sqlSchema).first?.first.flatMap { Int($0) } ?? 0
      guard status.schema > 0 else { return status }
      let exact = [
        ("clients", "SELECT count(*) FROM clients"), ("open tasks", "SELECT count(*) FROM tasks WHERE state < 3"),
      ]
      status.records = try exact.map { ($0.0, try Self.run(connection, $0.1).first?.first.flatMap { Int64($0) } ?? 0) }
      for row in try Self.run(connection, Self.sqlEstimates) where row.count == 2 {
        status.records.append((Self.names[row[0]] ?? "remembered lists", Int64(row[1]) ?? 0))
      }
      return status
    }
  }

  /// Marks space for reuse and renews the planner's figures; tables are not locked and files mostly keep their size.
  func vacuum() throws -> (before: Int64, after: Int64) {
    try connected { connection in
      let size = "SELECT pg_database_size(current_database())"
      let before = try Self.run(connection, size).first?.first.flatMap { Int64($0) } ?? 0
      _ = try Self.run(connection, "SET statement_timeout = 0")
      _ = try Self.run(connection, "VACUUM (ANALYZE)")
      return (before, try Self.run(connection, size).first?.first.flatMap { Int64($0) } ?? 0)
    }
  }

  /// Runs `pg_dump`; its place and password go by the environment, which other users cannot see.
  func backup(to target: String) throws -> StoreBackup {
    guard !FileManager.default.fileExists(atPath: target) else {
      throw StoreError(.invalid, "\(target) exists; give another file")
    }
    // A server that is away is said in our words.
    try connected { _ in }
    guard let program = Self.program("pg_dump") else {
      throw StoreError(
        .unavailable,
        "pg_dump is not installed here (apt-get install postgresql-client); "
          + "or run where it is: pg_dump --format=custom --file=\(target) URL")
    }
    let descriptor = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw StoreError.errno(errno, "cannot create \(target)") }
    close(descriptor)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = ["--format=custom", "--no-password", "--file=\(target)"]
    process.environment = ProcessInfo.processInfo.environment.merging(try environment()) { $1 }
    let errors = Pipe()
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    do { try process.run() } catch { throw StoreError(.unavailable, "cannot run \(program): \(error)") }
    let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      unlink(target)
      throw StoreError(.unavailable, said.split(separator: "\n").joined(separator: "; "))
    }
    let bytes = (try? FileManager.default.attributesOfItem(atPath: target)[.size] as? Int64) ?? 0
    return StoreBackup(path: target, bytes: bytes, remainder: nil)
  }

  // MARK: libpq

  private static func program(_ name: String) -> String? {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
    return path.split(separator: ":").map { "\($0)/\(name)" }.first {
      FileManager.default.isExecutableFile(atPath: $0)
    }
  }

  /// The parts of the URL as the variables that all of PostgreSQL's programs read.
  private func environment() throws -> [String: String] {
    guard let options = PQconninfoParse(url, nil) else { throw StoreError(.invalid, "the URL cannot be read") }
    defer { PQconninfoFree(options) }
    var variables: [String: String] = [:]
    var option = options
    while let keyword = option.pointee.keyword {
      if let name = option.pointee.envvar, let value = option.pointee.val {
        variables[String(cString: name)] = String(cString: value)
      }
      // `PGDATABASE` and others have variables; what has none is not needed for a dump.
      _ = keyword
      option += 1
    }
    return variables
  }

  private func connected<Value>(_ body: (OpaquePointer) throws -> Value) throws -> Value {
    guard let connection = PQconnectdb(url) else { throw StoreError(.internalError, "no memory for a connection") }
    defer { PQfinish(connection) }
    guard PQstatus(connection) == CONNECTION_OK else {
      throw StoreError(.unavailable, "PostgreSQL does not answer: \(Self.message(connection))")
    }
    return try body(connection)
  }

  private static func message(_ connection: OpaquePointer) -> String {
    let text = PQerrorMessage(connection).map { String(cString: $0) } ?? ""
    return text.split(separator: "\n").joined(separator: "; ")
  }

  private static func run(_ connection: OpaquePointer, _ sql: String) throws -> [[String]] {
    let result = PQexec(connection, sql)
    defer { PQclear(result) }
    guard [PGRES_COMMAND_OK, PGRES_TUPLES_OK].contains(PQresultStatus(result)) else {
      throw StoreError(.unavailable, message(connection))
    }
    return (0..<PQntuples(result)).map { row in
      (0..<PQnfields(result)).map { PQgetvalue(result, row, $0).map { String(cString: $0) } ?? "" }
    }
  }
}
