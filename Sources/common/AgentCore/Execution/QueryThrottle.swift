import Glibc
import Synchronization

/// How long a query must pause so that the process keeps to a rate. A value without I/O.
struct RateBudget: Equatable {
  /// No single pause is longer, so that a cancelled query ends soon.
  static let longestPause: Duration = .milliseconds(300)
  /// Averages begin anew after this time, so that an idle hour does not pay for a busy one.
  static let window: Duration = .seconds(10)

  /// Units that may be used in a second on average: seconds of processor time, or operations.
  let perSecond: Double
  private var start: Instant
  private var usedAtStart: Double

  init(perSecond: Double, at now: Instant, used: Double) {
    self.perSecond = max(perSecond, 0.001)
    start = now
    usedAtStart = used
  }

  /// - Parameter used: what the whole process used so far.
  mutating func pause(at now: Instant, used: Double) -> Duration {
    let spent = (used - usedAtStart) / perSecond * 1000
    let passed = Double((now - start).milliseconds)
    if now - start > Self.window {
      start = now
      usedAtStart = used
    }
    let owed = (spent - passed).rounded()
    guard owed >= 1 else { return .zero }
    return min(.milliseconds(Int64(min(owed, 1e6))), Self.longestPause)
  }
}

/// Holds back the operations of a collector while the process is over its share of the processor or of the disks
/// (flows.md §2 step 6).
final class QueryThrottle: Sendable {
  private struct Limit {
    var budget: RateBudget
    var used: @Sendable () -> Double
  }

  private struct State {
    var limits: [Limit]
    var nextCheck: Instant
  }

  /// What is said in the log: what is limited, and what is ignored.
  let notes: [String]
  private let state: Mutex<State>
  private let isLimiting: Bool

  /// - Parameters:
  ///   - cpuPercent: of all cores; 0 and 100 do not limit, what is beyond them is ignored and said so.
  ///   - ioPerSecond: read and write operations of the whole process; 0 does not limit.
  ///   - cores: of this host; with fewer than two half of it is left to others.
  init(
    cpuPercent: Double, ioPerSecond: Double = 0, cores: Int = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
    at now: Instant = ContinuousClock.now
  ) {
    var notes: [String] = []
    var limits: [Limit] = []
    let isValid = (0...100).contains(cpuPercent)
    if !isValid { notes.append("cpu_limit of \(cpuPercent) is ignored: it must lie between 0 and 100\n") }
    let asked = isValid && cpuPercent > 0 ? cpuPercent : 100
    let percent = cores < 2 ? min(asked, 50) : asked
    if percent < 100 {
      let share = percent / 100 * Double(max(1, cores))
      notes.append(
        "Will throttle query to \(Int(percent)) percent of \(cores) available CPU resources "
          + "(\((share * 100).rounded() / 100) cores long term average).\n")
      let used = ProcessUse.processorSeconds
      limits.append(Limit(budget: RateBudget(perSecond: share, at: now, used: used()), used: used))
    }
    if ioPerSecond > 0, ioPerSecond.isFinite {
      notes.append("Will throttle query to \(ioPerSecond) I/O operations per second.\n")
      let used = ProcessUse.operations
      limits.append(Limit(budget: RateBudget(perSecond: ioPerSecond, at: now, used: used()), used: used))
    }
    self.notes = notes
    isLimiting = !limits.isEmpty
    state = Mutex(State(limits: limits, nextCheck: now))
  }

  /// Called on the query's thread at each operation; sleeps while the process is over its share.
  func operation() {
    guard isLimiting else { return }
    let now = ContinuousClock.now
    let pause = state.withLock { state -> Duration in
      guard now >= state.nextCheck else { return .zero }
      state.nextCheck = now + .milliseconds(10)
      var longest = Duration.zero
      for index in state.limits.indices {
        let used = state.limits[index].used()
        longest = max(longest, state.limits[index].budget.pause(at: now, used: used))
      }
      return longest
    }
    if pause > .zero { usleep(UInt32(clamping: pause.milliseconds * 1000)) }
  }
}

/// What this process has used since it began.
package enum ProcessUse {
  @Sendable package static func processorSeconds() -> Double {
    var usage = rusage()
    guard getrusage(Int32(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
    let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
    let micros = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec
    return Double(seconds) + Double(micros) / 1_000_000
  }

  /// Calls that read or wrote, from `/proc/self/io`; 0 when that cannot be read.
  @Sendable static func operations() -> Double {
    let text = ProcessFile.text("/proc/self/io")
    return text.split(separator: "\n").reduce(0) { sum, line in
      let words = line.split(separator: " ")
      guard words.count == 2, words[0] == "syscr:" || words[0] == "syscw:" else { return sum }
      return sum + (Double(words[1]) ?? 0)
    }
  }
}

/// The small files of `/proc`.
enum ProcessFile {
  /// At most 4 KiB; empty when it cannot be read.
  static func text(_ path: String) -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return "" }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(file, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : ""
  }

  /// A file of any length: it has no size and comes in pieces.
  static func whole(_ path: String, limit: Int = 4 << 20) -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return "" }
    defer { close(file) }
    var bytes: [UInt8] = []
    while bytes.count < limit {
      let piece = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
        count = max(0, read(file, buffer.baseAddress, buffer.count))
      }
      if piece.isEmpty { break }
      bytes += piece
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
