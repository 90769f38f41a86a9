import NIOCore

/// Runs the tasks of an exchange on its event loop: work that begins and ends there is not handed to other threads in
/// between, each of which would cost more than the work itself. What takes long goes elsewhere, see `WorkPlace`.
final class LoopExecutor: TaskExecutor {
  private let loop: any EventLoop

  init(_ loop: any EventLoop) {
    self.loop = loop
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    loop.execute { [self] in job.runSynchronously(on: asUnownedTaskExecutor()) }
  }
}

/// Where the content of a body is worked on.
enum WorkPlace {
  /// Bytes up to which a body is inflated, parsed and prepared on the event loop; the other connections of the loop wait
  /// meanwhile, so it stays well below a millisecond.
  static let plainLimit = 65_536
  /// The same for compressed lists, which may grow a thousandfold.
  static let compressedLimit = 4_096

  /// Whether a body is small enough for the event loop.
  static func isSmall(bytes: Int, compressed: Bool) -> Bool {
    bytes <= (compressed ? compressedLimit : plainLimit)
  }

  /// Runs `work` where the task runs, or with `isSmall` false on the threads for what takes long.
  static func run<Value: Sendable>(isSmall: Bool, _ work: @Sendable () async throws -> Value) async rethrows -> Value {
    if isSmall { return try await work() }
    return try await withTaskExecutorPreference(globalConcurrentExecutor) { try await work() }
  }
}
