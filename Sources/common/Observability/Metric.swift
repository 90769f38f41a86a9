import Synchronization

/// A count that only grows.
package final class Counter: Sendable {
  private let count = Atomic<UInt64>(0)

  package init() {}

  /// Adds to the count; lock-free.
  package func increment(by amount: UInt64 = 1) {
    count.wrappingAdd(amount, ordering: .relaxed)
  }

  package var value: UInt64 {
    count.load(ordering: .relaxed)
  }
}

/// A value that goes up and down.
package final class Gauge: Sendable {
  private let bits = Atomic<UInt64>(0)

  package init() {}

  package func set(_ value: Double) {
    bits.store(value.bitPattern, ordering: .relaxed)
  }

  package func set(_ value: Int) {
    set(Double(value))
  }

  /// Adds to the value, or subtracts when negative; lock-free.
  package func add(_ difference: Double) {
    var old = bits.load(ordering: .relaxed)
    while true {
      let new = (Double(bitPattern: old) + difference).bitPattern
      let (done, seen) = bits.compareExchange(expected: old, desired: new, ordering: .relaxed)
      if done { return }
      old = seen
    }
  }

  package func increment() { add(1) }

  package func decrement() { add(-1) }

  package var value: Double {
    Double(bitPattern: bits.load(ordering: .relaxed))
  }
}

/// A distribution of observed values, usually seconds.
package final class Histogram: Sendable {
  /// From 100 µs to 10 s, for latencies in seconds.
  package static let latencyBuckets: [Double] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
  ]

  package struct Snapshot: Sendable, Equatable {
    /// Count of observations not above each bound; not cumulative. The last is for values above all bounds.
    package var counts: [UInt64]
    package var sum: Double
    package var total: UInt64 { counts.reduce(0, +) }
  }

  /// Upper bounds in ascending order, without infinity.
  package let bounds: [Double]
  private let state: Mutex<Snapshot>

  package init(buckets: [Double] = Histogram.latencyBuckets) {
    bounds = buckets.sorted()
    state = Mutex(Snapshot(counts: Array(repeating: 0, count: buckets.count + 1), sum: 0))
  }

  package func observe(_ value: Double) {
    let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
    state.withLock { state in
      state.counts[bucket] += 1
      state.sum += value
    }
  }

  /// Observes a duration in seconds.
  package func observe(_ duration: Duration) {
    let parts = duration.components
    observe(Double(parts.seconds) + Double(parts.attoseconds) * 1e-18)
  }

  package var snapshot: Snapshot {
    state.withLock { $0 }
  }
}
