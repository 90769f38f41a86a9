import Glibc
import Synchronization

/// The clocks of the executor: one for durations, one for the times that are reported.
package struct Timekeeper: Sendable {
  package var monotonic: @Sendable () -> Instant
  /// Microseconds since 1970.
  package var microseconds: @Sendable () -> UInt64

  package init(monotonic: @escaping @Sendable () -> Instant, microseconds: @escaping @Sendable () -> UInt64) {
    self.monotonic = monotonic
    self.microseconds = microseconds
  }

  package static let system = Timekeeper(
    monotonic: { ContinuousClock.now },
    microseconds: {
      var now = timespec()
      clock_gettime(CLOCK_REALTIME, &now)
      return UInt64(max(0, now.tv_sec)) * 1_000_000 + UInt64(now.tv_nsec) / 1000
    })
}

/// Threads for queries: they may block, and they recurse deeply.
enum QueryThread {
  private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void

    init(_ name: String, _ run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Work that found no thread because the host gives no more: threads that end their own take it.
  private static let waiting = Mutex<[Body]>([])

  /// - Parameter name: for debuggers, which show its first 15 bytes.
  static func start(_ name: String, stackSize: Int = 8 << 20, _ run: @escaping @Sendable () -> Void) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, stackSize)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    let body = Body(name, run)
    if !spawn(&attributes, body) { waiting.withLock { $0.append(body) } }
  }

  private static func spawn(_ attributes: inout pthread_attr_t, _ body: Body) -> Bool {
    let context = Unmanaged.passRetained(body)
    var thread = pthread_t()
    guard pthread_create(&thread, &attributes, Self.entry, context.toOpaque()) != 0 else { return true }
    context.release()
    return false
  }

  private static let entry: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
    guard let argument else { return nil }
    runAll(from: Unmanaged<Body>.fromOpaque(argument).takeRetainedValue())
    return nil
  }

  private static func runAll(from first: Body) {
    var next: Body? = first
    while let body = next {
      setName(body.name)
      body.run()
      next = waiting.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    }
  }

  /// The C function is a GNU extension that Swift does not see.
  private static func setName(_ name: String) {
    let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    defer { close(file) }
    let bytes = Array(name.utf8.prefix(15))
    _ = write(file, bytes, bytes.count)
  }
}
