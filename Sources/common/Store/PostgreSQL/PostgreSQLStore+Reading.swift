import Foundation
import PublicIdentity

extension PostgreSQLStore {
  private static let flowColumns = """
    SELECT flow, state, error, created_at, creator, request, stats, totals, heard_at, ended_at FROM flows
    """
  static let sqlFlows =
    flowColumns + """
       WHERE client = $1::bigint AND flow <> 'F.Monitoring' ORDER BY created_at DESC, id DESC LIMIT $2::bigint
      """
  static let sqlFlow = flowColumns + " WHERE client = $1::bigint AND flow = $2::text"
  static let sqlFlowKey = """
    SELECT f.id FROM clients c JOIN flows f ON f.client = c.id
    WHERE c.org = $1::text AND c.client = $2::text AND f.flow = $3::text
    """
  static let sqlSources = "SELECT name, row_count, bytes FROM result_sets WHERE flow = $1::bigint ORDER BY id"
  /// The chunk that begins at or before the first row may reach beyond it.
  private static let resultSet = "(SELECT id FROM result_sets WHERE flow = $1::bigint AND name = $2::text)"
  static let sqlChunks = """
    SELECT first_row, jsonl FROM row_chunks
    WHERE result_set = \(resultSet) AND first_row > $4::bigint AND first_row >= coalesce((
      SELECT max(first_row) FROM row_chunks WHERE result_set = \(resultSet) AND first_row <= $3::bigint), $3::bigint)
    ORDER BY first_row LIMIT $5::bigint
    """
  static let sqlLogs = """
    SELECT id, first_id, jsonl FROM log_chunks WHERE flow = $1::bigint AND id > $2::bigint ORDER BY id LIMIT $3::bigint
    """
  static let sqlUploads = """
    SELECT number, stored_path, accessor, client_path, size, stored_size, complete, sparse_index
    FROM uploads WHERE flow = $1::bigint ORDER BY number, stored_path
    """
  static let sqlAuditTrail = """
    SELECT at, who, origin, action, client, detail FROM audit ORDER BY id DESC LIMIT $1::bigint
    """

  package func flows(of client: ClientName, limit: Int) async throws -> [FlowRecord] {
    guard let key = try await key(of: client) else { return [] }
    return try await rows(Self.sqlFlows, [.int(key), .int(Int64(max(0, limit)))])
      .compactMap { Self.flow($0, of: client) }
  }

  package func flow(_ name: FlowName) async throws -> FlowRecord? {
    guard let key = try await key(of: name.client) else { return nil }
    return try await rows(Self.sqlFlow, [.int(key), .text(name.flow.text)]).first
      .flatMap { Self.flow($0, of: name.client) }
  }

  private static func flow(_ row: PGRow, of client: ClientName) -> FlowRecord? {
    guard let id = FlowID(row.text(0)) else { return nil }
    let totals = row.optionalData(7).flatMap { try? JSONDecoder().decode(FlowTotals.self, from: $0) }
    return FlowRecord(
      name: FlowName(client: client, flow: id), state: FlowState(rawValue: row.int(1)) ?? .waiting,
      errorText: row.text(2), createdAt: row.time(3), creator: row.text(4), lastHeard: row.optionalTime(8),
      endedAt: row.optionalTime(9), totals: totals ?? FlowTotals(), request: row.bytes(5), stats: row.bytes(6))
  }

  func flowKey(_ name: FlowName) async throws -> Int64? {
    let values: [PGValue] = [.text(name.client.org), .text(name.client.id.rawValue), .text(name.flow.text)]
    return try await rows(Self.sqlFlowKey, values).first?.int(0)
  }

  package func sources(of flow: FlowName) async throws -> [ResultSource] {
    guard let key = try await flowKey(flow) else { return [] }
    return try await rows(Self.sqlSources, [.int(key)]).map {
      ResultSource(name: $0.text(0), rows: $0.int(1), bytes: $0.int(2))
    }
  }

