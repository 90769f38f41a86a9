import Foundation
import PublicIdentity

extension PostgreSQLStore {
  /// Records touched by one step, so that nobody waits long.
  private static let step = 500
  /// How long tokens of transactions are kept; a commit is settled within seconds.
  private static let tokenLifetime: Duration = .seconds(3_600)

  static let sqlExpired = """
    SELECT t.id FROM tasks t WHERE t.state = 0 AND t.expires_at IS NOT NULL AND t.expires_at < $1::bigint LIMIT 500
    """
  /// Those whose clients nobody works on just now.
  static let sqlLockExpired = """
    SELECT t.id FROM tasks t JOIN contacts c ON c.client = t.client
    WHERE t.state = 0 AND t.expires_at IS NOT NULL AND t.expires_at < $1::bigint
    LIMIT 500 FOR NO KEY UPDATE OF c SKIP LOCKED
    """
  static let sqlOldDigests = old("seen_lists", "seen_at")
  static let sqlOldChanges = old("changes", "at")
  static let sqlOldTokens = old("outcomes", "at")
  static let sqlIsDue = """
    SELECT EXISTS (SELECT 1 FROM doomed)
      OR EXISTS (SELECT 1 FROM tasks WHERE state = 0 AND expires_at IS NOT NULL AND expires_at < $1::bigint)
      OR EXISTS (SELECT 1 FROM seen_lists WHERE seen_at < $2::bigint)
      OR EXISTS (SELECT 1 FROM changes WHERE at < $3::bigint)
      OR EXISTS (SELECT 1 FROM outcomes WHERE at < $4::bigint)
    """

  private static func old(_ table: String, _ column: String) -> String {
    """
    DELETE FROM \(table) WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM \(table) WHERE \(column) < $1::bigint ORDER BY \(column) LIMIT 500))
    """
  }

  @discardableResult
  package func delete(_ client: ClientName, by: Operator) async throws -> Bool {
    let existed = try await transact(on: client) { transaction, key in
      guard let key else { return false }
      let now = Timestamp.now()
      transaction.write(
        "INSERT INTO doomed (client, org, name) VALUES ($1::bigint, $2::text, $3::text)",
        [.int(key), .text(client.org), .text(client.id.rawValue)])
      transaction.write("DELETE FROM clients WHERE id = $1::bigint", [.int(key)])
      transaction.write("DELETE FROM contacts WHERE client = $1::bigint", [.int(key)])
      transaction.write("DELETE FROM seats WHERE client = $1::bigint", [.int(key)])
      transaction.announce([.clientDeleted(client)], at: now)
      transaction.record("delete", on: client, detail: "", by: by, at: now)
      return true
    }
    guard existed else { return false }
    while try await purgeStep() > 0 {}
    return true
  }

  @discardableResult
  package func maintain(now: Timestamp) async throws -> MaintenanceReport {
    let digests = now.advanced(by: .zero - options.digestLifetime)
    let changes = now.advanced(by: .zero - options.eventLifetime)
    let tokens = now.advanced(by: .zero - Self.tokenLifetime)
    let due = try await rows(Self.sqlIsDue, [.time(now), .time(digests), .time(changes), .time(tokens)])
    let retention = try await retain(now: now)
    guard due.first?.bool(0) == true else {
      var report = MaintenanceReport()
      report.retention = retention
      report.hasMore = !retention.isEmpty
      return report
    }
    var report = try await client.transact { transaction in
      var report = MaintenanceReport()
      let expired = try await transaction.read(Self.sqlLockExpired, [.time(now)]).rows.map { $0.int(0) }
      Self.expire(expired, &transaction, at: now)
      let results = try await transaction.change([
        PGStatement(Self.sqlOldDigests, [.time(digests)]), PGStatement(Self.sqlOldChanges, [.time(changes)]),
        PGStatement(Self.sqlOldTokens, [.time(tokens)]),
      ])
      report.expiredTasks = expired.count
      report.forgottenDigests = results.first?.changes ?? 0
      report.trimmedEvents = results.dropFirst().first?.changes ?? 0
      report.hasMore = results.contains { $0.changes >= Self.step }
      return report
    }
    report.purgedRecords = try await purgeStep()
    report.retention = retention
    report.hasMore =
      report.hasMore || report.expiredTasks >= Self.step || report.purgedRecords > 0 || !retention.isEmpty
    return report
  }

  /// Removes some of what belongs to deleted clients; two processes take turns.
  /// - Returns: how many records; 0 when nothing is left.
  private func purgeStep() async throws -> Int {
    try await client.transact { transaction in
      let row = try await transaction.read("SELECT client FROM doomed LIMIT 1 FOR UPDATE SKIP LOCKED").first
      guard let key = row?.int(0) else { return 0 }
      for statement in PGPurge.statements {
        let removed = try await transaction.change(statement, [.int(key)]).changes
        if removed > 0 { return removed }
      }
      transaction.write("DELETE FROM doomed WHERE client = $1::bigint", [.int(key)])
      return 1
    }
  }
}

/// The statements that empty the tables of one deleted client, children first.
enum PGPurge {
  static let statements = [
    """
    DELETE FROM row_chunks WHERE ctid = ANY (ARRAY(
      SELECT c.ctid FROM flows f JOIN result_sets r ON r.flow = f.id JOIN row_chunks c ON c.result_set = r.id
      WHERE f.client = $1::bigint LIMIT 200))
    """,
    """
    DELETE FROM result_sets WHERE ctid = ANY (ARRAY(
      SELECT r.ctid FROM flows f JOIN result_sets r ON r.flow = f.id WHERE f.client = $1::bigint LIMIT 500))
    """,
    """
    DELETE FROM log_chunks WHERE ctid = ANY (ARRAY(
      SELECT l.ctid FROM flows f JOIN log_chunks l ON l.flow = f.id WHERE f.client = $1::bigint LIMIT 500))
    """,
    """
    DELETE FROM upload_pieces WHERE ctid = ANY (ARRAY(
      SELECT p.ctid FROM flows f JOIN uploads u ON u.flow = f.id JOIN upload_pieces p ON p.upload = u.id
      WHERE f.client = $1::bigint LIMIT 50))
    """,
    """
    DELETE FROM uploads WHERE ctid = ANY (ARRAY(
      SELECT u.ctid FROM flows f JOIN uploads u ON u.flow = f.id WHERE f.client = $1::bigint LIMIT 500))
    """,
    """
    DELETE FROM upload_transactions WHERE ctid = ANY (ARRAY(
      SELECT t.ctid FROM flows f JOIN upload_transactions t ON t.flow = f.id WHERE f.client = $1::bigint LIMIT 500))
    """,
    ofClient("tasks"), ofClient("flows"), ofClient("monitoring_chunks"), ofClient("seen_lists"), ofClient("labels"),
    ofClient("hunt_clients"),
  ]

  private static func ofClient(_ table: String) -> String {
    """
    DELETE FROM \(table) WHERE ctid = ANY (ARRAY(SELECT ctid FROM \(table) WHERE client = $1::bigint LIMIT 500))
    """
  }
}
