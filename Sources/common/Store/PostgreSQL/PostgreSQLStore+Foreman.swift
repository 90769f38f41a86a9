import Foundation
import PublicIdentity
import Wire

/// What operators want of many clients, and giving it to each (server.md §4, §6).
extension PostgreSQLStore {
  static let sqlStanding = """
    SELECT c.labels_changed_at, c.interrogation_flow IS NOT NULL, c.event_table_version, c.hunt_timestamp,
      t.reported_table_version
    FROM clients c JOIN contacts t ON t.client = c.id WHERE c.id = $1::bigint
    """
  static let sqlInterrogated = "UPDATE clients SET interrogation_flow = $2::text WHERE id = $1::bigint"
  static let sqlTableGiven = "UPDATE clients SET event_table_version = $2::bigint WHERE id = $1::bigint"
  static let sqlHuntsSeen = "UPDATE clients SET hunt_timestamp = $2::bigint WHERE id = $1::bigint"
  static let sqlTraits = """
    SELECT c.facts, ARRAY(SELECT l.label FROM labels l WHERE l.client = c.id) FROM clients c WHERE c.id = $1::bigint
    """
  /// A younger table makes those that wait void.
  static let sqlVoidTables = """
    UPDATE tasks SET state = 5, ended_at = $2::bigint WHERE client = $1::bigint AND kind = 2 AND state < 3
    """
  /// Takes a place in a hunt; none is free when it is over, full, or the client is in it.
  static let sqlJoin = """
    UPDATE hunts SET scheduled = scheduled + 1,
      state = CASE WHEN client_limit > 0 AND scheduled + 1 >= client_limit THEN 2 ELSE state END
    WHERE id = $1::bigint AND state = 0 AND (client_limit = 0 OR scheduled < client_limit)
      AND NOT EXISTS (SELECT 1 FROM hunt_clients h WHERE h.hunt = $1::bigint AND h.client = $2::bigint)
    RETURNING id
    """
  static let sqlMember = """
    INSERT INTO hunt_clients (hunt, client, flow)
    SELECT $1::bigint, f.client, f.id FROM flows f WHERE f.client = $2::bigint AND f.flow = $3::text
    """
  static let sqlTables = "SELECT org, label, changed_at, setting FROM event_tables"
  static let sqlRunningHunts = """
    SELECT id, hunt, org, started_at, expires_at, label, system, request FROM hunts
    WHERE state = 0 AND expires_at > $1::bigint
    """
  static let sqlSetTable = """
    INSERT INTO event_tables (org, label, changed_at, setting)
    SELECT $1::text, $2::text, greatest($3::bigint,
      (SELECT max(changed_at) + 1 FROM event_tables WHERE org = $1::text),
      (SELECT max(event_table_version) / 1000 + 1 FROM clients WHERE org = $1::text)), $4::bytea
    ON CONFLICT (org, lower(label)) DO UPDATE SET
      label = excluded.label, changed_at = excluded.changed_at, setting = excluded.setting
    """

  package func foremanOrders(now: Timestamp) async throws -> ForemanOrders {
    let answers = try await client.query([PGStatement(Self.sqlTables), PGStatement(Self.sqlRunningHunts, [.time(now)])])
    let tables = answers.first?.rows.compactMap(Self.setting) ?? []
    let hunts = answers.last?.rows.compactMap { row -> HuntOrder? in
      guard let id = HuntID(row.text(1)) else { return nil }
      return HuntOrder(
        key: row.int(0), id: id, org: row.text(2), startedAt: row.time(3), expiresAt: row.time(4), label: row.text(5),
        system: row.text(6), request: row.bytes(7))
    }
    return ForemanOrders(tables: tables, hunts: hunts ?? [])
  }

  private static func setting(_ row: PGRow) -> EventTableSetting? {
    StoredEventTable.setting(Data(row.bytes(3)), org: row.text(0), label: row.text(1), at: row.time(2))
  }

