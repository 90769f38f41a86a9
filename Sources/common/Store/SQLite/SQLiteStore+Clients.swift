import Foundation
import GRDB
import PublicIdentity

extension SQLiteStore {
  static let sqlKey = "SELECT public_key, enrolled_at FROM clients WHERE org = ? AND client = ?"
  static let sqlEnroll = """
    INSERT INTO clients (org, client, public_key, enrolled_at, first_seen) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (org, client) DO UPDATE SET public_key = excluded.public_key, enrolled_at = excluded.enrolled_at
    """
  private static let columns = """
    SELECT clients.id AS id, clients.org AS org, clients.client AS client, first_seen, facts, last_seen, address
    FROM clients LEFT JOIN contacts ON contacts.client = clients.id
    """
  static let sqlClient = columns + " WHERE clients.org = ? AND clients.client = ?"
  static let sqlPage = columns + " WHERE clients.org = ? AND clients.client > ? ORDER BY clients.client LIMIT ?"
  static let sqlByKey = columns + " WHERE clients.id = ?"
  /// The `+` keeps the planner from the index of all clients of the org.
  static let sqlPrefix = """
    SELECT id, client FROM clients WHERE org = ?1 AND client >= ?2 AND client < ?3
    UNION SELECT id, client FROM clients WHERE hostname >= ?4 AND hostname < ?5 AND +org = ?1
    UNION SELECT id, client FROM clients WHERE fqdn >= ?4 AND fqdn < ?5 AND +org = ?1
    """
  static let sqlWithLabel = """
    SELECT clients.id AS id, clients.client AS client FROM labels JOIN clients ON clients.id = labels.client
    WHERE labels.label = ?
    """
  static let sqlLabels = "SELECT label FROM labels WHERE client = ? ORDER BY label"

  package func publicKey(of client: ClientName) async throws -> StoredKey? {
    try await read { db in
      guard let row = try db.row(Self.sqlKey, [client.org, client.id.rawValue]) else { return nil }
      return StoredKey(publicKeyPEM: row["public_key"], enrolledAt: Timestamp(microseconds: row["enrolled_at"]))
    }
  }

  package func clientExists(_ client: ClientName) async throws -> Bool {
    try await read { try $0.key(of: client) != nil }
  }

  package func enroll(
    _ client: ClientName, publicKeyPEM: String, at: Timestamp, address: String
  ) async throws {
    let isNews = try await write(bytes: 1_024) { db -> Bool in
      let known = try db.row(Self.sqlKey, [client.org, client.id.rawValue])
      let isSame = known.map { ($0["public_key"] as String) == publicKeyPEM } ?? false
      if !isSame {
        try db.run(
          Self.sqlEnroll,
          [client.org, client.id.rawValue, publicKeyPEM, at.microseconds, at.microseconds])
        try db.announce(.keyChanged(client), at: at)
      }
      if let key = try db.key(of: client) {
        try db.run(IngestWriter.sqlContact, [key, at.microseconds, address])
      }
      return !isSame
    }
    if isNews { await poller.announced() }
  }

  package func client(_ client: ClientName) async throws -> ClientRecord? {
    try await read { db in
      try db.row(Self.sqlClient, [client.org, client.id.rawValue]).flatMap { try Self.record($0, db) }
    }
  }

  package func clients(_ filter: ClientFilter) async throws -> [ClientRecord] {
    try await read { db in
      let rows =
        if let search = filter.search, !search.isEmpty {
          try Self.search(search, filter, db)
        } else {
          try db.rows(Self.sqlPage, [filter.org, filter.after ?? "", filter.seenSince == nil ? filter.limit : -1])
        }
      var records: [ClientRecord] = []
      for row in rows where records.count < filter.limit {
        if let since = filter.seenSince, (row.timestamp("last_seen") ?? Timestamp(microseconds: 0)) < since { continue }
        if let record = try Self.record(row, db) { records.append(record) }
      }
      return records
    }
  }

