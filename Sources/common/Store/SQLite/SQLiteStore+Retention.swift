import GRDB
import PublicIdentity

/// Removes what is older than `StoreOptions.retention`, in steps that other writers hardly notice. The keys of these
/// tables grow with time, so the oldest records are found without an index on time.
extension SQLiteStore {
  static let sqlOldMonitoring = """
    DELETE FROM monitoring_chunks WHERE id IN (SELECT id FROM monitoring_chunks ORDER BY id LIMIT 200)
      AND received_at < ?
    """
  static let sqlOldLogs = """
    DELETE FROM log_chunks WHERE id IN (SELECT id FROM log_chunks ORDER BY id LIMIT 500) AND stored_at < ?
    """
  static let sqlOldAudit = """
    DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT 500) AND at < ?
    """
  static let sqlOldUploads = """
    SELECT id, stored_path FROM (SELECT id, stored_path, stored_at FROM uploads ORDER BY id LIMIT 50)
    WHERE stored_at < ?
    """
  static let sqlEndedFlows = """
    SELECT id FROM flows WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at LIMIT 20
    """
  static let sqlUploadsOfFlow = "SELECT stored_path FROM uploads WHERE flow = ?"
  private static let sqlOldestEvent = "SELECT received_at FROM monitoring_chunks ORDER BY id LIMIT 1"
  private static let sqlOldestLog = "SELECT stored_at FROM log_chunks ORDER BY id LIMIT 1"
  private static let sqlOldestAudit = "SELECT at FROM audit ORDER BY id LIMIT 1"
  private static let sqlOldestUpload = "SELECT stored_at FROM uploads ORDER BY id LIMIT 1"
  private static let sqlOldestEnd = """
    SELECT ended_at FROM flows WHERE ended_at IS NOT NULL ORDER BY ended_at LIMIT 1
    """

  /// Until when each kind goes, in microseconds; nil when nothing of it is due.
  private struct Due: Sendable {
    var monitoring: Int64?
    var flows: Int64?
    var uploads: Int64?
    var logs: Int64?
    var audit: Int64?
  }

  /// One step of each kind that is due. A look when nothing is due costs no write.
  func retain(now: Timestamp) async throws -> RetentionReport {
    guard options.retention != Retention() else { return RetentionReport() }
    let due = try await read { [options] db in try Self.due(options.retention, now, db) }
    var report = RetentionReport()
    if let horizon = due.monitoring { report.monitoring = try await remove(Self.sqlOldMonitoring, horizon) }
    if let horizon = due.logs { report.logs = try await remove(Self.sqlOldLogs, horizon) }
    if let horizon = due.audit { report.audit = try await remove(Self.sqlOldAudit, horizon) }
    if let horizon = due.uploads { report.uploads = try await removeUploads(horizon) }
    if let horizon = due.flows {
      let (flows, records) = try await removeFlows(horizon)
      report.flows = flows
      report.records = records
    }
    return report
  }

  private static func due(_ retention: Retention, _ now: Timestamp, _ db: Database) throws -> Due {
    func due(_ age: Duration?, _ oldest: String) throws -> Int64? {
      guard let horizon = retention.horizon(age, now: now), let time = try db.number(oldest), time < horizon else {
        return nil
      }
      return horizon
    }
    var result = Due(
      monitoring: try due(retention.monitoring, sqlOldestEvent), flows: try due(retention.flows, sqlOldestEnd),
      uploads: try due(retention.uploads, sqlOldestUpload), logs: try due(retention.logs, sqlOldestLog),
      audit: try due(retention.audit, sqlOldestAudit))
    guard let limit = retention.maximumBytes, try usedBytes(db) > limit else { return result }
    // The older of the two goes, up to and including the oldest record.
    let event = try db.number(sqlOldestEvent) ?? .max
    let flow = try db.number(sqlOldestEnd) ?? .max
    if event <= flow, event != .max {
      result.monitoring = max(result.monitoring ?? .min, event + 1)
    } else if flow != .max {
      result.flows = max(result.flows ?? .min, flow + 1)
    }
    return result
  }

  /// Bytes of the pages that hold something.
  static func usedBytes(_ db: Database) throws -> Int64 {
    let pages = try db.number("PRAGMA page_count") ?? 0
    let free = try db.number("PRAGMA freelist_count") ?? 0
    return (pages - free) * (try db.number("PRAGMA page_size") ?? 0)
  }

  private func remove(_ sql: String, _ horizon: Int64) async throws -> Int {
    try await write { db in
      try db.run(sql, [horizon])
      return db.changesCount
    }
  }

  /// Files go before their records, so that a crash between leaves none behind.
  private func removeUploads(_ horizon: Int64) async throws -> Int {
    let old = try await read { db in
      try db.rows(Self.sqlOldUploads, [horizon]).map { (id: $0["id"] as Int64, path: $0["stored_path"] as String) }
    }
    for upload in old { uploadFiles.discard(upload.path) }
    return try await write { db in
      for upload in old {
        try db.run("DELETE FROM uploads WHERE id = ? AND stored_at < ?", [upload.id, horizon])
      }
      return old.count
    }
  }

  private func removeFlows(_ horizon: Int64) async throws -> (flows: Int, records: Int) {
    let old = try await read { db in
      try db.rows(Self.sqlEndedFlows, [horizon]).map { row -> (Int64, [String]) in
        let key: Int64 = row["id"]
        return (key, try db.rows(Self.sqlUploadsOfFlow, [key]).map { $0["stored_path"] })
      }
    }
    for path in old.flatMap(\.1) { uploadFiles.discard(path) }
    return try await write { db in
      var records = 0
      var flows = 0
      for (key, _) in old {
        // It may have been added to meanwhile.
        guard let ended = try db.number("SELECT ended_at FROM flows WHERE id = ?", [key]), ended < horizon else {
          continue
        }
        guard try FlowPurge.run(key, db, records: &records) else { break }
        flows += 1
      }
      return (flows, records)
    }
  }
}

/// The statements that remove one flow, children first.
enum FlowPurge {
  /// Records of one step.
  static let most = 500
  static let statements = [
    """
    DELETE FROM row_chunks WHERE id IN (
      SELECT row_chunks.id FROM result_sets JOIN row_chunks ON row_chunks.result_set = result_sets.id
      WHERE result_sets.flow = ? LIMIT 200)
    """,
    "DELETE FROM result_sets WHERE id IN (SELECT id FROM result_sets WHERE flow = ? LIMIT 200)",
    "DELETE FROM log_chunks WHERE id IN (SELECT id FROM log_chunks WHERE flow = ? LIMIT 200)",
    "DELETE FROM uploads WHERE id IN (SELECT id FROM uploads WHERE flow = ? LIMIT 200)",
    "DELETE FROM upload_transactions WHERE id IN (SELECT id FROM upload_transactions WHERE flow = ? LIMIT 200)",
    "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE flow = ? LIMIT 200)",
    "DELETE FROM flows WHERE id = ?",
  ]

  /// - Parameter records: how many were removed in this step; grows to about `most`.
  /// - Returns: whether the flow is gone.
  static func run(_ flow: Int64, _ db: Database, records: inout Int) throws -> Bool {
    for statement in statements {
      repeat {
        guard records < most else { return false }
        try db.run(statement, [flow])
        records += db.changesCount
      } while db.changesCount == 200
    }
    return true
  }
}
