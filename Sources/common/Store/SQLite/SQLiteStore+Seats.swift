import GRDB
import PublicIdentity

extension SQLiteStore {
  static let sqlSeat = """
    SELECT process, session, host, address, agent, relayed
    FROM clients JOIN seats ON seats.client = clients.id WHERE clients.org = ? AND clients.client = ?
    """
  static let sqlTakeSeat = """
    INSERT INTO seats (client, process, session, host, address, agent, relayed) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (client) DO UPDATE SET process = excluded.process, session = excluded.session, host = excluded.host,
      address = excluded.address, agent = excluded.agent, relayed = excluded.relayed
    """

  package func seat(of client: ClientName) async throws -> StoredSeat? {
    try await read { try Self.seat(of: client, $0) }
  }

  package func takeSeat(_ seat: StoredSeat) async throws -> StoredSeat? {
    if let stored = try await self.seat(of: seat.client), seat.repeats(stored) { return nil }
    let before = try await write { db -> StoredSeat? in
      guard let key = try db.key(of: seat.client) else { return nil }
      let before = try Self.seat(of: seat.client, db)
      try db.run(
        Self.sqlTakeSeat,
        [
          key, seat.process, Int64(bitPattern: seat.session), seat.host, seat.remoteAddress, seat.userAgent,
          seat.isRelayed,
        ])
      guard let before, before.process != seat.process else { return nil }
      try db.announce(.seatTaken(seat.client), at: .now())
      return before
    }
    if before != nil { await poller.announced() }
    return before
  }

  private static func seat(of client: ClientName, _ db: Database) throws -> StoredSeat? {
    try db.row(sqlSeat, [client.org, client.id.rawValue]).map { row in
      StoredSeat(
        client: client, process: row["process"], session: UInt64(bitPattern: row["session"] as Int64),
        host: row["host"], remoteAddress: row["address"], userAgent: row["agent"], isRelayed: row["relayed"])
    }
  }
}