  package func setEventTable(_ setting: EventTableSetting, by: Operator) async throws {
    try setting.check()
    let stored = try JSONEncoder().encode(StoredEventTable(setting, by: by))
    try await client.transact { transaction in
      let now = Timestamp.now()
      // One at a time, so that the later one is also the younger.
      transaction.write("LOCK TABLE event_tables IN SHARE ROW EXCLUSIVE MODE")
      transaction.write(Self.sqlSetTable, [.text(setting.org), .text(setting.label), .time(now), .bytes(stored)])
      transaction.announce([.foremanChanged(org: setting.org)], at: now)
      transaction.record("events", on: nil, detail: setting.auditDetail, by: by, at: now)
    }
  }

  package func eventTables(org: String) async throws -> [EventTableSetting] {
    try await rows(Self.sqlTables + " WHERE org = $1::text ORDER BY lower(label)", [.text(org)]).compactMap(
      Self.setting)
  }

  // MARK: one client

  /// The columns from `first` on, as `sqlStanding` has them.
  static func standing(_ row: PGRow, from first: Int32 = 0) -> ClientStanding {
    var standing = ClientStanding()
    standing.labelsChanged = row.time(first)
    standing.isInterrogated = row.bool(first + 1)
    standing.tableGiven = row.int(first + 2)
    standing.huntsSeen = row.time(first + 3)
    standing.tableReported = row.int(first + 4)
    return standing
  }

  /// Queues what is due to the client.
  static func give(
    _ foreman: Foreman, _ look: ForemanDue, to client: ClientName, _ key: Int64, _ transaction: inout PGTransaction,
    now: Timestamp
  ) async throws {
    guard let row = try await transaction.read(sqlStanding, [.int(key)]).first else { return }
    let due = foreman.confirm(look, standing(row), for: client, now: now)
    if due.interrogates {
      let flow = FlowID.make(at: now)
      let task = try PreparedTask(forPostgreSQL: Interrogation.task(for: client, flow: flow))
      _ = try await insert([task], [client: key], &transaction, by: .system, at: now)
      transaction.write(sqlInterrogated, [.int(key), .text(flow.text)])
    }
    if due.needsTraits, let row = try await transaction.read(sqlTraits, [.int(key)]).first {
      let facts = row.optionalData(0).flatMap { try? JSONDecoder().decode(HostFacts.self, from: $0) }
      let traits = ClientTraits(labels: row.texts(1), system: facts?.system ?? "")
      // Always in the order of their numbers: others who join the same hunts wait and never block each other.
      for hunt in due.hunts.sorted(by: { $0.key < $1.key }) where hunt.isFor(traits) {
        try await join(hunt, client, key, &transaction, now: now)
      }
      if let version = due.tableVersion {
        transaction.write(sqlVoidTables, [.int(key), .time(now)])
        var random = SystemRandomNumberGenerator()
        let message = EventTableSetting.message(
          due.tables, for: traits, version: version, options: foreman.tables, using: &random)
        let task = try PreparedTask(forPostgreSQL: NewTask(client: client, message: message))
        _ = try await insert([task], [client: key], &transaction, by: .system, at: now)
        transaction.write(sqlTableGiven, [.int(key), .int(version)])
      }
    }
    if let seen = due.huntsSeen { transaction.write(sqlHuntsSeen, [.int(key), .time(seen)]) }
  }

  private static func join(
    _ hunt: HuntOrder, _ client: ClientName, _ key: Int64, _ transaction: inout PGTransaction, now: Timestamp
  ) async throws {
    guard try await transaction.change(sqlJoin, [.int(hunt.key), .int(key)]).first != nil else { return }
    let flow = FlowID.makeForHunt(at: now)
    let task = try PreparedTask(forPostgreSQL: hunt.task(for: client, flow: flow))
    _ = try await insert([task], [client: key], &transaction, by: .hunt(hunt.id), at: now)
    transaction.write(sqlMember, [.int(hunt.key), .int(key), .text(flow.text)])
  }
}
