import Foundation
import GRDB
import PublicIdentity
import Wire

/// What operators want of many clients, and giving it to each (server.md §4, §6).
extension SQLiteStore {
  static let sqlStanding = """
    SELECT clients.id AS id, labels_changed_at, interrogation_flow IS NOT NULL AS interrogated, event_table_version,
      hunt_timestamp, reported_table_version
    FROM clients LEFT JOIN contacts ON contacts.client = clients.id WHERE clients.org = ? AND clients.client = ?
    """
  static let sqlInterrogated = "UPDATE clients SET interrogation_flow = ? WHERE id = ?"
  static let sqlTableGiven = "UPDATE clients SET event_table_version = ? WHERE id = ?"
  static let sqlHuntsSeen = "UPDATE clients SET hunt_timestamp = ? WHERE id = ?"
  /// A younger table makes those that wait void.
  static let sqlVoidTables = "UPDATE tasks SET state = 5, ended_at = ? WHERE client = ? AND kind = 2 AND state < 3"
  /// Takes a place in a hunt; none is free when it is over, full, or the client is in it.
  static let sqlJoin = """
    UPDATE hunts SET scheduled = scheduled + 1,
      state = CASE WHEN client_limit > 0 AND scheduled + 1 >= client_limit THEN 2 ELSE state END
    WHERE id = ?1 AND state = 0 AND (client_limit = 0 OR scheduled < client_limit)
      AND NOT EXISTS (SELECT 1 FROM hunt_clients WHERE hunt = ?1 AND client = ?2)
    """
  static let sqlMember = "INSERT INTO hunt_clients (hunt, client, flow) VALUES (?, ?, ?)"
  static let sqlTables = "SELECT org, label, changed_at, setting FROM event_tables"
  static let sqlRunningHunts = """
    SELECT id, hunt, org, started_at, expires_at, label, system, request FROM hunts WHERE state = 0 AND expires_at > ?
    """

  package func foremanOrders(now: Timestamp) async throws -> ForemanOrders {
    try await read { db in
      let tables = try db.rows(Self.sqlTables).compactMap(Self.setting)
      let hunts = try db.rows(Self.sqlRunningHunts, [now.microseconds]).compactMap { row -> HuntOrder? in
        guard let id = HuntID(row["hunt"]) else { return nil }
        return HuntOrder(
          key: row["id"], id: id, org: row["org"], startedAt: Timestamp(microseconds: row["started_at"]),
          expiresAt: Timestamp(microseconds: row["expires_at"]), label: row["label"], system: row["system"],
          request: row.bytes("request"))
      }
      return ForemanOrders(tables: tables, hunts: hunts)
    }
  }

  private static func setting(_ row: Row) -> EventTableSetting? {
    StoredEventTable.setting(
      row["setting"], org: row["org"], label: row["label"], at: Timestamp(microseconds: row["changed_at"]))
  }

  package func setEventTable(_ setting: EventTableSetting, by: Operator) async throws {
    try setting.check()
    let stored = try JSONEncoder().encode(StoredEventTable(setting, by: by))
    try await write(bytes: stored.count) { db in
      let now = Timestamp.now()
      // After every table that a client was given, whatever the clocks say.
      let given = try db.number("SELECT max(event_table_version) FROM clients WHERE org = ?", [setting.org]) ?? 0
      let changed = try db.number("SELECT max(changed_at) FROM event_tables WHERE org = ?", [setting.org]) ?? 0
      let at = max(now.microseconds, changed + 1, given / 1_000 + 1)
      try db.run(
        "INSERT OR REPLACE INTO event_tables (org, label, changed_at, setting) VALUES (?, ?, ?, ?)",
        [setting.org, setting.label, at, stored])
      try db.announce(.foremanChanged(org: setting.org), at: now)
      try db.record("events", on: nil, detail: setting.auditDetail, by: by, at: now)
    }
    await poller.announced()
  }

  package func eventTables(org: String) async throws -> [EventTableSetting] {
    try await read { db in
      try db.rows(Self.sqlTables + " WHERE org = ? ORDER BY label", [org]).compactMap(Self.setting)
    }
  }

  // MARK: one client

  /// Queues what is due to the client.
  static func give(
    _ due: ForemanDue, to client: ClientName, _ key: Int64, _ foreman: Foreman, _ db: Database, now: Timestamp
  ) throws {
    if due.interrogates {
      let flow = FlowID.make(at: now)
      try insert(try PreparedTask(Interrogation.task(for: client, flow: flow)), db, by: .system, at: now)
      try db.run(sqlInterrogated, [flow.text, key])
    }
    if due.needsTraits {
      let facts = try db.row("SELECT facts FROM clients WHERE id = ?", [key])?["facts"] as Data?
      let system = facts.flatMap { try? JSONDecoder().decode(HostFacts.self, from: $0) }?.system ?? ""
      let traits = ClientTraits(labels: try db.rows(sqlLabels, [key]).map { $0["label"] }, system: system)
      for hunt in due.hunts where hunt.isFor(traits) { try join(hunt, client, key, db, now: now) }
      if let version = due.tableVersion {
        try db.run(sqlVoidTables, [now.microseconds, key])
        var random = SystemRandomNumberGenerator()
        let message = EventTableSetting.message(
          due.tables, for: traits, version: version, options: foreman.tables, using: &random)
        try insert(try PreparedTask(NewTask(client: client, message: message)), db, by: .system, at: now)
        try db.run(sqlTableGiven, [version, key])
      }
    }
    if let seen = due.huntsSeen { try db.run(sqlHuntsSeen, [seen.microseconds, key]) }
  }

  private static func join(
    _ hunt: HuntOrder, _ client: ClientName, _ key: Int64, _ db: Database, now: Timestamp
  ) throws {
    try db.run(sqlJoin, [hunt.key, key])
    guard db.changesCount > 0 else { return }
    let flow = FlowID.makeForHunt(at: now)
    try insert(try PreparedTask(hunt.task(for: client, flow: flow)), db, by: .hunt(hunt.id), at: now)
    try db.run(sqlMember, [hunt.key, key, try db.number(sqlFlowKey, [key, flow.text])])
  }
}

extension Database {
  /// The client's key and what it was given so far; nil when it is unknown.
  func standing(of client: ClientName) throws -> (key: Int64, ClientStanding)? {
    guard let row = try row(SQLiteStore.sqlStanding, [client.org, client.id.rawValue]) else { return nil }
    var standing = ClientStanding()
    standing.labelsChanged = Timestamp(microseconds: row["labels_changed_at"])
    standing.isInterrogated = row["interrogated"]
    standing.tableGiven = row["event_table_version"]
    standing.tableReported = row["reported_table_version"] ?? 0
    standing.huntsSeen = Timestamp(microseconds: row["hunt_timestamp"])
    return (row["id"], standing)
  }
}