  /// The rows of clients whose id, host name or FQDN begins with the text, or which have the label.
  private static func search(_ text: String, _ filter: ClientFilter, _ db: Database) throws -> [Row] {
    let found: [Row]
    if text.hasPrefix("label:") {
      found = try db.rows(sqlWithLabel, [String(text.dropFirst(6))])
    } else {
      // Ids are `C.` and lower-case digits.
      let id = text.prefix(2).uppercased() + text.dropFirst(2).lowercased()
      found = try db.rows(sqlPrefix, [filter.org, id, id + "\u{10FFFF}", text, text + "\u{10FFFF}"])
    }
    var result: [Row] = []
    let keys = Set(found.map { Found(name: $0["client"], key: $0["id"]) })
    for key in keys.sorted(by: { $0.name < $1.name }) where key.name > (filter.after ?? "") {
      guard let row = try db.row(sqlByKey, [key.key]), (row["org"] as String) == filter.org else { continue }
      result.append(row)
      if filter.seenSince == nil, result.count >= filter.limit { break }
    }
    return result
  }

  private struct Found: Hashable {
    var name: String
    var key: Int64
  }

  private static func record(_ row: Row, _ db: Database) throws -> ClientRecord? {
    guard let name = ClientName(org: row["org"], stored: row["client"]) else { return nil }
    let facts = (row["facts"] as Data?).flatMap { try? JSONDecoder().decode(HostFacts.self, from: $0) }
    let key: Int64 = row["id"]
    return ClientRecord(
      client: name, firstSeen: Timestamp(microseconds: row["first_seen"]), lastSeen: row.timestamp("last_seen"),
      lastAddress: row["address"] ?? "", facts: facts ?? HostFacts(),
      labels: try db.rows(sqlLabels, [key]).map { $0["label"] })
  }

  package func changeLabels(
    of client: ClientName, add: [String], remove: [String], by: Operator
  ) async throws {
    for label in add where label.isEmpty || label.utf8.count > 128 || label.contains(where: \.isNewline) {
      throw StoreError(.invalid, "a label has 1 to 128 bytes on one line")
    }
    try await write { db in
      guard let key = try db.key(of: client) else { throw StoreError(.notFound, "no client \(client)") }
      let now = Timestamp.now()
      for label in remove { try db.run("DELETE FROM labels WHERE client = ? AND label = ?", [key, label]) }
      try db.addLabels(add, to: key)
      try db.labelsChanged(of: key, at: now)
      try db.announce(.tasksQueued(client), at: now)
      let detail = (add.map { "+" + $0 } + remove.map { "-" + $0 }).joined(separator: " ")
      try db.record("label", on: client, detail: detail, by: by, at: now)
    }
    await poller.announced()
  }
}

extension Database {
  /// - Returns: whether a label was new.
  @discardableResult
  func addLabels(_ labels: [String], to client: Int64) throws -> Bool {
    var isNew = false
    for label in labels {
      try run("INSERT OR IGNORE INTO labels (client, label) VALUES (?, ?)", [client, label])
      if changesCount > 0 { isNew = true }
    }
    return isNew
  }

  /// Takes up what a host says about itself; labels are only added (server.md §3).
  func storeFacts(_ facts: HostFacts, labels: [String], of client: Int64, at: Timestamp) throws {
    let stored = try row("SELECT facts FROM clients WHERE id = ?", [client])?["facts"] as Data?
    let older = stored.flatMap { try? JSONDecoder().decode(HostFacts.self, from: $0) } ?? HostFacts()
    let merged = facts.merged(over: older)
    if merged != older {
      try run(
        "UPDATE clients SET hostname = ?, fqdn = ?, facts = ? WHERE id = ?",
        [merged.hostname, merged.fqdn, try JSONEncoder().encode(merged), client])
    }
    // Hunts may go by the system.
    if merged.system != older.system { try run("UPDATE clients SET hunt_timestamp = 0 WHERE id = ?", [client]) }
    if try addLabels(labels, to: client) { try labelsChanged(of: client, at: at) }
  }

  static let sqlLabelsChanged = """
    UPDATE clients SET labels_changed_at = max(?, event_table_version / 1000 + 1), hunt_timestamp = 0 WHERE id = ?
    """

  /// Event tables and hunts may go by label: whoever knows the client's labels looks again. The instant is after that
  /// of its event table, whatever the clocks say.
  func labelsChanged(of client: Int64, at: Timestamp) throws {
    try run(Self.sqlLabelsChanged, [at.microseconds, client])
  }
}
