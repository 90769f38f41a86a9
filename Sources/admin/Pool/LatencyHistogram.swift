/// Durations in buckets whose width grows with the value, so that each keeps two significant digits (the layout of
/// HdrHistogram): recording is cheap and the size does not depend on how many there are.
struct LatencyHistogram: Sendable {
  private static let subBuckets = 128
  /// Microseconds beyond this count as this: some 19 hours.
  private static let largest = 1 << 36

  private var counts = [Int](repeating: 0, count: subBuckets * 31)
  private(set) var count = 0
  private(set) var maximum = 0
  private var sum = 0

  mutating func record(microseconds: Int) {
    let value = min(max(0, microseconds), Self.largest)
    counts[Self.index(of: value)] += 1
    count += 1
    sum += value
    maximum = max(maximum, value)
  }

  mutating func merge(_ other: LatencyHistogram) {
    for index in counts.indices { counts[index] += other.counts[index] }
    count += other.count
    sum += other.sum
    maximum = max(maximum, other.maximum)
  }

  /// Microseconds that this part of all values does not exceed, rounded up to the bucket's end; 0 when there are none.
  ///
  /// - Parameter part: 0 to 1.
  func quantile(_ part: Double) -> Int {
    guard count > 0 else { return 0 }
    let wanted = max(1, Int((Double(count) * part).rounded(.up)))
    var seen = 0
    for index in counts.indices {
      seen += counts[index]
      if seen >= wanted { return min(Self.upperEnd(of: index), maximum) }
    }
    return maximum
  }

  var mean: Double { count == 0 ? 0 : Double(sum) / Double(count) }

  /// Values below 128 have buckets of their own; above, each power of two has 64.
  static func index(of value: Int) -> Int {
    guard value >= subBuckets else { return value }
    let shift = Int.bitWidth - value.leadingZeroBitCount - 7
    return subBuckets + (shift - 1) * 64 + (value >> shift) - 64
  }

  static func upperEnd(of index: Int) -> Int {
    guard index >= subBuckets else { return index }
    let shift = (index - subBuckets) / 64 + 1
    let lead = (index - subBuckets) % 64 + 64
    return (lead + 1) << shift - 1
  }
}
