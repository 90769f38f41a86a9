import Foundation
import PublicIdentity

extension PostgreSQLStore {
  static let sqlKey = "SELECT public_key, enrolled_at FROM clients WHERE org = $1::text AND client = $2::text"
  static let sqlClientKey = "SELECT id FROM clients WHERE org = $1::text AND client = $2::text"
  static let sqlEnroll = """
    INSERT INTO clients (org, client, public_key, enrolled_at, first_seen)
    VALUES ($1::text, $2::text, $3::text, $4::bigint, $4::bigint)
    ON CONFLICT (org, client) DO UPDATE SET public_key = excluded.public_key, enrolled_at = excluded.enrolled_at
    """
  static let sqlContact = """
    INSERT INTO contacts (client, last_seen, address)
    SELECT id, $3::bigint, $4::text FROM clients WHERE org = $1::text AND client = $2::text
    ON CONFLICT (client) DO UPDATE SET last_seen = excluded.last_seen, address = excluded.address
    """
  private static let columns = """
    SELECT c.id, c.org, c.client, c.first_seen, c.facts, t.last_seen, t.address,
      ARRAY(SELECT l.label FROM labels l WHERE l.client = c.id ORDER BY lower(l.label))
    FROM clients c LEFT JOIN contacts t ON t.client = c.id
    """
  static let sqlClient = columns + " WHERE c.org = $1::text AND c.client = $2::text"
  private static let page = """
     AND c.client > $2::text AND ($3::bigint IS NULL OR t.last_seen >= $3::bigint)
    ORDER BY c.client LIMIT $4::bigint
    """
  static let sqlPage = columns + " WHERE c.org = $1::text" + page
  static let sqlPrefix =
    columns + """
       WHERE c.org = $1::text AND c.id = ANY (ARRAY(
        SELECT id FROM clients WHERE org = $1::text AND client >= $5::text AND client < $6::text
        UNION SELECT id FROM clients
          WHERE lower(hostname) >= lower($7::text COLLATE "C") AND lower(hostname) < lower($8::text COLLATE "C")
            AND org = $1::text
        UNION SELECT id FROM clients
          WHERE lower(fqdn) >= lower($7::text COLLATE "C") AND lower(fqdn) < lower($8::text COLLATE "C")
            AND org = $1::text))
      """ + page
  static let sqlWithLabel =
    columns + """
       WHERE c.org = $1::text
        AND c.id = ANY (ARRAY(SELECT client FROM labels WHERE lower(label) = lower($5::text COLLATE "C")))
      """ + page
  static let sqlRemoveLabels = """
    DELETE FROM labels WHERE client = $1::bigint AND lower(label) IN (
      SELECT lower(k.label COLLATE "C") FROM unnest($2::text[]) AS k(label))
    """
  static let sqlAddLabels = """
    INSERT INTO labels (client, label) SELECT $1::bigint, k.label FROM unnest($2::text[]) AS k(label)
    ON CONFLICT (client, lower(label)) DO NOTHING
    """
  /// Event tables and hunts may go by label: whoever knows the client's labels looks again. The instant is after that
  /// of its event table, whatever the clocks say.
  static let sqlLabelsChanged = """
    UPDATE clients SET labels_changed_at = greatest($2::bigint, event_table_version / 1000 + 1), hunt_timestamp = 0
    WHERE id = $1::bigint
    """

  package func publicKey(of client: ClientName) async throws -> StoredKey? {
    let rows = try await rows(Self.sqlKey, [.text(client.org), .text(client.id.rawValue)])
    return rows.first.map { StoredKey(publicKeyPEM: $0.text(0), enrolledAt: $0.time(1)) }
  }

  package func clientExists(_ client: ClientName) async throws -> Bool {
    try await key(of: client) != nil
  }

  func key(of client: ClientName) async throws -> Int64? {
    try await rows(Self.sqlClientKey, [.text(client.org), .text(client.id.rawValue)]).first?.int(0)
  }

  package func enroll(
    _ client: ClientName, publicKeyPEM: String, at: Timestamp, address: String
  ) async throws {
    guard !publicKeyPEM.utf8.contains(0) else { throw StoreError(.invalid, "a public key is text without NUL") }
    let name: [PGValue] = [.text(client.org), .text(client.id.rawValue)]
    try await self.client.transact { transaction in
      _ = try await transaction.lock(client)
      let known = try await transaction.read(Self.sqlKey, name).first?.text(0)
      if known != publicKeyPEM {
        transaction.write(Self.sqlEnroll, name + [.text(publicKeyPEM), .time(at)])
        transaction.announce([.keyChanged(client)], at: .now())
      }
      transaction.write(Self.sqlContact, name + [.time(at), .text(address.withoutNUL)])
    }
  }

  package func client(_ client: ClientName) async throws -> ClientRecord? {
    try await rows(Self.sqlClient, [.text(client.org), .text(client.id.rawValue)]).first.flatMap(Self.record)
  }

  package func clients(_ filter: ClientFilter) async throws -> [ClientRecord] {
    var values: [PGValue] = [
      .text(filter.org.withoutNUL), .text((filter.after ?? "").withoutNUL), .optionalTime(filter.seenSince),
      .int(Int64(max(0, filter.limit))),
    ]
    guard let search = filter.search?.withoutNUL, !search.isEmpty else {
      return try await rows(Self.sqlPage, values).compactMap(Self.record)
    }
    if search.hasPrefix("label:") {
      values.append(.text(String(search.dropFirst(6))))
      return try await rows(Self.sqlWithLabel, values).compactMap(Self.record)
    }
    // Ids are `C.` and lower-case digits.
    let id = search.prefix(2).uppercased() + search.dropFirst(2).lowercased()
    let last = "\u{10FFFF}"
    values += [.text(id), .text(id + last), .text(search), .text(search + last)]
    return try await rows(Self.sqlPrefix, values).compactMap(Self.record)
  }

  private static func record(_ row: PGRow) -> ClientRecord? {
    guard let name = ClientName(org: row.text(1), stored: row.text(2)) else { return nil }
    let facts = row.optionalData(4).flatMap { try? JSONDecoder().decode(HostFacts.self, from: $0) }
    return ClientRecord(
      client: name, firstSeen: row.time(3), lastSeen: row.optionalTime(5), lastAddress: row.text(6),
      facts: facts ?? HostFacts(), labels: row.texts(7))
  }

  package func changeLabels(
    of client: ClientName, add: [String], remove: [String], by: Operator
  ) async throws {
    for label in add where label.isEmpty || label.utf8.count > 128 || label.contains(where: \.isNewline) {
      throw StoreError(.invalid, "a label has 1 to 128 bytes on one line")
    }
    guard !(add + remove).contains(where: { $0.utf8.contains(0) }) else {
      throw StoreError(.invalid, "a label has no NUL")
    }
    try await transact(on: client) { transaction, key in
      guard let key else { throw StoreError(.notFound, "no client \(client)") }
      let now = Timestamp.now()
      transaction.write(Self.sqlRemoveLabels, [.int(key), .texts(remove)])
      transaction.write(Self.sqlAddLabels, [.int(key), .texts(add)])
      transaction.write(Self.sqlLabelsChanged, [.int(key), .time(now)])
      transaction.announce([.tasksQueued(client)], at: now)
      let detail = (add.map { "+" + $0 } + remove.map { "-" + $0 }).joined(separator: " ")
      transaction.record("label", on: client, detail: detail, by: by, at: now)
    }
  }
}
