import Glibc

/// Why a thread's work should end before the session does.
final class Stopper {
  private let parent: Stopper?
  private let deadline: Int64
  var isCancelled = false

  /// - Parameter deadline: nanoseconds on the engine's clock.
  init(parent: Stopper?, deadline: Int64 = .max) {
    self.parent = parent
    self.deadline = deadline
  }

  var isStopped: Bool {
    isCancelled || (deadline != .max && Clock.nanoseconds > deadline) || parent?.isStopped == true
  }
}

/// What each thread of a session has for itself.
struct ThreadState {
  var depth = 0
  var stackLimit: UInt = 0
  var artifactStack: [String] = []
  /// Ends this thread's work before the session does.
  var stopper: Stopper?
  /// Works on although the session was cancelled: for what runs when it closes.
  var isDetached = false
}

/// The one right to evaluate: queries of a session that run beside each other take turns.
///
/// Only the holder touches the session. It gives the turn away while it waits for something outside (a clock, a
/// file, a program), and now and then while it works.
final class Turns: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  /// Threads that hold or want the turn, the session's own not counted.
  var others = 0

  init() {
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
    pthread_mutex_lock(mutex)
  }

  deinit {
    pthread_mutex_unlock(mutex)
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  fileprivate func take() { pthread_mutex_lock(mutex) }
  fileprivate func give() { pthread_mutex_unlock(mutex) }

  /// Wakes those that wait for a change.
  func changed() { pthread_cond_broadcast(condition) }

  /// Gives the turn away until something changed, at most so long.
  fileprivate func wait(nanoseconds: Int64) {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let end = Int64(now.tv_nsec) + nanoseconds
    var until = timespec(tv_sec: now.tv_sec + Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
    pthread_cond_timedwait(condition, mutex, &until)
  }
}

extension Context {
  /// Runs something that waits for the outside while others of the session may work.
  func outside<Result>(_ body: () throws -> Result) rethrows -> Result {
    guard let turns, turns.others > 0 else { return try body() }
    let saved = threadState
    turns.give()
    defer {
      turns.take()
      threadState = saved
    }
    return try body()
  }

  /// Waits until another thread of the session has news, at most so long.
  func waitForNews(milliseconds: Int64 = 20) {
    guard let turns else { return }
    let saved = threadState
    turns.wait(nanoseconds: milliseconds * 1_000_000)
    threadState = saved
  }

  /// Lets others work for a moment.
  func yieldTurn() {
    outside {
      var time = timespec(tv_sec: 0, tv_nsec: 20_000)
      nanosleep(&time, nil)
    }
  }

  /// Runs a body that ends early once so much time has passed.
  func limited<Result>(nanoseconds: Int64, _ body: () throws -> Result) rethrows -> Result {
    let saved = threadState.stopper
    guard nanoseconds != .max else { return try body() }
    threadState.stopper = Stopper(parent: saved, deadline: Clock.nanoseconds &+ nanoseconds)
    defer { threadState.stopper = saved }
    return try body()
  }
}

extension Context {
  /// Runs a body although the session was cancelled, for so long at most.
  func closing(nanoseconds: Int64, _ body: () -> Void) {
    let saved = threadState
    threadState.isDetached = true
    threadState.stopper = nil
    limited(nanoseconds: nanoseconds, body)
    threadState.isDetached = saved.isDetached
    threadState.stopper = saved.stopper
  }
}

/// Bodies of one session that run beside each other, each on a thread of its own; rows go through a bounded queue.
final class Crew {
  private static let queueLimit = 256
  private static let stackSize = 2 << 20

  private final class Work: @unchecked Sendable {
    let body: () -> Void
    let context: Context
    let turns: Turns
    init(_ context: Context, _ turns: Turns, _ body: @escaping () -> Void) {
      self.context = context
      self.turns = turns
      self.body = body
    }
  }

  private let context: Context
  private let turns: Turns
  let stopper: Stopper
  private(set) var running = 0
  private var queue: [VQLValue] = []
  private var taken = 0

  /// - Parameter forSession: the members outlive the thread that starts them.
  init(_ context: Context, forSession: Bool = false) {
    self.context = context
    let turns = context.turns ?? Turns()
    context.turns = turns
    self.turns = turns
    stopper = Stopper(parent: forSession ? nil : context.threadState.stopper)
  }

  /// Starts a body on a new thread; without one it runs here.
  func start(_ body: @escaping (Crew) -> Void) {
    let state = UnsafeShared(ThreadState(artifactStack: context.threadState.artifactStack, stopper: stopper))
    running += 1
    turns.others += 1
    let work = Work(context, turns) { [self] in
      body(self)
      running -= 1
      turns.others -= 1
      turns.changed()
    }
    let run: @Sendable (Work) -> Void = { work in
      work.turns.take()
      work.context.threadState = state.value
      work.context.startThread()
      work.body()
      work.turns.give()
    }
    if !Self.launch(work, run) {
      let saved = context.threadState
      context.threadState = state.value
      context.threadState.stackLimit = saved.stackLimit
      work.body()
      context.threadState = saved
    }
  }

  private final class Launch {
    let work: Work
    let run: @Sendable (Work) -> Void
    init(_ work: Work, _ run: @escaping @Sendable (Work) -> Void) {
      self.work = work
      self.run = run
    }
  }

  private static func launch(_ work: Work, _ run: @escaping @Sendable (Work) -> Void) -> Bool {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, stackSize)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    let box = Unmanaged.passRetained(Launch(work, run))
    var thread = pthread_t()
    let code = pthread_create(
      &thread, &attributes,
      { pointer in
        guard let pointer else { return nil }
        let launch = Unmanaged<Launch>.fromOpaque(pointer).takeRetainedValue()
        launch.run(launch.work)
        return nil
      }, box.toOpaque())
    if code != 0 { box.release() }
    return code == 0
  }

  /// Called by a member: hands a row over, waiting for room; false when no more are wanted.
  func send(_ row: VQLValue) -> Bool {
    while queue.count - taken >= Self.queueLimit && !context.isStopped { context.waitForNews() }
    guard !context.isStopped else { return false }
    queue.append(row)
    turns.changed()
    return true
  }

  /// The next row; nil when the members have ended, the query must end, or so much time has passed.
  func next(milliseconds: Int64 = .max) -> VQLValue? {
    let deadline = milliseconds == .max ? Int64.max : Clock.nanoseconds &+ milliseconds * 1_000_000
    while true {
      if taken < queue.count {
        let row = queue[taken]
        taken += 1
        if taken == queue.count {
          queue.removeAll(keepingCapacity: true)
          taken = 0
          turns.changed()
        }
        return row
      }
      if running == 0 || context.isStopped || Clock.nanoseconds > deadline { return nil }
      context.waitForNews()
    }
  }

  /// Passes rows on until the members have ended or no more are wanted.
  func drain(_ emit: RowSink) {
    while let row = next() {
      if !emit(row) { return }
    }
  }

  var isIdle: Bool { running == 0 && taken == queue.count }

  /// Waits until there is room for one more member, passing rows on; false when no more are wanted.
  func room(for limit: Int, _ emit: RowSink) -> Bool {
    while running >= limit {
      guard let row = next(milliseconds: 0) else {
        if context.isStopped { return false }
        if running >= limit { context.waitForNews() }
        continue
      }
      if !emit(row) { return false }
    }
    return !context.isStopped
  }

  /// Ends the members and waits for them.
  func stop() {
    stopper.isCancelled = true
    turns.changed()
    while running > 0 { context.waitForNews() }
    queue = []
    taken = 0
  }
}