  package func rows(of flow: FlowName, source: String, from: Int64, limit: Int) async throws -> [StoredRow] {
    guard let key = try await flowKey(flow), limit > 0 else { return [] }
    var result: [StoredRow] = []
    var last: Int64 = -1
    while result.count < limit {
      // Some chunks at a time: a chunk holds one row or a million.
      let chunks = try await rows(
        Self.sqlChunks, [.int(key), .text(source.withoutNUL), .int(from), .int(last), .int(Self.chunksPerQuery)])
      for chunk in chunks {
        last = chunk.int(0)
        var index = last
        for line in JSONLines.split(chunk.bytes(1)) where result.count < limit {
          if index >= from { result.append(StoredRow(index: index, json: String(decoding: line, as: UTF8.self))) }
          index += 1
        }
      }
      if chunks.count < Self.chunksPerQuery { break }
    }
    return result
  }

  private static let chunksPerQuery: Int64 = 64

  package func logs(of flow: FlowName, after cursor: Int64, limit: Int) async throws -> [LogChunk] {
    guard let key = try await flowKey(flow) else { return [] }
    return try await rows(Self.sqlLogs, [.int(key), .int(cursor), .int(Int64(max(0, limit)))]).map {
      LogChunk(cursor: $0.int(0), firstID: $0.int(1), jsonl: $0.text(2))
    }
  }

  package func monitoring(
    org: String, artifact: String, client: ClientName?, after cursor: Int64, limit: Int
  ) async throws -> [MonitoringChunk] {
    let name: [PGValue] = [.text(org.withoutNUL), .text(artifact.withoutNUL)]
    guard let number = try await rows(PGMonitoring.sqlArtifact, name).first?.int(0) else { return [] }
    var values: [PGValue] = [.int(number), .int(cursor), .int(Int64(max(0, limit)))]
    if let client {
      guard let key = try await key(of: client) else { return [] }
      values.append(.int(key))
    }
    let statement = PGStatement(client == nil ? PGMonitoring.sqlAll : PGMonitoring.sqlOfClient, values)
    // A transaction that still runs holds younger rows back; most end at once.
    for attempt in 0... {
      let answers = try await self.client.query([PGStatement(PGMonitoring.sqlBound), statement])
      let bound = answers.first?.first?.int(0) ?? 0
      let found = answers.last?.rows ?? []
      let safe = found.prefix { $0.int(0) < bound }
      guard safe.isEmpty, !found.isEmpty, attempt < 20 else {
        return safe.compactMap { row in
          ClientName(org: row.text(1), stored: row.text(2)).map {
            MonitoringChunk(cursor: row.int(0), client: $0, receivedAt: row.time(3), jsonl: row.text(4))
          }
        }
      }
      try? await Task.sleep(for: .milliseconds(5))
    }
    return []
  }

  package func monitoringEnd() async throws -> Int64 {
    let bound = try await rows(PGMonitoring.sqlBound).first?.int(0) ?? 0
    return try await rows(PGMonitoring.sqlEnd, [.int(bound)]).first?.int(0) ?? 0
  }

  package func uploads(of flow: FlowName) async throws -> [UploadRecord] {
    guard let key = try await flowKey(flow) else { return [] }
    return try await rows(Self.sqlUploads, [.int(key)]).map {
      UploadRecord(
        number: $0.int(0), accessor: $0.text(2), clientPath: $0.text(3), storedPath: $0.text(1), size: $0.int(4),
        storedSize: $0.int(5), complete: $0.bool(6), index: $0.bytes(7))
    }
  }

  package func audit(limit: Int) async throws -> [AuditRecord] {
    try await rows(Self.sqlAuditTrail, [.int(Int64(max(0, limit)))]).map {
      AuditRecord(
        at: $0.time(0), by: Operator(name: $0.text(1), origin: $0.text(2)), action: $0.text(3), client: $0.text(4),
        detail: $0.text(5))
    }
  }
}
