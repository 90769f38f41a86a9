import PublicIdentity
import Store

/// The board of a deployment: seats lie in the store, which tells all frontends when one moves to another process.
final class StoreSeatBoard: SeatBoard {
  private let store: any Store

  init(store: any Store) {
    self.store = store
  }

  func take(_ claim: SeatClaim) async throws -> SeatClaim? {
    try await store.takeSeat(StoredSeat(claim)).map(SeatClaim.init)
  }

  /// The seat stays as it is: nobody looks at it before another process takes it, and the agent mostly comes back to
  /// the same one, which then has nothing to write.
  func leave(_ claim: SeatClaim) async {}

  func claims(besides process: String) async throws -> AsyncStream<SeatClaim> {
    let events = try await store.events()
    let (stream, continuation) = AsyncStream.makeStream(of: SeatClaim.self)
    let following = Task { [store] in
      for await event in events {
        // A seat that cannot be read now leaves the older reader until its deadline, as a lost event would.
        guard case .seatTaken(let client) = event, let seat = try? await store.seat(of: client),
          seat.process != process
        else { continue }
        continuation.yield(SeatClaim(seat))
      }
      continuation.finish()
    }
    continuation.onTermination = { _ in following.cancel() }
    return stream
  }
}

extension SeatClaim {
  init(_ seat: StoredSeat) {
    self.init(
      client: seat.client, process: seat.process,
      facts: ReaderFacts(
        session: seat.session, host: seat.host, remoteAddress: seat.remoteAddress, userAgent: seat.userAgent,
        isRelayed: seat.isRelayed))
  }
}

extension StoredSeat {
  init(_ claim: SeatClaim) {
    self.init(
      client: claim.client, process: claim.process, session: claim.facts.session, host: claim.facts.host,
      remoteAddress: claim.facts.remoteAddress, userAgent: claim.facts.userAgent, isRelayed: claim.facts.isRelayed)
  }
}
