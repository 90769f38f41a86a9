import NIOCore
import PublicIdentity
import Synchronization

/// The readers that wait at this process, one for each client (http.md §5 step 6): executes what `ReaderSeat` says.
final class ReaderRegistry: Sendable {
  enum Admission: Sendable, Equatable {
    case seated
    /// 409; a conflict that is to be recorded.
    case refused(ReaderConflict?)
  }

  private struct Entry {
    var seat = ReaderSeat()
    var reader: WaitingReader?
  }

  private struct State {
    var entries: [ClientName: Entry] = [:]
    var seated = 0
    /// Clients without a reader whose displacements are remembered.
    var remembered: [ClientName] = []
  }

  /// The most clients without a reader that are remembered.
  private static let mostRemembered = 4096

  private let state = Mutex(State())
  private let now: @Sendable () -> NIODeadline
  private let isAnswering: @Sendable (WaitingReader) async -> Bool

  /// - Parameters:
  ///   - now: a monotonic clock; injected by tests.
  ///   - isAnswering: whether the other end of a reader's connection still reacts.
  init(
    now: @escaping @Sendable () -> NIODeadline = { .now() },
    isAnswering: @escaping @Sendable (WaitingReader) async -> Bool = Liveness.isAnswering
  ) {
    self.now = now
    self.isAnswering = isAnswering
  }

  /// Seats the reader, ends another, or refuses it.
  func register(_ reader: WaitingReader) async -> Admission {
    let time = now()
    let (decision, holder) = state.withLock { state in
      let holder = state.entries[reader.client]?.reader
      let decision = state.entries[reader.client, default: Entry()].seat.arrive(reader.facts, now: time)
      return (Self.apply(decision, reader, &state), holder)
    }
    guard decision == .probe, let holder else { return finish(decision, holder) }
    let answers = await isAnswering(holder)
    let (verdict, ended) = state.withLock { state in
      let holder = state.entries[reader.client]?.reader
      let verdict = state.entries[reader.client, default: Entry()].seat.probed(isAnswering: answers, now: now())
      return (Self.apply(verdict, reader, &state), holder)
    }
    return finish(verdict, ended)
  }

  private static func apply(
    _ decision: ReaderSeat.Decision, _ reader: WaitingReader, _ state: inout State
  ) -> ReaderSeat.Decision {
    switch decision {
    case .seat, .displace:
      if state.entries[reader.client]?.reader == nil { state.seated += 1 }
      state.entries[reader.client]?.reader = reader
    case .probe, .refuse: break
    }
    return decision
  }

  private func finish(_ decision: ReaderSeat.Decision, _ holder: WaitingReader?) -> Admission {
    switch decision {
    case .seat, .probe: return .seated
    case .displace:
      holder?.displace()
      return .seated
    case .refuse(let conflict): return .refused(conflict)
    }
  }

  /// The reader's answer has ended.
  func remove(_ reader: WaitingReader) {
    let time = now()
    state.withLock { state in
      // One that was displaced is no longer the seat's.
      guard var entry = state.entries[reader.client], entry.reader === reader else { return }
      entry.reader = nil
      entry.seat.left()
      state.seated -= 1
      if entry.seat.isEmpty(now: time) {
        state.entries[reader.client] = nil
      } else {
        state.entries[reader.client] = entry
        state.remembered.append(reader.client)
        Self.prune(&state, time)
      }
    }
  }

  /// Forgets what is old, and the oldest when there is too much.
  private static func prune(_ state: inout State, _ time: NIODeadline) {
    guard state.remembered.count > mostRemembered else { return }
    let kept = state.remembered.suffix(mostRemembered / 2)
    for client in state.remembered.prefix(state.remembered.count - kept.count) {
      guard let entry = state.entries[client], entry.reader == nil, entry.seat.holder == nil else { continue }
      state.entries[client] = nil
    }
    state.remembered = Array(kept)
  }

  // MARK: other frontends

  /// Another frontend seated a reader of this client.
  /// - Returns: a conflict that is to be recorded.
  func seatedElsewhere(_ claim: SeatClaim) -> ReaderConflict? {
    let time = now()
    let (verdict, reader) = state.withLock { state -> (ReaderSeat.Elsewhere, WaitingReader?) in
      guard var entry = state.entries[claim.client] else { return (.none, nil) }
      let verdict = entry.seat.seatedElsewhere(claim.facts, now: time)
      state.entries[claim.client] = entry
      return (verdict, entry.reader)
    }
    guard case .end(let conflict) = verdict else { return nil }
    reader?.displace()
    return conflict
  }

  /// The claim of a reader here replaced one of another frontend.
  func displacedElsewhere(_ claim: SeatClaim, by facts: ReaderFacts) {
    let time = now()
    state.withLock { $0.entries[claim.client]?.seat.displacedElsewhere(claim.facts, by: facts, now: time) }
  }

  // MARK: signals

  /// Tells the client's reader that a task may be there.
  func signal(_ client: ClientName) {
    state.withLock { $0.entries[client]?.reader }?.signal()
  }

  /// Ends the client's reader.
  func end(_ client: ClientName) {
    state.withLock { $0.entries[client]?.reader }?.end()
  }

  /// Ends all of them, as their deadlines would, each at some moment of the span, so that their agents do not all
  /// arrive elsewhere at once.
  func endAll(over span: TimeAmount) {
    for reader in state.withLock({ $0.entries.values.compactMap(\.reader) }) {
      let delay = Int64.random(in: 0...max(0, span.nanoseconds))
      reader.exchange.eventLoop.scheduleTask(in: .nanoseconds(delay)) { reader.end() }
    }
  }

  var count: Int { state.withLock { $0.seated } }

  /// The clients whose readers wait here.
  var waiting: [ClientName] { state.withLock { $0.entries.filter { $0.value.reader != nil }.map(\.key) } }
}
