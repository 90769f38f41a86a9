import Foundation
import GRDB
import PublicIdentity

extension SQLiteStore {
  private static let flowColumns = """
    SELECT flow, flows.state AS state, error, created_at, creator, request, stats, totals, heard_at, ended_at FROM flows
    """
  static let sqlFlows =
    flowColumns + " WHERE client = ? AND flow <> 'F.Monitoring' ORDER BY created_at DESC, flows.id DESC LIMIT ?"
  static let sqlFlow = flowColumns + " WHERE client = ? AND flow = ?"
  static let sqlSources = "SELECT id, name, row_count, bytes FROM result_sets WHERE flow = ?"
  static let sqlChunkBefore = """
    SELECT max(first_row) FROM row_chunks WHERE result_set = ? AND first_row <= ?
    """
  static let sqlChunks = """
    SELECT first_row, jsonl FROM row_chunks WHERE result_set = ? AND first_row >= ? ORDER BY first_row
    """
  static let sqlLogs = """
    SELECT id, first_id, jsonl FROM log_chunks WHERE flow = ? AND id > ? ORDER BY id LIMIT ?
    """
  private static let monitoringColumns = """
    SELECT monitoring_chunks.id AS id, monitoring_chunks.received_at AS at, monitoring_chunks.jsonl AS jsonl,
      clients.org AS org, clients.client AS client
    FROM monitoring_chunks JOIN clients ON clients.id = monitoring_chunks.client
    """
  static let sqlMonitoring =
    monitoringColumns + """
       WHERE artifact = ? AND kind = 0 AND monitoring_chunks.id > ? ORDER BY monitoring_chunks.id LIMIT ?
      """
  static let sqlClientMonitoring =
    monitoringColumns + """
       WHERE monitoring_chunks.client = ? AND artifact = ? AND kind = 0 AND monitoring_chunks.id > ?
      ORDER BY monitoring_chunks.id LIMIT ?
      """
  static let sqlUploads = """
    SELECT number, stored_path, accessor, client_path, size, stored_size, complete, sparse_index
    FROM uploads WHERE flow = ? ORDER BY number, stored_path
    """

  package func flows(of client: ClientName, limit: Int) async throws -> [FlowRecord] {
    try await read { db in
      guard let key = try db.key(of: client) else { return [] }
      return try db.rows(Self.sqlFlows, [key, limit]).compactMap { Self.flow($0, of: client) }
    }
  }

  package func flow(_ name: FlowName) async throws -> FlowRecord? {
    try await read { db in
      guard let key = try db.key(of: name.client) else { return nil }
      return try db.row(Self.sqlFlow, [key, name.flow.text]).flatMap { Self.flow($0, of: name.client) }
    }
  }

  private static func flow(_ row: Row, of client: ClientName) -> FlowRecord? {
    guard let id = FlowID(row["flow"]) else { return nil }
    let totals = (row["totals"] as Data?).flatMap { try? JSONDecoder().decode(FlowTotals.self, from: $0) }
    return FlowRecord(
      name: FlowName(client: client, flow: id), state: FlowState(rawValue: row["state"]) ?? .waiting,
      errorText: row.agentText("error"), createdAt: Timestamp(microseconds: row["created_at"]),
      creator: row["creator"], lastHeard: row.timestamp("heard_at"), endedAt: row.timestamp("ended_at"),
      totals: totals ?? FlowTotals(), request: row.bytes("request"), stats: row.bytes("stats"))
  }

  /// Reads something of a flow that exists; nil when it does not.
  private func readFlow<Value: Sendable>(
    _ name: FlowName, _ body: @escaping @Sendable (Database, Int64) throws -> Value
  ) async throws -> Value? {
    try await read { db in
      guard let client = try db.key(of: name.client),
        let flow = try db.number(Self.sqlFlowKey, [client, name.flow.text])
      else { return nil }
      return try body(db, flow)
    }
  }

  package func sources(of flow: FlowName) async throws -> [ResultSource] {
    try await readFlow(flow) { db, key in
      // In the order in which they appeared.
      try db.rows(Self.sqlSources, [key]).sorted { ($0["id"] as Int64) < ($1["id"] as Int64) }.map {
        ResultSource(name: $0["name"], rows: $0["row_count"], bytes: $0["bytes"])
      }
    } ?? []
  }

