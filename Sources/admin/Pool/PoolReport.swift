import Foundation

/// What a pool shows while it runs and at its end.
struct PoolReport: Encodable {
  struct Latency: Encodable {
    var count: Int
    var p50, p90, p99, max: Double

    /// Milliseconds.
    init(_ histogram: LatencyHistogram) {
      count = histogram.count
      p50 = Double(histogram.quantile(0.5)) / 1000
      p90 = Double(histogram.quantile(0.9)) / 1000
      p99 = Double(histogram.quantile(0.99)) / 1000
      max = Double(histogram.maximum) / 1000
    }

    var text: String {
      guard count > 0 else { return "none" }
      let numbers = [p50, p90, p99, max].map { String(format: "%.1f", $0) }
      return "p50 \(numbers[0])  p90 \(numbers[1])  p99 \(numbers[2])  max \(numbers[3]) ms  (\(count))"
    }
  }

  var agents: Int
  var seconds: Double
  /// The most readers that waited at once.
  var mostConnected: Int
  var accepted: Int
  var checkIns: Int
  var deliveries: Int
  var sentBytes: Int
  var residentBytes: Int
  var bytesPerAgent: Int
  var cpuSeconds: Double
  var statuses: [String: Int]
  var errors: [String: Int]
  var enrollmentMilliseconds: Latency
  var checkInMilliseconds: Latency
  var deliveryMilliseconds: Latency

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  var text: String {
    var lines = [
      "agents              \(agents), \(accepted) accepted, at most \(mostConnected) connected at once",
      "time                \(String(format: "%.1f", seconds)) s, \(String(format: "%.1f", cpuSeconds)) s of processor",
      "memory              \(residentBytes >> 20) MiB, \(bytesPerAgent >> 10) KiB for each agent",
      "start to accepted   \(enrollmentMilliseconds.text)",
      "check-in            \(checkInMilliseconds.text)",
      "delivery            \(deliveryMilliseconds.text), \(sentBytes) bytes",
    ]
    for (status, count) in statuses.sorted(by: { $0.key < $1.key }) {
      lines.append("status \(status)          \(count)")
    }
    for (reason, count) in errors.sorted(by: { $0.value > $1.value }) { lines.append("\(count) × \(reason)") }
    return lines.joined(separator: "\n")
  }
}

/// What the system lets this process have.
enum PoolLimits {
  /// Allows as many open files as the system lets this user have.
  ///
  /// - Returns: how many that are.
  static func raiseFileLimit() -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
    limit.rlim_cur = limit.rlim_max
    _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
    return Int(clamping: limit.rlim_cur)
  }
}
