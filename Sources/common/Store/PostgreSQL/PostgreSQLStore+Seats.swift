import PublicIdentity

extension PostgreSQLStore {
  static let sqlSeat = """
    SELECT s.process, s.session, s.host, s.address, s.agent, s.relayed
    FROM clients c JOIN seats s ON s.client = c.id WHERE c.org = $1::text AND c.client = $2::text
    """
  static let sqlTakeSeat = """
    INSERT INTO seats (client, process, session, host, address, agent, relayed)
    VALUES ($1::bigint, $2::text, $3::bigint, $4::text, $5::text, $6::text, $7::boolean)
    ON CONFLICT (client) DO UPDATE SET process = excluded.process, session = excluded.session, host = excluded.host,
      address = excluded.address, agent = excluded.agent, relayed = excluded.relayed
    """

  package func seat(of client: ClientName) async throws -> StoredSeat? {
    try await rows(Self.sqlSeat, [.text(client.org), .text(client.id.rawValue)]).first
      .map { Self.seat($0, of: client) }
  }

  package func takeSeat(_ seat: StoredSeat) async throws -> StoredSeat? {
    if let stored = try await self.seat(of: seat.client), seat.repeats(stored) { return nil }
    return try await transact(on: seat.client) { transaction, key in
      guard let key else { return nil }
      let name: [PGValue] = [.text(seat.client.org), .text(seat.client.id.rawValue)]
      let before = try await transaction.read(Self.sqlSeat, name).first.map { Self.seat($0, of: seat.client) }
      transaction.write(
        Self.sqlTakeSeat,
        [
          .int(key), .text(seat.process), .int(Int64(bitPattern: seat.session)), .text(seat.host.withoutNUL),
          .text(seat.remoteAddress.withoutNUL), .text(seat.userAgent.withoutNUL), .bool(seat.isRelayed),
        ])
      guard let before, before.process != seat.process else { return nil }
      transaction.announce([.seatTaken(seat.client)], at: .now())
      return before
    }
  }

  private static func seat(_ row: PGRow, of client: ClientName) -> StoredSeat {
    StoredSeat(
      client: client, process: row.text(0), session: UInt64(bitPattern: row.int(1)), host: row.text(2),
      remoteAddress: row.text(3), userAgent: row.text(4), isRelayed: row.bool(5))
  }
}
