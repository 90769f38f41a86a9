/// Chooses the server (client.md §2.2 and §2.4, http.md §6). A value without I/O: both loops report what happened to
/// them and ask for the next step.
///
/// The list is shuffled and entered at a random place. A server that fails is left at once for the next; when all were
/// tried there is one wait, and the next round begins with the last good one. Reports carry the generation of the
/// target they speak about: when both loops see the same server die, it is left once.
package struct Connector: Sendable {
  package struct Target: Equatable, Sendable {
    package let url: String
    /// Changes with each change of server.
    package let generation: Int
    /// Whether `?r=1` is to be appended to the URL.
    package let redirected: Bool
  }

  package enum Step: Equatable, Sendable {
    /// Fetch and check server.pem, then report `serverAccepted` or `failed`. With `rekey` the sessions must be dropped
    /// even if the key is the one already known.
    case fetchServerPEM(Target, rekey: Bool)
    case use(Target)
    /// All servers failed, or asked for time.
    case wait(until: Instant)
  }

  package enum Failure: Sendable {
    /// No connection, or the server is busy: the session is not in doubt.
    case unavailable(retryAfter: Duration?)
    /// The server accepted a request and was lost inside its answer.
    case interrupted
    /// The server refused us: its key or our session may be wrong.
    case rejected(retryAfter: Duration?)
  }

  /// A redirect marks this many following URL uses with `?r=1`.
  static let redirectUses = 200
  /// Redirects must not grow the list without bound.
  static let urlLimit = 32
  /// Longer `Retry-After` values are cut to this.
  static let longestRetryAfter: Duration = .seconds(600)

  private(set) var urls: [String]
  /// Index of the server of the last 200; rounds begin here.
  private var lastGood: Int
  /// How many servers of this round were tried before the present one.
  private var position = 0
  private var generation = 0
  private var serverIsKnown = false
  private var rekey = true
  private var readyAt: Instant?
  private var notBefore: [Int: Instant] = [:]
  private var redirectBudget = 0
  /// Whether a server of this round was lost inside an answer.
  private var wasInterrupted = false
  private var backOff: BackOff
  private var random: RandomSource

  /// - Parameter urls: at least one; each ends in `/` (the configuration makes sure of both).
  package init(urls: [String], policy: BackOff.Policy, random: RandomSource = RandomSource()) {
    var random = random
    self.urls = urls.shuffled(using: &random)
    lastGood = urls.isEmpty ? 0 : Int.random(in: 0..<urls.count, using: &random)
    backOff = BackOff(policy: policy)
    self.random = random
  }

  private var index: Int { urls.isEmpty ? 0 : (lastGood + position) % urls.count }

  /// The present server.
  package var url: String { urls.indices.contains(index) ? urls[index] : "" }

  /// Whether all servers failed, so that a wait comes next.
  package var mustWait: Bool { readyAt != nil }

  /// The failed rounds since something succeeded.
  package var failedRounds: Int { backOff.failures }

  package mutating func next(at now: Instant) -> Step {
    if let readyAt {
      if readyAt > now { return .wait(until: readyAt) }
      self.readyAt = nil
    }
    guard serverIsKnown else { return .fetchServerPEM(target(redirected: redirectBudget > 0), rekey: rekey) }
    let marked = redirectBudget > 0
    redirectBudget = max(0, redirectBudget - 1)
    return .use(target(redirected: marked))
  }

  private func target(redirected: Bool) -> Target {
    Target(url: url, generation: generation, redirected: redirected)
  }

  /// server.pem passed all checks and its key is stored.
  package mutating func serverAccepted(_ target: Target) {
    guard target.generation == generation else { return }
    serverIsKnown = true
    rekey = false
  }

  /// A POST was answered by a server that keeps our trust.
  package mutating func succeeded(_ target: Target) {
    guard target.generation == generation else { return }
    lastGood = index
    position = 0
    notBefore = [:]
    wasInterrupted = false
    backOff.succeeded()
  }

  /// The server is left for the next one.
  package mutating func failed(_ target: Target, _ failure: Failure, at now: Instant) {
    guard target.generation == generation else { return }
    let after: Duration?
    switch failure {
    case .unavailable(let retryAfter): after = retryAfter
    case .interrupted:
      after = nil
      wasInterrupted = true
    case .rejected(let retryAfter):
      after = retryAfter
      rekey = true
    }
    if let after {
      let asked = min(after, Self.longestRetryAfter)
      notBefore[index] = now + asked + random.duration(below: asked / 2)
    }
    leave(at: now, asked: after != nil)
  }

  private mutating func leave(at now: Instant, asked: Bool) {
    generation += 1
    serverIsKnown = false
    redirectBudget = 0
    repeat { position += 1 } while position < urls.count && (notBefore[index] ?? now) > now
    guard position >= urls.count else { return }
    finishRound(at: now, asked: asked)
  }

  /// One wait per full round. A server's own `Retry-After` replaces our guess.
  private mutating func finishRound(at now: Instant, asked: Bool) {
    position = 0
    let wait = wasInterrupted ? backOff.interrupted(using: &random) : backOff.failed(using: &random)
    wasInterrupted = false
    guard let askedUntil = notBefore.values.min(), notBefore.count == urls.count, asked else {
      readyAt = now + wait
      return
    }
    position = (0..<urls.count).first { notBefore[(lastGood + $0) % urls.count] == askedUntil } ?? 0
    readyAt = askedUntil
  }

  /// 301 (http.md §6): the server at `location` is used from now on.
  package mutating func redirected(_ target: Target, to location: String?, at now: Instant) {
    guard target.generation == generation else { return }
    guard let location, Self.isUsable(location), urls.contains(location) || urls.count < Self.urlLimit else {
      return failed(target, .rejected(retryAfter: nil), at: now)
    }
    if let known = urls.firstIndex(of: location) {
      lastGood = known
    } else {
      urls.append(location)
      lastGood = urls.count - 1
    }
    if redirectBudget > 0 { readyAt = now + backOff.long(using: &random) }
    position = 0
    generation += 1
    serverIsKnown = false
    rekey = true
    redirectBudget = Self.redirectUses
  }

  private static func isUsable(_ location: String) -> Bool {
    location.utf8.count <= 2048 && (try? BaseURL(location)) != nil
  }
}
