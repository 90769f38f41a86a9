import Foundation

enum Clock {
  /// Nanoseconds of the monotonic clock.
  static func now() -> UInt64 { read(CLOCK_MONOTONIC) }

  /// Nanoseconds of processor time of this thread: not disturbed by what else runs on the machine.
  static func threadCPU() -> UInt64 { read(CLOCK_THREAD_CPUTIME_ID) }

  static func seconds(since start: UInt64) -> Double { Double(now() - start) / 1e9 }

  private static func read(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(max(0, time.tv_sec)) * 1_000_000_000 + UInt64(max(0, time.tv_nsec))
  }
}

enum Statistics {
  static func median(_ values: [Double]) -> Double { percentile(values, 0.5) }

  static func percentile(_ values: [Double], _ part: Double) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    let index = Int((Double(sorted.count - 1) * part).rounded())
    return sorted[min(sorted.count - 1, max(0, index))]
  }
}

/// Rates of work on one thread, per second of its own processor time.
enum Rate {
  /// - Parameters:
  ///   - seconds: of one round, on the wall.
  ///   - step: does some work and says how much.
  /// - Returns: units per second, the median of the rounds.
  static func perCPUSecond(rounds: Int, seconds: Double, _ step: () throws -> Int) throws -> Double {
    try loop(seconds: seconds / 4, step)
    var rates: [Double] = []
    for _ in 0..<rounds { rates.append(try loop(seconds: seconds, step)) }
    return Statistics.median(rates)
  }

  /// Two rates in alternation, so that both see the same machine.
  static func pair(
    rounds: Int, seconds: Double, _ first: () throws -> Int, _ second: () throws -> Int
  ) throws -> (Double, Double) {
    try loop(seconds: seconds / 4, first)
    try loop(seconds: seconds / 4, second)
    var rates: ([Double], [Double]) = ([], [])
    for _ in 0..<rounds {
      rates.0.append(try loop(seconds: seconds, first))
      rates.1.append(try loop(seconds: seconds, second))
    }
    return (Statistics.median(rates.0), Statistics.median(rates.1))
  }

  @discardableResult
  private static func loop(seconds: Double, _ step: () throws -> Int) throws -> Double {
    let end = Clock.now() + UInt64(seconds * 1e9)
    let start = Clock.threadCPU()
    var done = 0
    repeat { done += try step() } while Clock.now() < end
    let used = Double(Clock.threadCPU() - start) / 1e9
    return used > 0 ? Double(done) / used : 0
  }
}

/// What the kernel says about a process.
enum ProcessStatus {
  /// Seconds of processor time of all its threads, user and system; the kernel counts in hundredths.
  static func cpuSeconds(_ pid: Int32) throws -> Double {
    let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
    guard let end = text.lastIndex(of: ")") else { throw Trouble("/proc/\(pid)/stat") }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else {
      throw Trouble("/proc/\(pid)/stat")
    }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  /// Resident bytes.
  static func residentBytes(_ pid: Int32) throws -> Double { try bytes("VmRSS:", pid) }

  /// The most bytes that were resident at a time.
  static func peakBytes(_ pid: Int32) throws -> Double { try bytes("VmHWM:", pid) }

  private static func bytes(_ field: String, _ pid: Int32) throws -> Double {
    let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
    for line in text.split(separator: "\n") where line.hasPrefix(field) {
      let parts = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      if parts.count > 1, let kibibytes = Double(parts[1]) { return kibibytes * 1024 }
    }
    throw Trouble("/proc/\(pid)/status")
  }
}

/// The machine of this run.
struct Machine {
  var header: String {
    let load = (try? String(contentsOfFile: "/proc/loadavg", encoding: .utf8))?.split(separator: " ").prefix(3)
      .joined(separator: " ")
    return """
      Machine: \(model), \(ProcessInfo.processInfo.activeProcessorCount) cores; load average before: \(load ?? "?")
      \(ProcessInfo.processInfo.operatingSystemVersionString); figures of one core are per second of processor time.

      """
  }

  private var model: String {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown processor"
  }
}