  package func rows(of flow: FlowName, source: String, from: Int64, limit: Int) async throws -> [StoredRow] {
    try await readFlow(flow) { db, key in
      guard let set = try db.number("SELECT id FROM result_sets WHERE flow = ? AND name = ?", [key, source]) else {
        return []
      }
      // The chunk that begins at or before `from` may reach beyond it.
      let first = try db.number(Self.sqlChunkBefore, [set, from]) ?? from
      let chunks = try Row.fetchCursor(db.cachedStatement(sql: Self.sqlChunks), arguments: [set, first])
      var rows: [StoredRow] = []
      while rows.count < limit, let chunk = try chunks.next() {
        var index: Int64 = chunk["first_row"]
        for line in JSONLines.split(chunk.bytes("jsonl")) where rows.count < limit {
          if index >= from { rows.append(StoredRow(index: index, json: String(decoding: line, as: UTF8.self))) }
          index += 1
        }
      }
      return rows
    } ?? []
  }

  package func logs(of flow: FlowName, after cursor: Int64, limit: Int) async throws -> [LogChunk] {
    try await readFlow(flow) { db, key in
      try db.rows(Self.sqlLogs, [key, cursor, limit]).map {
        LogChunk(cursor: $0["id"], firstID: $0["first_id"], jsonl: $0.agentText("jsonl"))
      }
    } ?? []
  }

  package func monitoring(
    org: String, artifact: String, client: ClientName?, after cursor: Int64, limit: Int
  ) async throws -> [MonitoringChunk] {
    try await read { db in
      guard let key = try db.number(Database.sqlArtifact, [org, artifact]) else { return [] }
      let rows: [Row]
      if let client {
        guard let clientKey = try db.key(of: client) else { return [] }
        rows = try db.rows(Self.sqlClientMonitoring, [clientKey, key, cursor, limit])
      } else {
        rows = try db.rows(Self.sqlMonitoring, [key, cursor, limit])
      }
      return rows.compactMap { row in
        guard let name = ClientName(org: row["org"], stored: row["client"]) else { return nil }
        return MonitoringChunk(
          cursor: row["id"], client: name, receivedAt: Timestamp(microseconds: row["at"]),
          jsonl: row.agentText("jsonl"))
      }
    }
  }

  package func monitoringEnd() async throws -> Int64 {
    try await read { try $0.number("SELECT max(id) FROM monitoring_chunks") ?? 0 }
  }

  package func uploads(of flow: FlowName) async throws -> [UploadRecord] {
    try await readFlow(flow) { db, key in
      try db.rows(Self.sqlUploads, [key]).map {
        UploadRecord(
          number: $0["number"], accessor: $0.agentText("accessor"), clientPath: $0.agentText("client_path"),
          storedPath: $0["stored_path"], size: $0["size"], storedSize: $0["stored_size"], complete: $0["complete"],
          index: $0.bytes("sparse_index"))
      }
    } ?? []
  }

  /// Where the upload's file lies on this machine.
  func uploadPath(_ upload: UploadRecord) -> String { uploadFiles.absolute(upload.storedPath) }

  package func uploadContent(
    of flow: FlowName, _ upload: UploadRecord, from offset: Int64, limit: Int
  ) async throws -> [UInt8] {
    let end = min(upload.storedSize, offset.addingClamped(Int64(max(0, limit))))
    guard offset >= 0, offset < end else { return [] }
    return try await uploadFiles.read(upload.storedPath, offset..<end)
  }

  package func audit(limit: Int) async throws -> [AuditRecord] {
    try await read { db in
      try db.rows("SELECT at, who, origin, action, client, detail FROM audit ORDER BY id DESC LIMIT ?", [limit]).map {
        AuditRecord(
          at: Timestamp(microseconds: $0["at"]), by: Operator(name: $0["who"], origin: $0["origin"]),
          action: $0["action"], client: $0["client"], detail: $0["detail"])
      }
    }
  }
}
