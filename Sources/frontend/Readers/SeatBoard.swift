import PublicIdentity
import Synchronization

/// A reader that was seated at some frontend.
struct SeatClaim: Sendable, Equatable {
  var client: ClientName
  /// The frontend process, unique in the deployment and for each start.
  var process: String
  var facts: ReaderFacts
}

/// How frontends tell each other where a client's reader is, so that the newer one wins across all of them. Only a seat
/// that moves between processes needs telling: agents mostly stay where they are.
protocol SeatBoard: Sendable {
  /// Makes the claim known to other processes.
  /// - Returns: the claim of another process that this one replaces, if there was one.
  func take(_ claim: SeatClaim) async throws -> SeatClaim?
  /// The reader has ended; nothing happens when another claim has replaced it.
  func leave(_ claim: SeatClaim) async
  /// Claims that other processes make from now on.
  func claims(besides process: String) async throws -> AsyncStream<SeatClaim>
}

/// A board within one process: for a frontend that is alone, and for tests with several registries.
final class LocalSeatBoard: SeatBoard {
  private struct State {
    var seats: [ClientName: SeatClaim] = [:]
    var followers: [Int: (process: String, continuation: AsyncStream<SeatClaim>.Continuation)] = [:]
    var next = 0
  }

  private let state = Mutex(State())

  func take(_ claim: SeatClaim) async throws -> SeatClaim? {
    let (before, followers) = state.withLock { state in
      let before = state.seats.updateValue(claim, forKey: claim.client)
      return (before, Array(state.followers.values))
    }
    for follower in followers where follower.process != claim.process { follower.continuation.yield(claim) }
    return before.flatMap { $0.process == claim.process ? nil : $0 }
  }

  func leave(_ claim: SeatClaim) async {
    state.withLock { state in
      if state.seats[claim.client] == claim { state.seats[claim.client] = nil }
    }
  }

  func claims(besides process: String) async throws -> AsyncStream<SeatClaim> {
    let (stream, continuation) = AsyncStream.makeStream(of: SeatClaim.self)
    let number = state.withLock { state in
      state.next += 1
      state.followers[state.next] = (process, continuation)
      return state.next
    }
    continuation.onTermination = { [weak self] _ in self?.forget(number) }
    return stream
  }

  private func forget(_ number: Int) {
    _ = state.withLock { $0.followers.removeValue(forKey: number) }
  }
}
