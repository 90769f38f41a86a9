import Envelope
import Foundation
import Observability
import PKI
import PublicIdentity
import Synchronization
import Wire
import WorkerLink

/// What a crypto-worker does with a request: the envelope's cryptography, the session cache and the two lanes.
///
/// *Warm* work (MAC and AES of a known session) is done at once on the link's thread, unless the body is large; *cold*
/// work (RSA) goes to the cold lane, which has its own threads and a bounded queue.
final class CryptoService: Sendable {
  struct Settings: Sendable {
    var name: String
    var serverName: String
    /// At the start; see `replace`.
    var keyring: Keyring
    var expectedClients: Int
    var coldLimit = 2048
    /// Unknown sessions unwrapped in a second; 0 for no limit (`Frontend.resources.enrollments_per_second`).
    var unwrapsPerSecond = 0
    /// Warm bodies above this many bytes leave the link's thread, so that small ones do not wait for them.
    var inlineLimit = 65_536
    /// The time of day, for the end of former keys.
    var date: @Sendable () -> Date = { Date() }

    init(
      name: String, serverName: String, keyring: Keyring, expectedClients: Int
    ) {
      self.name = name
      self.serverName = serverName
      self.keyring = keyring
      self.expectedClients = expectedClients
    }

    init(
      name: String, serverName: String, privateKey: RSAPrivateKey, previousKeys: [ServerKey] = [],
      orgs: [String: String], expectedClients: Int
    ) {
      self.init(
        name: name, serverName: serverName,
        keyring: Keyring(keys: [ServerKey(privateKey: privateKey)] + previousKeys, orgs: orgs),
        expectedClients: expectedClients)
    }
  }

  struct State {
    var sessions: ServerSessions
    var refused = RefusedSessions()
    var abuse = AbuseGuard()
    var pace: UnwrapPace?
    /// Bodies whose turn comes later.
    var paced = 0
  }

  /// A body that was opened, and by which of the server's keys.
  struct Unwrapped {
    let session: InboundSession
    let lists: PackedLists
    let name: ClientName
    let key: KeyID
  }

  let metrics: CryptoMetrics
  let settings: Settings
  private let keyring: Mutex<Keyring>
  let state: Mutex<State>
  let cold: ColdLane
  private let draining = Mutex(false)
  let clock: @Sendable () -> UInt64

  /// - Parameter clock: milliseconds, monotonic.
  init(
    settings: Settings, cold: ColdLane, metrics: CryptoMetrics,
    clock: @escaping @Sendable () -> UInt64 = { monotonicMilliseconds() }
  ) {
    self.settings = settings
    self.cold = cold
    self.metrics = metrics
    self.clock = clock
    keyring = Mutex(settings.keyring)
    state = Mutex(
      State(
        sessions: ServerSessions(keys: settings.keyring.keys.map(\.id), capacity: settings.expectedClients),
        pace: settings.unwrapsPerSecond > 0 ? UnwrapPace(perSecond: settings.unwrapsPerSecond) : nil))
  }

  var ring: Keyring { keyring.withLock { $0 } }

  /// Takes up new keys and orgs while running. Sessions of keys that stay are kept.
  func replace(_ new: Keyring) {
    keyring.withLock { $0 = new }
    state.withLock { state in
      state.sessions.setKeys(new.keys.map(\.id))
      // What no key opened before may be opened now.
      state.refused = RefusedSessions()
    }
  }

  /// From now on health says that this worker is leaving.
  func drain() { draining.withLock { $0 = true } }

  /// Answers one request, now or later. Called on the link's thread.
  /// - Parameter patience: milliseconds that the frontend will wait.
  func handle(
    _ request: WorkerRequest, patience: UInt32 = 20_000, respond: @escaping @Sendable (WorkerReply) -> Void
  ) {
    retireKeys()
    switch request {
    case .open(let body, let acknowledge, let address): open(body, acknowledge, address, patience, respond)
    case .confirm(let body, let publicKey, let acknowledge):
      // The key is checked on the cold lane; parsing it costs as much as a small signature.
      onColdLane(respond) { [self] in confirm(body, publicKey, acknowledge) }
    case .unenrolled(let body): unenrolled(body, respond)
    case .seal(_, let source, let publicKey, let list, let keyID): seal(list, for: source, publicKey, keyID, respond)
    case .forget(let source):
      if let name = ClientName(source) { state.withLock { $0.sessions.forget(name) } }
      respond(.done)
    case .health: respond(.health(health()))
    }
  }

  /// Ends the sessions of former keys whose time is over: their agents get 403, fetch server.pem and come back.
  func retireKeys() {
    let keys = ring.keys
    guard keys.count > 1 else { return }
    let now = settings.date()
    for key in keys where !key.isAccepted(at: now) { state.withLock { $0.sessions.retire(key.id) } }
  }

  func health() -> WorkerHealth {
    let sessions = state.withLock { $0.sessions.count }
    return WorkerHealth(
      name: settings.name, draining: draining.withLock { $0 }, coldDepth: UInt64(cold.depth),
      coldLimit: UInt64(cold.limit), sessions: UInt64(sessions), sessionLimit: UInt64(settings.expectedClients),
      rsaPrivateOperations: metrics.rsaDecrypt.value + metrics.rsaSign.value, opened: metrics.opened.value,
      rejected: metrics.rejected.value)
  }

  // MARK: helpers

  /// The name that a source and a nonce give. A suffix that is not the org of the nonce is refused (corrections).
  func name(_ source: String, nonce: String) throws(EnvelopeError) -> ClientName {
    guard let org = ring.org(nonce) else { throw EnvelopeError(.nonce) }
    guard let name = ClientName(source) else { throw EnvelopeError(.source) }
    guard name.org.isEmpty || name.org == org else { throw EnvelopeError(.source, "suffix of another org") }
    return ClientName(id: name.id, org: org)
  }

  /// A cached key for the source in any org: then its session is worth verifying at once.
  func hasKey(_ source: String, _ state: inout State) -> Bool {
    guard let name = ClientName(source) else { return false }
    return ring.orgs.keys.contains { state.sessions.entry(ClientName(id: name.id, org: $0)) != nil }
  }

  func reject(_ error: EnvelopeError) -> WorkerReply {
    metrics.reject(error)
    return .rejected(reason: error.code.rawValue)
  }

  func onColdLane(
    _ respond: @escaping @Sendable (WorkerReply) -> Void, _ work: @escaping @Sendable () -> WorkerReply
  ) {
    metrics.coldJobs.increment()
    if !cold.submit({ respond(work()) }) {
      metrics.overloaded.increment()
      respond(.overloaded)
    }
  }
}
