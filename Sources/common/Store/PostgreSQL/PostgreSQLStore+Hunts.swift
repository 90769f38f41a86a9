import Foundation
import PublicIdentity
import Wire

extension PostgreSQLStore {
  private static let huntColumns = """
    SELECT id, hunt, org, title, creator, started_at, expires_at, client_limit, label, system, state, request FROM hunts
    """
  static let sqlHunts = huntColumns + " WHERE org = $1::text ORDER BY started_at DESC LIMIT $2::bigint"
  static let sqlHunt = huntColumns + " WHERE org = $1::text AND hunt = $2::text"
  static let sqlNewHunt = """
    INSERT INTO hunts (org, hunt, title, creator, started_at, expires_at, client_limit, label, system, request)
    SELECT $1::text, $2::text, $3::text, $4::text,
      greatest($5::bigint, (SELECT max(started_at) + 1 FROM hunts WHERE org = $1::text)),
      $6::bigint, $7::bigint, $8::text, $9::text, $10::bytea
    """
  static let sqlHuntProgress = """
    SELECT f.state, count(*) FROM hunt_clients h LEFT JOIN flows f ON f.id = h.flow WHERE h.hunt = $1::bigint
    GROUP BY f.state
    """
  static let sqlHuntRows = """
    SELECT coalesce(sum(r.row_count), 0)::bigint FROM hunt_clients h JOIN result_sets r ON r.flow = h.flow
    WHERE h.hunt = $1::bigint
    """
  static let sqlMembers = """
    SELECT h.client, c.client, c.hostname, f.flow, f.state, f.error
    FROM hunts k JOIN hunt_clients h ON h.hunt = k.id JOIN clients c ON c.id = h.client JOIN flows f ON f.id = h.flow
    WHERE k.org = $1::text AND k.hunt = $2::text AND h.client > $3::bigint ORDER BY h.client LIMIT $4::bigint
    """
  static let sqlStopHunt = """
    UPDATE hunts SET state = 1 WHERE org = $1::text AND hunt = $2::text RETURNING id
    """
  static let sqlHuntWaiting = """
    SELECT h.client FROM hunt_clients h JOIN tasks t ON t.flow = h.flow
    WHERE h.hunt = $1::bigint AND t.kind = 0 AND t.state = 0 ORDER BY h.client
    """
  /// Those that still wait once the locks of their clients are held.
  static let sqlWithdrawHunt = """
    UPDATE tasks SET state = 5, ended_at = $2::bigint
    WHERE kind = 0 AND state = 0 AND flow IN (SELECT flow FROM hunt_clients WHERE hunt = $1::bigint)
    RETURNING flow
    """
  static let sqlWithdrawFlows = """
    UPDATE flows SET state = 4, ended_at = $2::bigint WHERE id = ANY ($1::bigint[])
    """

  package func createHunt(_ hunt: NewHunt, by: Operator) async throws -> HuntID {
    let request = try hunt.serializedRequest()
    return try await client.transact { transaction in
      let now = Timestamp.now()
      let id = HuntID.make(at: now)
      // Clients remember up to which start they were considered: it only grows, in the order of the commits.
      transaction.write("LOCK TABLE hunts IN SHARE ROW EXCLUSIVE MODE")
      transaction.write(
        Self.sqlNewHunt,
        [
          .text(hunt.org), .text(id.text), .text(hunt.title), .text(by.name.withoutNUL), .time(now),
          .time(hunt.expiresAt), .int(hunt.limit), .text(hunt.label), .text(hunt.system), .bytes(request),
        ])
      transaction.announce([.foremanChanged(org: hunt.org)], at: now)
      transaction.record("hunt", on: nil, detail: "\(id) \(hunt.title)", by: by, at: now)
      return id
    }
  }

  package func hunts(org: String, limit: Int) async throws -> [HuntRecord] {
    try await records(Self.sqlHunts, [.text(org), .int(Int64(max(0, limit)))])
  }

  package func hunt(_ id: HuntID, org: String) async throws -> HuntRecord? {
    try await records(Self.sqlHunt, [.text(org), .text(id.text)]).first
  }

  private func records(_ sql: String, _ values: [PGValue]) async throws -> [HuntRecord] {
    var records: [HuntRecord] = []
    for row in try await rows(sql, values) {
      guard let id = HuntID(row.text(1)) else { continue }
      var record = HuntRecord(
        id: id, org: row.text(2), title: row.text(3), creator: row.text(4), startedAt: row.time(5),
        expiresAt: row.time(6), limit: row.int(7), label: row.text(8), system: row.text(9),
        state: HuntState(rawValue: row.int(10)) ?? .stopped, request: row.bytes(11))
      let key: [PGValue] = [.int(row.int(0))]
      let counts = try await client.query([PGStatement(Self.sqlHuntProgress, key), PGStatement(Self.sqlHuntRows, key)])
      for state in counts.first?.rows ?? [] {
        record.progress.add(state.optionalInt(0).flatMap(FlowState.init), state.int(1))
      }
      record.progress.rows = counts.last?.first?.int(0) ?? 0
      records.append(record)
    }
    return records
  }

  package func members(of hunt: HuntID, org: String, after cursor: Int64, limit: Int) async throws -> [HuntMember] {
    try await rows(
      Self.sqlMembers, [.text(org), .text(hunt.text), .int(cursor), .int(Int64(max(0, limit)))]
    ).compactMap { row in
      guard let client = ClientName(org: org, stored: row.text(1)), let flow = FlowID(row.text(3)) else { return nil }
      return HuntMember(
        cursor: row.int(0), client: client, hostname: row.text(2), flow: flow,
        state: FlowState(rawValue: row.int(4)) ?? .waiting,
        errorText: row.optionalData(5).map { String(decoding: $0, as: UTF8.self) } ?? "")
    }
  }

  package func stopHunt(_ id: HuntID, org: String, by: Operator) async throws {
    // First nobody joins any more; then what waits is withdrawn, with the clients locked before the hunt's row could
    // be wanted by those who hold them.
    let key = try await client.transact { transaction in
      let now = Timestamp.now()
      guard let key = try await transaction.change(Self.sqlStopHunt, [.text(org), .text(id.text)]).first?.int(0) else {
        throw StoreError(.notFound, "no hunt \(id)")
      }
      transaction.announce([.foremanChanged(org: org)], at: now)
      transaction.record("hunt stop", on: nil, detail: id.text, by: by, at: now)
      return key
    }
    try await client.transact { transaction in
      let now = Timestamp.now()
      let clients = try await transaction.read(Self.sqlHuntWaiting, [.int(key)]).rows.map { $0.int(0) }
      guard !clients.isEmpty else { return }
      _ = try await transaction.read(Self.sqlLockKeys, [.ints(clients)])
      let flows = try await transaction.change(Self.sqlWithdrawHunt, [.int(key), .time(now)]).rows.map { $0.int(0) }
      transaction.write(Self.sqlWithdrawFlows, [.ints(flows), .time(now)])
    }
  }
}
