import PublicIdentity

/// Removes what is older than `StoreOptions.retention`, in steps that other transactions hardly notice.
extension PostgreSQLStore {
  /// The oldest event rows of each artifact come first in its index.
  static let sqlOldestEvents = """
    SELECT a.id, k.kind FROM artifacts a CROSS JOIN generate_series(0, 1) AS k(kind) CROSS JOIN LATERAL (
      SELECT received_at FROM monitoring_chunks m WHERE m.artifact = a.id AND m.kind = k.kind ORDER BY m.id LIMIT 1
    ) oldest WHERE oldest.received_at < $1::bigint LIMIT 20
    """
  static let sqlOldMonitoring = """
    DELETE FROM monitoring_chunks WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM monitoring_chunks WHERE artifact = $2::bigint AND kind = $3::bigint ORDER BY id LIMIT 200))
      AND received_at < $1::bigint
    """
  static let sqlOldLogs = """
    DELETE FROM log_chunks WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM log_chunks WHERE stored_at < $1::bigint ORDER BY stored_at LIMIT 500))
    """
  static let sqlOldAudit = """
    DELETE FROM audit WHERE ctid = ANY (ARRAY(SELECT ctid FROM audit ORDER BY id LIMIT 500)) AND at < $1::bigint
    """
  static let sqlOldUploads = """
    SELECT u.id FROM (SELECT id, stored_at FROM uploads ORDER BY id LIMIT 20) u WHERE u.stored_at < $1::bigint
    """
  static let sqlPiecesOfUploads = """
    DELETE FROM upload_pieces WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM upload_pieces WHERE upload = ANY ($1::bigint[]) LIMIT 50))
    """
  static let sqlRemoveUploads = "DELETE FROM uploads WHERE id = ANY ($1::bigint[])"
  /// Those whose clients nobody works on just now.
  static let sqlEndedFlows = """
    SELECT f.id FROM flows f JOIN contacts c ON c.client = f.client
    WHERE f.ended_at IS NOT NULL AND f.ended_at < $1::bigint ORDER BY f.ended_at LIMIT 20
    FOR NO KEY UPDATE OF c SKIP LOCKED
    """
  static let sqlRemoveFlows = "DELETE FROM flows WHERE id = ANY ($1::bigint[])"

  /// What removes the records of flows, children first.
  static let flowPurge = [
    ofFlows("row_chunks", "result_sets r JOIN row_chunks x ON x.result_set = r.id WHERE r.flow", 200),
    ofFlows("result_sets", "result_sets x WHERE x.flow", 500),
    ofFlows("log_chunks", "log_chunks x WHERE x.flow", 500),
    ofFlows("upload_pieces", "uploads u JOIN upload_pieces x ON x.upload = u.id WHERE u.flow", 50),
    ofFlows("uploads", "uploads x WHERE x.flow", 500),
    ofFlows("upload_transactions", "upload_transactions x WHERE x.flow", 500),
    ofFlows("tasks", "tasks x WHERE x.flow", 500),
  ]

  private static func ofFlows(_ table: String, _ found: String, _ most: Int) -> String {
    """
    DELETE FROM \(table) WHERE ctid = ANY (ARRAY(SELECT x.ctid FROM \(found) = ANY ($1::bigint[]) LIMIT \(most)))
    """
  }

  /// One step of each kind that is due.
  func retain(now: Timestamp) async throws -> RetentionReport {
    let retention = options.retention
    func horizon(_ age: Duration?) -> PGValue? { retention.horizon(age, now: now).map(PGValue.int) }
    var report = RetentionReport()
    if let time = horizon(retention.monitoring) { report.monitoring = try await removeMonitoring(time) }
    if let time = horizon(retention.logs) { report.logs = try await remove(Self.sqlOldLogs, [time]) }
    if let time = horizon(retention.audit) { report.audit = try await removeAudit(time) }
    if let time = horizon(retention.uploads) {
      let (uploads, pieces) = try await removeUploads(time)
      report.uploads = uploads
      report.records += pieces
    }
    if let time = horizon(retention.flows) {
      let (flows, records) = try await removeFlows(time)
      report.flows = flows
      report.records += records
    }
    return report
  }

  private func remove(_ sql: String, _ values: [PGValue]) async throws -> Int {
    try await client.transact { try await $0.change(sql, values).changes }
  }

  private func removeAudit(_ time: PGValue) async throws -> Int {
    let due = try await rows(
      "SELECT 1 FROM (SELECT at FROM audit ORDER BY id LIMIT 1) a WHERE a.at < $1::bigint", [time])
    return due.isEmpty ? 0 : try await remove(Self.sqlOldAudit, [time])
  }

  private func removeMonitoring(_ time: PGValue) async throws -> Int {
    var removed = 0
    for row in try await rows(Self.sqlOldestEvents, [time]) {
      removed += try await remove(Self.sqlOldMonitoring, [time, .int(row.int(0)), .int(row.int(1))])
    }
    return removed
  }

  private func removeUploads(_ time: PGValue) async throws -> (uploads: Int, pieces: Int) {
    let old = try await rows(Self.sqlOldUploads, [time]).map { $0.int(0) }
    guard !old.isEmpty else { return (0, 0) }
    let pieces = try await remove(Self.sqlPiecesOfUploads, [.ints(old)])
    guard pieces == 0 else { return (0, pieces) }
    return (try await remove(Self.sqlRemoveUploads, [.ints(old)]), 0)
  }

  private func removeFlows(_ time: PGValue) async throws -> (flows: Int, records: Int) {
    try await client.transact { transaction in
      let old = try await transaction.read(Self.sqlEndedFlows, [time]).rows.map { $0.int(0) }
      guard !old.isEmpty else { return (0, 0) }
      let results = try await transaction.change(Self.flowPurge.map { PGStatement($0, [.ints(old)]) })
      let records = results.reduce(0) { $0 + $1.changes }
      // Children may be left: the flows go with a later step.
      guard records == 0 else { return (0, records) }
      return (try await transaction.change(Self.sqlRemoveFlows, [.ints(old)]).changes, 0)
    }
  }
}
