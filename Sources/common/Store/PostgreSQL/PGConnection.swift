import CLibPQ
import Foundation

/// One connection in pipeline mode. Confined to the thread of its `PGLoop`; nothing here waits.
final class PGConnection {
  enum Phase: Equatable {
    case closed
    case connecting
    case settingUp
    case idle
    case working
    /// A caller keeps it, inside a transaction.
    case kept
    case rollingBack
  }

  /// What the server still has to answer.
  private enum Step {
    case prepare(sql: String, name: String)
    case execute
    case sync
  }

  let role: PGRole
  private(set) var phase = Phase.closed
  /// When the present phase has lasted too long; for `closed`, when to connect again.
  private(set) var timer: ContinuousClock.Instant?
  private(set) var session = PGSession(number: -1)
  private(set) var attempts = 0
  private var handle: OpaquePointer?
  private var polling = PGRES_POLLING_WRITING
  private var wantsToSend = false
  private var steps: ArraySlice<Step> = []
  private var emptyAnswers = 0
  private var results: [PGResult] = []
  private var refusal: PGFailure?
  private var job: PGJob?
  private var prepared: [String: String] = [:]
  private let environment: PGEnvironment

  init(role: PGRole, environment: PGEnvironment) {
    self.role = role
    self.environment = environment
  }

  // MARK: poll(2)

  var descriptor: Int32 { handle.map(PQsocket) ?? -1 }

  /// The events to wait for.
  var interest: Int16 {
    switch phase {
    case .closed: 0
    case .connecting: Int16(polling == PGRES_POLLING_READING ? POLLIN : POLLOUT)
    default: Int16(wantsToSend ? POLLIN | POLLOUT : POLLIN)
    }
  }

  func ready(_ events: Int16) {
    guard events != 0 else { return }
    if phase == .connecting { return advanceConnecting() }
    if wantsToSend { flush() }
    guard let handle, events & Int16(POLLIN | POLLHUP | POLLERR) != 0 else { return }
    guard PQconsumeInput(handle) == 1 else { return lose(message) }
    collect()
    takeNotifications()
  }

  // MARK: connecting

  func connect(now: ContinuousClock.Instant) {
    attempts += 1
    phase = .connecting
    timer = now.advanced(by: environment.tuning.connectTimeout)
    polling = PGRES_POLLING_WRITING
    handle = environment.target.start(attempt: attempts - 1)
    guard let handle else { return fail(StoreError(.unavailable, "no memory for a connection")) }
    guard PQstatus(handle) != CONNECTION_BAD else { return fail(PGFailure.connecting(message)) }
    _ = PQsetNoticeReceiver(handle, { _, _ in }, nil)
  }

  private func advanceConnecting() {
    polling = PQconnectPoll(handle)
    switch polling {
    case PGRES_POLLING_FAILED: fail(PGFailure.connecting(message))
    case PGRES_POLLING_OK:
      guard PQsetnonblocking(handle, 1) == 0, PQenterPipelineMode(handle) == 1 else {
        return fail(PGFailure.connecting("pipeline mode is refused"))
      }
      phase = .settingUp
      send(environment.setup(role))
    default: break
    }
  }

  /// The timer of the phase rang.
  func timedOut() {
    switch phase {
    case .connecting: fail(PGFailure.connecting("no answer within \(environment.tuning.connectTimeout)"))
    case .closed, .idle: timer = nil
    case .settingUp, .working, .kept, .rollingBack: lose("no answer in time")
    }
  }

  /// An attempt to connect failed.
  private func fail(_ error: StoreError) {
    environment.report(error)
    close(pause: true)
  }

  /// An established connection broke.
  private func lose(_ reason: String) {
    let line = reason.split(separator: "\n").joined(separator: "; ")
    if phase == .settingUp { environment.report(PGFailure.connecting(line)) }
    let failed = job
    job = nil
    close(pause: phase == .settingUp)
    failed?.completion(.failure(.lost(line)))
  }

  private func close(pause: Bool) {
    if let handle { PQfinish(handle) }
    handle = nil
    phase = .closed
    prepared = [:]
    steps = []
    results = []
    refusal = nil
    wantsToSend = false
    session = PGSession(number: -1)
    if !pause { attempts = 0 }
    timer = pause ? ContinuousClock.now.advanced(by: environment.tuning.pause(before: attempts)) : nil
  }

  func shutDown() {
    let failed = job
    job = nil
    close(pause: false)
    failed?.completion(.failure(.unreachable(StoreError(.unavailable, "the store is closed"))))
  }

  // MARK: work

  /// Begins a job; the connection is idle or kept by the job's caller.
  func begin(_ job: PGJob) {
    self.job = job
    if phase == .idle { session = environment.nextSession() }
    phase = .working
    timer = job.deadline
    send(job.statements)
  }

  /// Gives a kept connection back without a commit.
  func giveBack() {
    rollBack()
  }

