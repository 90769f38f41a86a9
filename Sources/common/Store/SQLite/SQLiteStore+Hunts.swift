import Foundation
import GRDB
import PublicIdentity
import Wire

extension SQLiteStore {
  private static let huntColumns = """
    SELECT id, hunt, org, title, creator, started_at, expires_at, client_limit, label, system, state, request FROM hunts
    """
  static let sqlHunts = huntColumns + " WHERE org = ? ORDER BY started_at DESC LIMIT ?"
  static let sqlHunt = huntColumns + " WHERE org = ? AND hunt = ?"
  static let sqlHuntProgress = """
    SELECT flows.state AS state, count(*) AS clients FROM hunt_clients LEFT JOIN flows ON flows.id = hunt_clients.flow
    WHERE hunt_clients.hunt = ? GROUP BY flows.state
    """
  static let sqlHuntRows = """
    SELECT sum(result_sets.row_count) FROM hunt_clients JOIN result_sets ON result_sets.flow = hunt_clients.flow
    WHERE hunt_clients.hunt = ?
    """
  static let sqlMembers = """
    SELECT hunt_clients.client AS key, clients.client AS client, clients.hostname AS hostname, flows.flow AS flow,
      flows.state AS state, flows.error AS error
    FROM hunt_clients JOIN clients ON clients.id = hunt_clients.client JOIN flows ON flows.id = hunt_clients.flow
    WHERE hunt_clients.hunt = ? AND hunt_clients.client > ? ORDER BY hunt_clients.client LIMIT ?
    """
  static let sqlWithdrawHunt = """
    SELECT tasks.id AS task, tasks.flow AS flow FROM hunt_clients JOIN tasks ON tasks.flow = hunt_clients.flow
    WHERE hunt_clients.hunt = ? AND tasks.kind = 0 AND tasks.state = 0
    """

  package func createHunt(_ hunt: NewHunt, by: Operator) async throws -> HuntID {
    let request = try hunt.serializedRequest()
    let id = try await write(bytes: request.count) { db in
      let now = Timestamp.now()
      let id = HuntID.make(at: now)
      // Clients remember up to which start they were considered: it only grows.
      let newest = try db.number("SELECT max(started_at) FROM hunts WHERE org = ?", [hunt.org]) ?? 0
      try db.run(
        """
        INSERT INTO hunts (org, hunt, title, creator, started_at, expires_at, client_limit, label, system, request)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [
          hunt.org, id.text, hunt.title, by.name, max(now.microseconds, newest + 1), hunt.expiresAt.microseconds,
          hunt.limit, hunt.label, hunt.system, request,
        ])
      try db.announce(.foremanChanged(org: hunt.org), at: now)
      try db.record("hunt", on: nil, detail: "\(id) \(hunt.title)", by: by, at: now)
      return id
    }
    await poller.announced()
    return id
  }

  package func hunts(org: String, limit: Int) async throws -> [HuntRecord] {
    try await read { db in try db.rows(Self.sqlHunts, [org, limit]).compactMap { try Self.hunt($0, db) } }
  }

  package func hunt(_ id: HuntID, org: String) async throws -> HuntRecord? {
    try await read { db in try db.row(Self.sqlHunt, [org, id.text]).flatMap { try Self.hunt($0, db) } }
  }

  private static func hunt(_ row: Row, _ db: Database) throws -> HuntRecord? {
    guard let id = HuntID(row["hunt"]) else { return nil }
    var record = HuntRecord(
      id: id, org: row["org"], title: row["title"], creator: row["creator"],
      startedAt: Timestamp(microseconds: row["started_at"]), expiresAt: Timestamp(microseconds: row["expires_at"]),
      limit: row["client_limit"], label: row["label"], system: row["system"],
      state: HuntState(rawValue: row["state"]) ?? .stopped, request: row.bytes("request"))
    let key: Int64 = row["id"]
    for state in try db.rows(sqlHuntProgress, [key]) {
      record.progress.add((state["state"] as Int64?).flatMap(FlowState.init), state["clients"])
    }
    record.progress.rows = try db.number(sqlHuntRows, [key]) ?? 0
    return record
  }

  private static func key(of id: HuntID, org: String, _ db: Database) throws -> Int64? {
    try db.number("SELECT id FROM hunts WHERE org = ? AND hunt = ?", [org, id.text])
  }

  package func members(of hunt: HuntID, org: String, after cursor: Int64, limit: Int) async throws -> [HuntMember] {
    try await read { db in
      guard let key = try Self.key(of: hunt, org: org, db) else { return [] }
      return try db.rows(Self.sqlMembers, [key, cursor, limit]).compactMap { row in
        guard let client = ClientName(org: org, stored: row["client"]), let flow = FlowID(row["flow"]) else {
          return nil
        }
        return HuntMember(
          cursor: row["key"], client: client, hostname: row["hostname"], flow: flow,
          state: FlowState(rawValue: row["state"]) ?? .waiting, errorText: row.agentText("error"))
      }
    }
  }

  package func stopHunt(_ id: HuntID, org: String, by: Operator) async throws {
    try await write { db in
      guard let key = try Self.key(of: id, org: org, db) else { throw StoreError(.notFound, "no hunt \(id)") }
      let now = Timestamp.now()
      try db.run("UPDATE hunts SET state = ? WHERE id = ?", [HuntState.stopped.rawValue, key])
      for row in try db.rows(Self.sqlWithdrawHunt, [key]) {
        try db.run(Self.sqlEndTask, [TaskState.cancelled.rawValue, now.microseconds, row["task"]])
        try db.run(
          "UPDATE flows SET state = ?, ended_at = ? WHERE id = ?",
          [FlowState.cancelled.rawValue, now.microseconds, row["flow"]])
      }
      try db.announce(.foremanChanged(org: org), at: now)
      try db.record("hunt stop", on: nil, detail: id.text, by: by, at: now)
    }
    await poller.announced()
  }
}
