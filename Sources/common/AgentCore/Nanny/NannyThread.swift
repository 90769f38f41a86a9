import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// Runs the nanny on a thread that nothing else of the agent can block (client.md §10).
final class NannyThread: Sendable {
  private let state: Mutex<Nanny>
  private let log: Logger
  private let reasonPath: String
  private let clock: any AgentClock
  private let memory: @Sendable () -> Int
  private let restart: @Sendable () -> Void
  private let end: @Sendable () -> Void
  private let isStopped = Mutex(false)
  private let wake = ThreadSignal()

  /// - Parameters:
  ///   - reasonPath: where the reason for an end is left for the next start.
  ///   - restart: the first remedy.
  ///   - end: ends the process with status 255.
  init(
    nanny: Nanny, reasonPath: String, log: Logger, clock: any AgentClock = SystemAgentClock(),
    memory: @escaping @Sendable () -> Int = ProcessMemory.resident,
    restart: @escaping @Sendable () -> Void = {}, end: @escaping @Sendable () -> Void
  ) {
    state = Mutex(nanny)
    self.reasonPath = reasonPath
    self.log = log
    self.clock = clock
    self.memory = memory
    self.restart = restart
    self.end = end
  }

  /// Starts the thread, unless there is nothing to watch.
  func start() {
    guard state.withLock({ $0.watchesSomething }) else { return }
    QueryThread.start("nanny", stackSize: 256 << 10) { [self] in
      while !isStopped.withLock({ $0 }) {
        wake.wait(atMost: Double(Nanny.period.milliseconds) / 1000)
        guard !isStopped.withLock({ $0 }) else { return }
        check(at: clock.now)
      }
    }
  }

  func stop() {
    isStopped.withLock { $0 = true }
    wake.signal()
  }

  /// What the loops feed.
  var pulse: Pulse {
    Pulse { [self] loop in state.withLock { $0.beat(loop.rawValue, at: clock.now) } }
  }

  /// One look.
  func check(at now: Instant) {
    let used = memory()
    switch state.withLock({ $0.check(at: now, memory: used) }) {
    case .healthy: return
    case .restart(let reason):
      log.error("Nanny: \(reason); the loops are started anew; looking again in \(Nanny.period.inSeconds)")
      restart()
    case .exit(let reason):
      log.critical("Nanny: \(reason); the agent ends with status 255 and is to be started again")
      do throws(AgentError) {
        try AtomicFile.write(Array(reason.utf8), to: reasonPath)
      } catch {
        log.error("Nanny: the reason cannot be saved: \(error)")
      }
      end()
    }
  }

  /// Why the nanny ended the last process; asked once.
  static func takeReason(_ path: String) -> String? {
    guard let bytes = try? AtomicFile.read(path, limit: 4096) else { return nil }
    unlink(path)
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// What this process takes of the host's memory.
package enum ProcessMemory {
  /// Bytes in physical memory, from the second number of `/proc/self/statm`; 0 when it cannot be read.
  package static func resident() -> Int {
    let words = ProcessFile.text("/proc/self/statm").split(separator: " ")
    return words.count > 1 ? (Int(words[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
  }
}
