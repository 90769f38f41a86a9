import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// The threads that do RSA, behind a bounded queue. They run at a lower priority than the link's thread, so that they
/// fill only what the warm lane leaves.
final class ColdLane: Sendable {
  /// Jobs that may wait; beyond it work is refused.
  let limit: Int

  private struct Queue {
    var jobs: [@Sendable () -> Void] = []
    var head = 0
    var stopped = false

    var depth: Int { jobs.count - head }

    mutating func next() -> (@Sendable () -> Void)? {
      guard head < jobs.count else { return nil }
      let job = jobs[head]
      head += 1
      if head > 1024, head * 2 > jobs.count {
        jobs.removeFirst(head)
        head = 0
      }
      return job
    }
  }

  private let queue = Mutex(Queue())
  private let available = DispatchSemaphore(value: 0)
  private let threads: Int

  init(threads: Int, limit: Int) {
    self.threads = max(1, threads)
    self.limit = limit
    for number in 0..<self.threads {
      let thread = Thread { [self] in run() }
      thread.name = "cold-\(number)"
      thread.stackSize = 1 << 20
      thread.start()
    }
  }

  var depth: Int { queue.withLock { $0.depth } }

  /// - Returns: false when the lane is full or stopped; the job is then not run.
  func submit(_ job: @escaping @Sendable () -> Void) -> Bool {
    let accepted = queue.withLock { queue in
      guard !queue.stopped, queue.depth < limit else { return false }
      queue.jobs.append(job)
      return true
    }
    if accepted { available.signal() }
    return accepted
  }

  /// Lets the threads end after the jobs that are queued.
  func stop() {
    queue.withLock { $0.stopped = true }
    for _ in 0..<threads { available.signal() }
  }

  /// On Linux both belong to the thread, and no right is needed: a nice value, and a policy by which a thread that wakes
  /// up never takes the processor from another. Where they cannot be set all threads are equal: no harm.
  private func yieldToOthers() {
    setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
    var parameter = sched_param()
    _ = sched_setscheduler(0, Self.batch, &parameter)
  }

  /// SCHED_BATCH, a macro that is not imported.
  private static let batch: Int32 = 3

  private func run() {
    yieldToOthers()
    while true {
      available.wait()
      let (job, stopped) = queue.withLock { ($0.next(), $0.stopped) }
      if let job { job() } else if stopped { return }
    }
  }
}
