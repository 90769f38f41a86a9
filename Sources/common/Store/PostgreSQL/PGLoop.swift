import CLibPQ
import Foundation
import Synchronization

/// The only thread that touches libpq: it polls the sockets of a few connections and an eventfd that wakes it.
///
/// Any thread hands jobs in; their completions run on the loop's thread and must not wait.
final class PGLoop: Sendable {
  private struct Inbox {
    var jobs: [PGJob] = []
    var givenBack: [PGSession] = []
    var isClosed = false
    /// The loop has ended, so nothing more is taken.
    var hasEnded = false
    var closers: [CheckedContinuation<Void, Never>] = []
  }

  private let inbox = Mutex(Inbox())
  private let wakeup: Int32

  init(
    target: PGTarget, tuning: PostgreSQLTuning, options: StoreOptions, status: PGStatus, events: PGEvents
  ) throws {
    wakeup = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
    guard wakeup >= 0 else { throw StoreError.errno(errno, "cannot make an eventfd") }
    let thread = Thread { [self] in
      let environment = PGEnvironment(
        target: target, tuning: tuning, options: options, status: status, events: events)
      PGDispatcher(environment: environment, events: events, status: status).run(self)
    }
    thread.name = "postgresql"
    thread.start()
  }

  deinit {
    Foundation.close(wakeup)
  }

  /// Hands a job in; its completion is called exactly once.
  func submit(_ job: PGJob) {
    let isTaken = inbox.withLock { inbox in
      guard !inbox.hasEnded else { return false }
      inbox.jobs.append(job)
      return true
    }
    guard isTaken else {
      return job.completion(.failure(.unreachable(StoreError(.unavailable, "the store is closed"))))
    }
    wake()
  }

  /// Ends a kept session without a commit.
  func giveBack(_ session: PGSession) {
    inbox.withLock { $0.givenBack.append(session) }
    wake()
  }

  /// Closes all connections and ends the thread; jobs that wait fail.
  func close() async {
    await withCheckedContinuation { continuation in
      let isOver = inbox.withLock { inbox in
        guard !inbox.hasEnded else { return true }
        inbox.isClosed = true
        inbox.closers.append(continuation)
        return false
      }
      if isOver { continuation.resume() } else { wake() }
    }
  }

  /// As `close`, without waiting.
  func closeSoon() {
    inbox.withLock { $0.isClosed = true }
    wake()
  }

  func wake() {
    var one: UInt64 = 1
    _ = write(wakeup, &one, 8)
  }

  // MARK: the loop's side

  fileprivate var descriptor: Int32 { wakeup }

  fileprivate func takeInbox() -> (jobs: [PGJob], givenBack: [PGSession], isClosed: Bool) {
    inbox.withLock { inbox in
      defer {
        inbox.jobs = []
        inbox.givenBack = []
      }
      return (inbox.jobs, inbox.givenBack, inbox.isClosed)
    }
  }

  fileprivate func ended() {
    let (jobs, closers) = inbox.withLock { inbox in
      inbox.hasEnded = true
      defer {
        inbox.jobs = []
        inbox.closers = []
      }
      return (inbox.jobs, inbox.closers)
    }
    for job in jobs {
      job.completion(.failure(.unreachable(StoreError(.unavailable, "the store is closed"))))
    }
    for closer in closers { closer.resume() }
  }
}

/// Gives jobs to connections. Confined to the loop's thread.
private final class PGDispatcher {
  private let environment: PGEnvironment
  private let events: PGEvents
  private let status: PGStatus
  private let connections: [PGConnection]
  private var waiting: [[PGJob]] = PGRole.allCases.map { _ in [] }
  private var nextPing: ContinuousClock.Instant

  init(environment: PGEnvironment, events: PGEvents, status: PGStatus) {
    self.environment = environment
    self.events = events
    self.status = status
    connections = PGRole.allCases.flatMap { role in
      (0..<environment.tuning.connections(of: role)).map { _ in PGConnection(role: role, environment: environment) }
    }
    nextPing = .now
  }

  func run(_ loop: PGLoop) {
    while true {
      let news = loop.takeInbox()
      if news.isClosed { break }
      for session in news.givenBack {
        connections.first { $0.session == session && $0.phase == .kept }?.giveBack()
      }
      for job in news.jobs { take(job) }
      let now = ContinuousClock.now
      expire(now)
      dispatch(now)
      wait(loop, until: nextTimer(), now)
    }
    for job in waiting.joined() {
      job.completion(.failure(.unreachable(StoreError(.unavailable, "the store is closed"))))
    }
    for connection in connections { connection.shutDown() }
    loop.ended()
  }

