import PublicIdentity
import Synchronization

/// Decides what a client is given beside the tasks queued for it: the first interrogation, its event table, the flows
/// of hunts (server.md §4, §6). One in each frontend.
package final class Foreman: Sendable {
  private struct State {
    var orders = ForemanOrders()
    var allowance: Double
    var countedAt = Timestamp(microseconds: 0)
    /// Clients whose interrogation waits for the rate, in the order of their contact.
    var postponed: [ClientName] = []
    var isPostponed: Set<ClientName> = []
  }

  /// Interrogations a second; 0 for none.
  private let rate: Double
  let tables: EventTableOptions
  private let state: Mutex<State>
  private static let mostPostponed = 100_000

  /// - Parameter interrogationsPerSecond: `Frontend.resources.enrollments_per_second`: 0 for 100, negative for none.
  package init(interrogationsPerSecond: Int = 0, tables: EventTableOptions = EventTableOptions()) {
    rate = interrogationsPerSecond < 0 ? 0 : interrogationsPerSecond == 0 ? 100 : Double(interrogationsPerSecond)
    self.tables = tables
    state = Mutex(State(allowance: rate))
  }

  /// The orders as they are now in the store.
  package func follow(_ orders: ForemanOrders) {
    state.withLock { $0.orders = orders }
  }

  /// - Returns: nil when there is nothing for the client.
  func due(_ standing: ClientStanding, for client: ClientName, now: Timestamp) -> ForemanDue? {
    state.withLock { state in
      let interrogates = !standing.isInterrogated && rate > 0 && admit(client, now, &state)
      let due = ForemanDue(
        standing, state.orders.of(client.org), interrogates: interrogates, now: now, patience: tables.patience)
      return due.isEmpty ? nil : due
    }
  }

  /// The same question inside the transaction that gives the client what is due.
  func confirm(_ due: ForemanDue, _ standing: ClientStanding, for client: ClientName, now: Timestamp) -> ForemanDue {
    let orders = state.withLock { $0.orders.of(client.org) }
    return ForemanDue(standing, orders, interrogates: due.interrogates, now: now, patience: tables.patience)
  }

  private func admit(_ client: ClientName, _ now: Timestamp, _ state: inout State) -> Bool {
    refill(&state, now)
    if state.allowance >= 1 {
      state.allowance -= 1
      return true
    }
    if state.postponed.count < Self.mostPostponed, state.isPostponed.insert(client).inserted {
      state.postponed.append(client)
    }
    return false
  }

  private func refill(_ state: inout State, _ now: Timestamp) {
    let passed = Double(max(0, now.microseconds - state.countedAt.microseconds)) / 1_000_000
    state.allowance = min(max(1, rate), state.allowance + passed * rate)
    state.countedAt = max(state.countedAt, now)
  }

  /// Clients whose readers should look again, because the rate now allows their interrogation.
  package func readmitted(now: Timestamp) -> [ClientName] {
    state.withLock { state in
      guard !state.postponed.isEmpty else { return [] }
      refill(&state, now)
      let clients = Array(state.postponed.prefix(Int(state.allowance)))
      state.postponed.removeFirst(clients.count)
      state.isPostponed.subtract(clients)
      return clients
    }
  }
}
