import Logging
import Synchronization

/// Executes the connector's steps: finds a server, checks its certificate, posts bodies and classifies what comes back.
/// Both loops share it; while one looks for a server the other waits.
package actor Link {
  /// What may be told to the outside.
  package struct Events: Sendable {
    /// A new server.pem was accepted.
    package var serverPEM: @Sendable (String) -> Void = { _ in }
    package init() {}
  }

  private var connector: Connector
  private let session: any ServerSession
  private let transport: any Transport
  private let clock: any AgentClock
  private let log: Logger
  private let events: Events
  private let pulse: Pulse
  /// After this many failed rounds `exchange` throws instead of waiting; for `--once`.
  private let patience: Int?
  private var isConnecting = false
  private var waiters: [CheckedContinuation<Void, Never>] = []
  private var lastServerPEM: [UInt8] = []
  private static let patienceWithConflicts = 4
  private static let patienceWithEmptyAnswers = 5
  /// Failed rounds after which help is named.
  private static let roundsBeforeHelp = 3
  private var conflicts = 0
  private var emptyInARow = 0
  private var wasAskedToEnrol = false
  /// No server served since the last wait.
  private var wasOut = false
  private var lastFailure = "no server was tried"
  /// How many authentic answers there were.
  package private(set) var sealedAnswers = 0

  package init(
    connector: Connector, session: any ServerSession, transport: any Transport, clock: any AgentClock, log: Logger,
    events: Events = Events(), pulse: Pulse = .ignored, patience: Int? = nil
  ) {
    self.connector = connector
    self.session = session
    self.transport = transport
    // While one loop looks for a server the other one waits for it.
    self.clock = BeatingClock(clock, pulse, .reader, .sender)
    self.log = log
    self.events = events
    self.pulse = pulse
    self.patience = patience
  }

  /// One POST.
  ///
  /// - Throws: `CancellationError` when the agent stops, or `AgentError` when a server cannot be found in `--once`.
  package func exchange(
    handler: String, lists: [[UInt8]], compressed: Bool, urgent: Bool,
    onHeaders: (@Sendable (Int) -> Void)? = nil
  ) async throws -> ExchangeResult {
    let target = try await ready()
    let result: ExchangeResult
    let served = Served()
    let loop: AgentLoop = handler == "reader" ? .reader : .sender
    pulse.beat(loop)
    do {
      let url = try BaseURL(target.url)
      let body = try session.seal(lists: lists, compressed: compressed)
      var request = TransportRequest(url: url, handler: handler, body: body)
      request.isUrgent = urgent
      request.isRedirected = target.redirected
      request.onHeaders = { status in
        if status == 200 {
          served.flag.withLock { $0 = true }
          // A reader's answer may end much later; who reads the log wants to know now.
          if loop == .reader { Task { await self.served(by: target) } }
        }
        onHeaders?(status)
      }
      request.onProgress = { [pulse] in pulse.beat(loop) }
      log.debug("Posting \(body.count) bytes to \(target.url)\(handler)")
      result = classify(try await transport.perform(request), of: handler)
    } catch {
      let reason = String(describing: error)
      result = served.flag.withLock { $0 } ? .interrupted(reason) : .broken(reason)
    }
    try Task.checkCancellation()
    settle(result, target, handler)
    return result
  }

  /// Whether the headers of a 200 came.
  private final class Served: Sendable {
    let flag = Mutex(false)
  }

  // MARK: finding a server

  private func ready() async throws -> Connector.Target {
    while isConnecting { await withCheckedContinuation { waiters.append($0) } }
    try Task.checkCancellation()
    isConnecting = true
    defer {
      isConnecting = false
      let waiting = waiters
      waiters = []
      for waiter in waiting { waiter.resume() }
    }
    while true {
      switch connector.next(at: clock.now) {
      case .use(let target): return target
      case .fetchServerPEM(let target, let rekey): try await fetchServerPEM(target, rekey: rekey)
      case .wait(let until):
        if let patience, connector.failedRounds >= patience {
          throw AgentError(.connection, "no server could be reached: \(lastFailure)")
        }
        wasOut = true
        if connector.failedRounds == Self.roundsBeforeHelp {
          log.notice("For causes and remedies run: agent doctor --config FILE")
        }
        log.info("No server is usable now; next try at \(connector.url) in \((until - clock.now).inSeconds)")
        try await clock.sleep(until: until)
      }
    }
  }

  private func fetchServerPEM(_ target: Connector.Target, rekey: Bool) async throws {
    let answer: TransportAnswer
    do {
      var request = TransportRequest(url: try BaseURL(target.url), handler: "server.pem", body: nil)
      request.responseLimit = 50 << 20
      request.onProgress = { [pulse] in AgentLoop.allCases.forEach(pulse.beat) }
      request.onProgress?()
      log.debug("Fetching \(target.url)server.pem")
      answer = try await transport.perform(request)
    } catch {
      try Task.checkCancellation()
      return leave(target, .unavailable(retryAfter: nil), "\(target.url)server.pem: \(error)")
    }
    guard answer.status == 200 else {
      return leave(
        target, .unavailable(retryAfter: answer.retryAfter),
        "\(target.url)server.pem: \(Self.unexpected(answer))")
    }
    do {
      let name = try session.accept(serverPEM: answer.body, rekey: rekey)
      log.info("Received PEM for \(name) from \(target.url)")
      connector.serverAccepted(target)
      if answer.body != lastServerPEM {
        lastServerPEM = answer.body
        events.serverPEM(String(decoding: answer.body, as: UTF8.self))
      }
    } catch {
      leave(target, .rejected(retryAfter: nil), "\(target.url)server.pem is refused: \(error)\(Self.pageHint(answer))")
    }
  }

  /// Why there is no certificate in an answer.
  private static func unexpected(_ answer: TransportAnswer) -> String {
    var text = "answered \(answer.status)"
    if let location = answer.location { text += " to \(location)" }
    if let after = answer.retryAfter { text += ", Retry-After \(after.inSeconds)" }
    return text + (answer.location == nil ? pageHint(answer) : " (a captive portal?)")
  }

  private static func pageHint(_ answer: TransportAnswer) -> String {
    WebPage.isOne(answer.body) ? " (a web page came instead: a captive portal?)" : ""
  }

  private func leave(_ target: Connector.Target, _ failure: Connector.Failure, _ what: String) {
    connector.failed(target, failure, at: clock.now)
    lastFailure = what
    let next = connector.url
    log.warning("\(what)\(next == target.url || connector.mustWait ? "" : "; trying \(next) next")")
  }

  // MARK: answers

  private func classify(_ answer: TransportAnswer, of handler: String) -> ExchangeResult {
    switch answer.status {
    case 200 where answer.isMessage && answer.body.isEmpty && handler == "control": return .accepted
    case 200:
      do {
        guard let lists = try session.open(answer.body) else { return answer.body.isEmpty ? .empty : .padding }
        return .sealed(lists)
      } catch {
        return .foreign(String(describing: error))
      }
    case 301: return .redirect(answer.location)
    case 400, 413: return .refused(answer.status)
    case 406: return .enrol
    case 409: return .conflict
    case 408, 429, 503: return .busy(answer.status, retryAfter: answer.retryAfter)
    default: return .rejected(answer.status, retryAfter: answer.retryAfter)
    }
  }

  /// The reader waits by itself, so that results still leave. A server that says this for ever is left.
  private func conflict(_ target: Connector.Target, _ place: String) {
    conflicts += 1
    if conflicts % Self.patienceWithConflicts == 0 {
      return leave(target, .unavailable(retryAfter: nil), "\(place): \(ExchangeResult.conflict.summary)")
    }
    log.warning(
      "\(place): \(ExchangeResult.conflict.summary). If this goes on, another host uses a copy of this state file")
  }

  /// A server lets us wait, or acknowledged something: said once after an enrollment and after an outage.
  private func served(by target: Connector.Target) {
    if wasAskedToEnrol { log.info("Enrolled: \(target.url) knows this agent") }
    wasAskedToEnrol = false
    if wasOut { log.info("\(target.url) serves again") }
    wasOut = false
  }

  private func settle(_ result: ExchangeResult, _ target: Connector.Target, _ handler: String) {
    let place = "\(target.url)\(handler)"
    emptyInARow = result == .empty ? emptyInARow + 1 : 0
    switch result {
    case .sealed, .accepted:
      if case .sealed = result { sealedAnswers += 1 }
      conflicts = 0
      served(by: target)
      connector.succeeded(target)
      log.debug("\(place): \(result.summary)")
    case .enrol:
      wasAskedToEnrol = true
      connector.succeeded(target)
      log.debug("\(place): \(result.summary)")
    case .padding:
      connector.succeeded(target)
      log.debug("\(place): \(result.summary)")
    case .empty:
      connector.succeeded(target)
      if emptyInARow == Self.patienceWithEmptyAnswers {
        log.warning(
          """
          \(place): answered 200 with nothing in it \(emptyInARow) times in a row: the server has no record of \
          this agent yet, or something on the way answers in its place
          """)
      }
      log.debug("\(place): \(result.summary)")
    case .refused:
      connector.succeeded(target)
      log.warning("\(place): \(result.summary)")
    case .conflict: conflict(target, place)
    case .redirect(let location):
      connector.redirected(target, to: location, at: clock.now)
      log.info("\(place): \(result.summary); now at \(connector.url)")
    case .busy(_, let after): leave(target, .unavailable(retryAfter: after), "\(place): \(result.summary)")
    case .interrupted: leave(target, .interrupted, "\(place): \(result.summary)")
    case .broken: leave(target, .unavailable(retryAfter: nil), "\(place): \(result.summary)")
    case .rejected(403, let after): leave(target, .rejected(retryAfter: after), "\(place): \(result.summary)")
    // The session is not in doubt: a new one would only cost the server an RSA operation.
    case .rejected(_, let after): leave(target, .unavailable(retryAfter: after), "\(place): \(result.summary)")
    case .foreign: leave(target, .rejected(retryAfter: nil), "\(place): \(result.summary)")
    }
  }
}
