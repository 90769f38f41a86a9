import NIOCore
import Observability
import PublicIdentity
import Store
import Synchronization

/// Keeps the foreman's orders as they are in the store, and lets waiting readers look when they change (server.md §4).
final class ForemanService: Sendable {
  private struct State {
    /// The orders were not read since they changed last.
    var isStale = true
    /// Orgs whose orders changed since their readers were woken.
    var changed: Set<String> = []
    /// Readers that are still to look.
    var waking: [ClientName] = []
    /// Readers that may look now.
    var allowance = 0.0
  }

  let foreman: Foreman
  private let store: any Store
  private let registry: ReaderRegistry
  private let limited: RateLimitedLog
  /// Readers woken a second by changes that concern many clients; 0 wakes nobody.
  private let wakeRate: Double
  private let state = Mutex(State())

  private static let tick = Duration.milliseconds(200)
  /// Ticks after which the orders are read again in any case.
  private static let refreshTicks = 300

  init(foreman: Foreman, store: any Store, registry: ReaderRegistry, limited: RateLimitedLog, wakeRate: Int) {
    self.foreman = foreman
    self.store = store
    self.registry = registry
    self.limited = limited
    self.wakeRate = Double(max(0, wakeRate))
  }

  /// What was announced so far may have been missed.
  func mayHaveMissed() {
    state.withLock { $0.isStale = true }
  }

  /// The orders of an org changed: they are read, then its readers look, one after the other.
  func changed(org: String) {
    state.withLock { state in
      state.isStale = true
      if wakeRate > 0 { state.changed.insert(org) }
    }
  }

  /// Until cancelled.
  func run() async {
    var ticks = 0
    while !Task.isCancelled {
      if state.withLock({ $0.isStale }) || ticks % Self.refreshTicks == 0 { await refresh() }
      for client in foreman.readmitted(now: .now()) { registry.signal(client) }
      for client in nextToWake() { registry.signal(client) }
      ticks += 1
      try? await Task.sleep(for: Self.tick)
    }
  }

  private func refresh() async {
    let changed = state.withLock { state in
      defer { state.changed = [] }
      state.isStale = false
      return state.changed
    }
    do {
      foreman.follow(try await store.foremanOrders(now: .now()))
      guard !changed.isEmpty else { return }
      // Only now: whoever came meanwhile may have looked with the former orders.
      let readers = registry.waiting.filter { changed.contains($0.org) }
      state.withLock { $0.waking = Array(Set($0.waking).union(readers)) }
    } catch {
      state.withLock { state in
        state.isStale = true
        state.changed.formUnion(changed)
      }
      limited.warning("foreman", "event tables and hunts cannot be read: \(error)")
    }
  }

  private func nextToWake() -> [ClientName] {
    state.withLock { state in
      guard !state.waking.isEmpty else { return [] }
      state.allowance = min(max(1, wakeRate), state.allowance + wakeRate * 0.2)
      let count = min(state.waking.count, Int(state.allowance))
      state.allowance -= Double(count)
      let clients = Array(state.waking.prefix(count))
      state.waking.removeFirst(count)
      return clients
    }
  }
}