  private func rollBack() {
    session = PGSession(number: -1)
    phase = .rollingBack
    timer = ContinuousClock.now.advanced(by: environment.tuning.deadline)
    send([PGStatement("ROLLBACK")])
  }

  private var message: String { handle.flatMap(PQerrorMessage).map { String(cString: $0) } ?? "closed" }

  private func send(_ statements: [PGStatement]) {
    results = []
    refusal = nil
    emptyAnswers = 0
    var planned: [Step] = []
    var names: [String: String] = [:]
    for statement in statements {
      let name: String
      if let known = prepared[statement.sql] ?? names[statement.sql] {
        name = known
      } else {
        name = "s\(prepared.count + names.count)"
        names[statement.sql] = name
        guard PQsendPrepare(handle, name, statement.sql, 0, nil) == 1 else { return lose(message) }
        planned.append(.prepare(sql: statement.sql, name: name))
      }
      guard statement.send(name, handle) else { return lose(message) }
      planned.append(.execute)
    }
    guard PQpipelineSync(handle) == 1 else { return lose(message) }
    planned.append(.sync)
    steps = planned[...]
    flush()
  }

  private func flush() {
    switch PQflush(handle) {
    case 0: wantsToSend = false
    case 1: wantsToSend = true
    default: lose(message)
    }
  }

  /// Takes the answers that have arrived.
  private func collect() {
    while let handle, let step = steps.first, PQisBusy(handle) == 0 {
      guard let answer = PQgetResult(handle) else {
        // The end of one statement's answers.
        emptyAnswers += 1
        if case .sync = step {
          guard emptyAnswers < 3 else { return lose("the answers are out of step") }
        } else {
          steps.removeFirst()
        }
        continue
      }
      emptyAnswers = 0
      take(PGResult(owning: answer), step)
    }
  }

  private func take(_ result: PGResult, _ step: Step) {
    switch (result.status, step) {
    case (PGRES_PIPELINE_SYNC, _):
      steps = []
      finish()
    case (PGRES_COMMAND_OK, .prepare(let sql, let name)): prepared[sql] = name
    case (PGRES_COMMAND_OK, .execute), (PGRES_TUPLES_OK, .execute): results.append(result)
    case (PGRES_PIPELINE_ABORTED, _): break
    default:
      guard PQstatus(handle) != CONNECTION_BAD else { return lose(message) }
      let (state, text) = (result.errorState, result.errorText)
      guard !PGFailure.endsConnection(state: state) else { return lose("\(text) [\(state)]") }
      if refusal == nil { refusal = .refused(state: state, message: text) }
    }
  }

  /// All answers of what was sent are there.
  private func finish() {
    let finished = job
    job = nil
    timer = nil
    switch (phase, refusal) {
    case (.settingUp, nil): setUp()
    case (.settingUp, let refusal?):
      environment.report(refusal.storeError)
      close(pause: true)
    case (.rollingBack, _): phase = .idle
    case (_, let refusal?):
      if case .refused("25006", _) = refusal {
        // This server became a standby: the next attempt may find the primary.
        close(pause: true)
      } else {
        rollBack()
      }
      finished?.completion(.failure(refusal))
    case (_, nil):
      takeNotifications()
      let reply = PGReply(results: results, session: session)
      results = []
      if finished?.keeps == true {
        phase = .kept
        timer = ContinuousClock.now.advanced(by: .seconds(60))
      } else {
        session = PGSession(number: -1)
        phase = .idle
      }
      finished?.completion(.success(reply))
    }
  }

  private func setUp() {
    phase = .idle
    attempts = 0
    environment.connected(role, results)
    results = []
  }

  private func takeNotifications() {
    guard role == .listen else { return }
    while let handle, let notification = PQnotifies(handle) {
      if let text = notification.pointee.extra { environment.notified(String(cString: text)) }
      PQfreemem(notification)
    }
  }
}

extension PGStatement {
  /// Hands the statement to libpq, which copies it.
  fileprivate func send(_ name: String, _ handle: OpaquePointer?) -> Bool {
    buffer.withUnsafeBufferPointer { bytes in
      // An empty value needs an address too: a null pointer means NULL.
      var empty: CChar = 0
      return withUnsafePointer(to: &empty) { nothing in
        let values = spans.map { span -> UnsafePointer<CChar>? in
          guard span.length >= 0 else { return nil }
          guard span.length > 0, let base = bytes.baseAddress else { return nothing }
          return UnsafeRawPointer(base + span.offset).assumingMemoryBound(to: CChar.self)
        }
        let lengths = spans.map { Int32(clamping: max(0, $0.length)) }
        let formats = [Int32](repeating: 1, count: spans.count)
        return PQsendQueryPrepared(handle, name, Int32(clamping: spans.count), values, lengths, formats, 1) == 1
      }
    }
  }
}
