import Foundation
import GRDB
import PublicIdentity

extension SQLiteStore {
  /// Records touched by one step, so that other writers never wait long.
  private static let step = 500

  static let sqlExpired = """
    SELECT id FROM tasks WHERE state = 0 AND expires_at IS NOT NULL AND expires_at < ? LIMIT 500
    """
  static let sqlOldDigests = """
    DELETE FROM seen_lists WHERE id IN (SELECT id FROM seen_lists ORDER BY id LIMIT 500) AND seen_at < ?
    """
  static let sqlOldChanges = """
    DELETE FROM changes WHERE seq IN (SELECT seq FROM changes ORDER BY seq LIMIT 500) AND at < ?
    """

  @discardableResult
  package func delete(_ client: ClientName, by: Operator) async throws -> Bool {
    let key = try await write { db -> Int64? in
      guard let key = try db.key(of: client) else { return nil }
      let now = Timestamp.now()
      try db.run(
        "INSERT INTO doomed (client, org, name, directory) VALUES (?, ?, ?, ?)",
        [key, client.org, client.id.rawValue, UploadFiles.aside(key)])
      try db.run("DELETE FROM clients WHERE id = ?", [key])
      try db.run("DELETE FROM contacts WHERE client = ?", [key])
      try db.run("DELETE FROM seats WHERE client = ?", [key])
      try db.announce(.clientDeleted(client), at: now)
      try db.record("delete", on: client, detail: "", by: by, at: now)
      return key
    }
    guard let key else { return false }
    await poller.announced()
    uploadFiles.setAside(client, key: key)
    while try await purgeStep() > 0 {}
    return true
  }

  @discardableResult
  package func maintain(now: Timestamp) async throws -> MaintenanceReport {
    let due = try await read { [options] db in try Self.isDue(db, now: now, options: options) }
    let retention = try await retain(now: now)
    guard due else {
      var report = MaintenanceReport()
      report.retention = retention
      report.hasMore = !retention.isEmpty
      return report
    }
    var report = try await write { [options] db in
      var report = MaintenanceReport()
      for row in try db.rows(Self.sqlExpired, [now.microseconds]) {
        try Self.expire(row["id"], db, at: now)
        report.expiredTasks += 1
      }
      try db.run(Self.sqlOldDigests, [now.advanced(by: .zero - options.digestLifetime).microseconds])
      report.forgottenDigests = db.changesCount
      try db.run(Self.sqlOldChanges, [now.advanced(by: .zero - options.eventLifetime).microseconds])
      report.trimmedEvents = db.changesCount
      return report
    }
    report.purgedRecords = try await purgeStep()
    let most = max(report.expiredTasks, report.forgottenDigests, report.trimmedEvents)
    report.retention = retention
    report.hasMore = most >= Self.step || report.purgedRecords > 0 || !retention.isEmpty
    return report
  }

  /// Whether a step has anything to do; a look costs no write.
  private static func isDue(_ db: Database, now: Timestamp, options: StoreOptions) throws -> Bool {
    if try db.row("SELECT 1 FROM doomed LIMIT 1") != nil { return true }
    if try db.row(sqlExpired, [now.microseconds]) != nil { return true }
    let digests = now.advanced(by: .zero - options.digestLifetime).microseconds
    if let oldest = try db.number("SELECT seen_at FROM seen_lists ORDER BY id LIMIT 1"), oldest < digests {
      return true
    }
    let changes = now.advanced(by: .zero - options.eventLifetime).microseconds
    if let oldest = try db.number("SELECT at FROM changes ORDER BY seq LIMIT 1"), oldest < changes { return true }
    return false
  }

  /// Removes some of what belongs to deleted clients.
  /// - Returns: how many records; 0 when nothing is left.
  private func purgeStep() async throws -> Int {
    let (removed, finished) = try await write { db -> (Int, Doomed?) in
      guard let row = try db.row("SELECT client, org, name, directory FROM doomed LIMIT 1") else { return (0, nil) }
      let removed = try Purge.step(row["client"], db)
      guard removed == 0 else { return (removed, nil) }
      try db.run("DELETE FROM doomed WHERE client = ?", [row["client"]])
      guard let name = ClientName(org: row["org"], stored: row["name"]) else { return (1, nil) }
      let isBack = try db.key(of: name) != nil
      return (1, Doomed(name: name, key: row["client"], directory: row["directory"], isBack: isBack))
    }
    if let finished {
      // A process that ended between the first step and this one left the files where they were.
      if !finished.isBack { uploadFiles.setAside(finished.name, key: finished.key) }
      uploadFiles.remove(finished.directory)
    }
    return removed
  }

  private struct Doomed: Sendable {
    var name: ClientName
    var key: Int64
    var directory: String
    /// The same client enrolled again; its files are not to be touched.
    var isBack: Bool
  }
}

/// The statements that empty the tables of one deleted client, children first.
enum Purge {
  static let statements = [
    """
    DELETE FROM row_chunks WHERE id IN (
      SELECT row_chunks.id FROM flows JOIN result_sets ON result_sets.flow = flows.id
      JOIN row_chunks ON row_chunks.result_set = result_sets.id WHERE flows.client = ? LIMIT 200)
    """,
    """
    DELETE FROM result_sets WHERE id IN (
      SELECT result_sets.id FROM flows JOIN result_sets ON result_sets.flow = flows.id WHERE flows.client = ?
      LIMIT 500)
    """,
    """
    DELETE FROM log_chunks WHERE id IN (
      SELECT log_chunks.id FROM flows JOIN log_chunks ON log_chunks.flow = flows.id WHERE flows.client = ? LIMIT 500)
    """,
    """
    DELETE FROM uploads WHERE id IN (
      SELECT uploads.id FROM flows JOIN uploads ON uploads.flow = flows.id WHERE flows.client = ? LIMIT 500)
    """,
    """
    DELETE FROM upload_transactions WHERE id IN (
      SELECT upload_transactions.id FROM flows JOIN upload_transactions ON upload_transactions.flow = flows.id
      WHERE flows.client = ? LIMIT 500)
    """,
    "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE client = ? LIMIT 500)",
    "DELETE FROM flows WHERE id IN (SELECT id FROM flows WHERE client = ? LIMIT 500)",
    "DELETE FROM monitoring_chunks WHERE id IN (SELECT id FROM monitoring_chunks WHERE client = ? LIMIT 500)",
    "DELETE FROM seen_lists WHERE id IN (SELECT id FROM seen_lists WHERE client = ? LIMIT 500)",
    "DELETE FROM labels WHERE client = ?", "DELETE FROM hunt_clients WHERE client = ?",
  ]

  /// Runs the first statement that finds something.
  static func step(_ client: Int64, _ db: Database) throws -> Int {
    for statement in statements {
      try db.run(statement, [client])
      if db.changesCount > 0 { return db.changesCount }
    }
    return 0
  }
}
