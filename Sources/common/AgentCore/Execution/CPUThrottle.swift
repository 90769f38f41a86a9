import Glibc
import Synchronization

/// How long a query must pause so that the process keeps to its share of the processor. A value without I/O.
struct CPUBudget: Equatable {
  /// No single pause is longer, so that a cancelled query ends soon.
  static let longestPause: Duration = .milliseconds(300)
  /// Averages begin anew after this time, so that an idle hour does not pay for a busy one.
  static let window: Duration = .seconds(10)

  /// Cores that may be busy on average.
  let cores: Double
  private var wallStart: Instant
  private var cpuStart: Duration

  init(cores: Double, at now: Instant, cpu: Duration) {
    self.cores = max(cores, 0.001)
    wallStart = now
    cpuStart = cpu
  }

  /// - Parameter cpu: processor time of the whole process so far.
  mutating func pause(at now: Instant, cpu: Duration) -> Duration {
    let used = Double((cpu - cpuStart).milliseconds)
    let passed = Double((now - wallStart).milliseconds)
    if now - wallStart > Self.window {
      wallStart = now
      cpuStart = cpu
    }
    let owed = used / cores - passed
    guard owed >= 1 else { return .zero }
    return min(.milliseconds(Int64(min(owed, 1e6))), Self.longestPause)
  }
}

/// Holds back the operations of a collector (flows.md §2 step 6).
final class CPUThrottle: Sendable {
  private struct State {
    var budget: CPUBudget
    var nextCheck: Instant
  }

  /// What is said in the log.
  let announcement: String
  private let state: Mutex<State>

  /// - Parameters:
  ///   - percent: of all cores; anything but 1 to 99 does not limit.
  ///   - cores: of this host; with fewer than two half of it is left to others.
  /// - Returns: nil when nothing is limited.
  init?(percent: Double, cores: Int = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) {
    let asked = percent > 0 && percent < 100 ? percent : 100
    let effective = cores < 2 ? min(asked, 50) : asked
    guard effective < 100 else { return nil }
    let share = effective / 100 * Double(max(1, cores))
    announcement =
      "Will throttle query to \(Int(effective)) percent of \(cores) available CPU resources "
      + "(\((share * 100).rounded() / 100) cores long term average).\n"
    let now = ContinuousClock.now
    state = Mutex(State(budget: CPUBudget(cores: share, at: now, cpu: Self.processTime()), nextCheck: now))
  }

  /// Called on the query's thread at each operation; sleeps when the process is over its share.
  func operation() {
    let now = ContinuousClock.now
    let pause = state.withLock { state -> Duration in
      guard now >= state.nextCheck else { return .zero }
      state.nextCheck = now + .milliseconds(10)
      return state.budget.pause(at: now, cpu: Self.processTime())
    }
    if pause > .zero { usleep(UInt32(clamping: pause.milliseconds * 1000)) }
  }

  private static func processTime() -> Duration {
    var usage = rusage()
    guard getrusage(Int32(RUSAGE_SELF.rawValue), &usage) == 0 else { return .zero }
    let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
    let micros = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec
    return .seconds(Int64(seconds)) + .microseconds(Int64(micros))
  }
}