  private func take(_ job: PGJob) {
    switch job.place {
    case .free(let role): waiting[role.rawValue].append(job)
    case .kept(let session):
      guard let connection = connections.first(where: { $0.session == session && $0.phase == .kept }) else {
        return job.completion(.failure(.lost("the connection of the transaction is gone")))
      }
      connection.begin(job)
    }
  }

  /// Fails what waited too long and lets connections look at their timers.
  private func expire(_ now: ContinuousClock.Instant) {
    for role in PGRole.allCases where waiting[role.rawValue].contains(where: { $0.deadline <= now }) {
      let late = waiting[role.rawValue].filter { $0.deadline <= now }
      waiting[role.rawValue].removeAll { $0.deadline <= now }
      let isConnected = connections.contains { $0.role == role && $0.phase != .closed && $0.phase != .connecting }
      let busy = StoreError(.busy, "all connections to PostgreSQL are busy; look for slow queries or long transactions")
      let absent = StoreError(.unavailable, "no connection to PostgreSQL in time; check Datastore.url and the server")
      let error = status.lastFailure ?? (isConnected ? busy : absent)
      for job in late { job.completion(.failure(.unreachable(error))) }
    }
    for connection in connections {
      if let timer = connection.timer, timer <= now { connection.timedOut() }
    }
  }

  private func dispatch(_ now: ContinuousClock.Instant) {
    pingListener(now)
    for role in PGRole.allCases {
      let own = connections.filter { $0.role == role }
      for connection in own where connection.phase == .idle {
        guard !waiting[role.rawValue].isEmpty else { break }
        connection.begin(waiting[role.rawValue].removeFirst())
      }
      var missing = waiting[role.rawValue].count
      if role == .listen, events.isWanted { missing = max(missing, 1) }
      for connection in own where missing > 0 {
        switch connection.phase {
        case .connecting, .settingUp: missing -= 1
        case .closed where connection.timer ?? now <= now:
          connection.connect(now: now)
          missing -= 1
        case .idle where role == .listen: missing -= 1
        default: break
        }
      }
    }
  }

  /// A LISTEN connection is silent by nature: only a question shows that it is dead.
  private func pingListener(_ now: ContinuousClock.Instant) {
    guard events.isWanted, nextPing <= now, waiting[PGRole.listen.rawValue].isEmpty,
      connections.contains(where: { $0.role == .listen && $0.phase == .idle })
    else { return }
    nextPing = now.advanced(by: environment.tuning.listenInterval)
    take(
      PGJob(
        place: .free(.listen), statements: [PGStatement(PGEvents.sqlHorizon)], keeps: false,
        deadline: now.advanced(by: environment.tuning.deadline)
      ) { [events] result in
        if case .success(let reply) = result, let row = reply.results.first?.first { events.move(to: row.int(0)) }
      })
  }

  private func nextTimer() -> ContinuousClock.Instant? {
    var times = connections.compactMap { connection -> ContinuousClock.Instant? in
      let isNeeded =
        connection.phase != .closed || !waiting[connection.role.rawValue].isEmpty
        || (connection.role == .listen && events.isWanted)
      return isNeeded ? connection.timer : nil
    }
    if let soonest = waiting.joined().map(\.deadline).min() { times.append(soonest) }
    if connections.contains(where: { $0.role == .listen && $0.phase == .idle }) { times.append(nextPing) }
    return times.min()
  }

  private func wait(_ loop: PGLoop, until timer: ContinuousClock.Instant?, _ now: ContinuousClock.Instant) {
    var polled = [pollfd(fd: loop.descriptor, events: Int16(POLLIN), revents: 0)]
    let open = connections.filter { $0.descriptor >= 0 }
    for connection in open {
      polled.append(pollfd(fd: connection.descriptor, events: connection.interest, revents: 0))
    }
    var milliseconds: Int32 = -1
    if let timer { milliseconds = Int32(clamping: max(0, (timer - now).wholeMicroseconds / 1_000 + 1)) }
    guard poll(&polled, nfds_t(polled.count), milliseconds) > 0 else { return }
    if let first = polled.first, first.revents != 0 {
      var count: UInt64 = 0
      _ = read(loop.descriptor, &count, 8)
    }
    for (connection, entry) in zip(open, polled.dropFirst()) { connection.ready(entry.revents) }
  }
}
