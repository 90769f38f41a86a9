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

  private struct State {
    var sessions: ServerSessions
    var refused = RefusedSessions()
    var abuse = AbuseGuard()
    var pace: UnwrapPace?
    /// Bodies whose turn comes later.
    var paced = 0
  }

  /// A body that was opened, and by which of the server's keys.
  private struct Unwrapped {
    let session: InboundSession
    let lists: PackedLists
    let name: ClientName
    let key: KeyID
  }

  let metrics: CryptoMetrics
  private let settings: Settings
  private let keyring: Mutex<Keyring>
  private let state: Mutex<State>
  private let cold: ColdLane
  private let draining = Mutex(false)
  private let clock: @Sendable () -> UInt64

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

  private var ring: Keyring { keyring.withLock { $0 } }

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

  /// The sessions, sealed for the worker that starts after this one: those of each key with that key.
  func snapshot() throws(SessionSnapshot.Failure) -> [UInt8] {
    var snapshots: [[UInt8]] = []
    for key in ring.keys {
      guard let cache = state.withLock({ $0.sessions.cache(key.id) }), snapshots.isEmpty || cache.count > 0 else {
        continue
      }
      snapshots.append(
        try SessionSnapshot.seal(cache, key: key.privateKey, now: AgentEnvelope.now() / 1_000_000))
    }
    return SnapshotBundle.join(snapshots)
  }

  /// Takes over the sessions of a former worker.
  /// - Returns: the number of clients.
  func restore(_ snapshot: [UInt8]) throws(SessionSnapshot.Failure) -> Int {
    retireKeys()
    var failure: SessionSnapshot.Failure?
    for part in SnapshotBundle.split(snapshot) {
      do throws(SessionSnapshot.Failure) {
        let (cache, key) = try open(part)
        state.withLock { $0.sessions.restore(cache, key: key) }
      } catch {
        failure = error
      }
    }
    let count = state.withLock { $0.sessions.count }
    if count == 0, let failure { throw failure }
    return count
  }

  /// Finds the key of a snapshot: after a rotation the former process sealed with what is now the previous key.
  private func open(_ snapshot: [UInt8]) throws(SessionSnapshot.Failure) -> (SessionCache, key: KeyID) {
    for key in ring.keys {
      do throws(SessionSnapshot.Failure) {
        let cache = try SessionSnapshot.open(
          snapshot, key: key.privateKey, capacity: settings.expectedClients, now: AgentEnvelope.now() / 1_000_000)
        return (cache, key.id)
      } catch .foreign {
        continue
      }
    }
    throw .foreign
  }

  /// Ends the sessions of former keys whose time is over: their agents get 403, fetch server.pem and come back.
  private func retireKeys() {
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

  // MARK: opening

  private func open(
    _ body: [UInt8], _ acknowledge: Bool, _ address: String, _ patience: UInt32,
    _ respond: @escaping @Sendable (WorkerReply) -> Void
  ) {
    guard let scan = try? EnvelopeScan(body) else { return respond(reject(EnvelopeError(.malformed))) }
    guard !scan.isEmpty else { return respond(reject(EnvelopeError(.noSession))) }
    let known = body.withUnsafeBytes { buffer in
      state.withLock { $0.sessions.inbound(UnsafeRawBufferPointer(rebasing: buffer[scan.encryptedCipher])) }
    }
    if let known, let session = known.inbound {
      metrics.cacheHits.increment()
      let needsRSA = acknowledge && known.outbound == nil
      let work: @Sendable () -> WorkerReply = { [self] in
        openWarm(body, scan, session, known, acknowledge)
      }
      // An answer that needs a new outbound session costs RSA; a large body holds up the small ones.
      if needsRSA || body.count > settings.inlineLimit { return onColdLane(respond, work) }
      metrics.warmJobs.increment()
      return respond(work())
    }
    let encryptedCipher = Array(body[scan.encryptedCipher])
    let waiting = state.withLock { $0.sessions.waiting(encryptedCipher, now: clock())?.session }
    if let waiting, state.withLock({ hasKey(waiting.source, &$0) }) == false {
      metrics.cacheHits.increment()
      return respond(openUnverified(body, scan, waiting))
    }
    metrics.cacheMisses.increment()
    if let refusal = refusalBeforeRSA(encryptedCipher, address) { return respond(refusal) }
    inTurn(patience, respond) { [self] in openCold(body, scan, acknowledge, address) }
  }

  /// Unwraps when the configured rate allows it; a body whose turn would come after its frontend has given up is refused
  /// at once.
  private func inTurn(
    _ patience: UInt32, _ respond: @escaping @Sendable (WorkerReply) -> Void,
    _ work: @escaping @Sendable () -> WorkerReply
  ) {
    let now = clock()
    let turn = state.withLock { state -> UInt64? in
      guard state.paced < cold.limit else { return nil }
      guard let wait = state.pace?.reserve(now: now, within: UInt64(patience)) else {
        return state.pace == nil ? 0 : nil
      }
      if wait > 0 { state.paced += 1 }
      return wait
    }
    guard let turn else {
      metrics.overloaded.increment()
      return respond(.overloaded)
    }
    if turn == 0 { return onColdLane(respond, work) }
    DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(Int(turn))) { [self] in
      state.withLock { $0.paced -= 1 }
      onColdLane(respond, work)
    }
  }

  /// What forgeries get before they cost anything: a repeat of a broken session is refused, an address with too many
  /// failures has to wait. Honest agents behind it keep their data and come back.
  private func refusalBeforeRSA(_ encryptedCipher: [UInt8], _ address: String) -> WorkerReply? {
    let now = clock()
    let (repeated, admitted) = state.withLock {
      ($0.refused.contains(encryptedCipher, now: now), $0.abuse.admits(address, now: now))
    }
    if repeated { return reject(EnvelopeError(.decryption, "repeated")) }
    if admitted { return nil }
    metrics.abuseRefused.increment()
    return .overloaded
  }

  private func noteFailure(_ error: EnvelopeError, _ encryptedCipher: [UInt8], _ address: String) {
    let now = clock()
    state.withLock { state in
      switch error.code {
      case .decryption, .cipherProperties:
        state.refused.insert(encryptedCipher, now: now)
        state.abuse.failed(address, now: now)
      case .hmac, .nonce, .source, .padding, .innerMessage, .cipherText: state.abuse.failed(address, now: now)
      case .malformed, .signature, .noSession, .noDestination, .libcrypto: break
      }
    }
  }

  private func openWarm(
    _ body: [UInt8], _ scan: EnvelopeScan, _ session: InboundSession, _ known: ServerSessions.Known,
    _ acknowledge: Bool
  ) -> WorkerReply {
    do throws(EnvelopeError) {
      let lists = try body.withUnsafeBytes { buffer in
        Result { () throws(EnvelopeError) in try session.open(buffer, scan) }
      }.get()
      // The org was fixed when the session was authenticated; another org's nonce must not move it (crypto.md §6).
      guard ring.org(lists.nonce) == known.name.org else { throw EnvelopeError(.nonce) }
      return .opened(try finish(lists, known, scan, acknowledge))
    } catch {
      return reject(error)
    }
  }

  private func openUnverified(_ body: [UInt8], _ scan: EnvelopeScan, _ session: InboundSession) -> WorkerReply {
    do throws(EnvelopeError) {
      let lists = try body.withUnsafeBytes { buffer in
        Result { () throws(EnvelopeError) in try session.open(buffer, scan) }
      }.get()
      metrics.unverified.increment()
      return .unverified(source: try name(session.source, nonce: lists.nonce).description)
    } catch {
      return reject(error)
    }
  }

  private func openCold(
    _ body: [UInt8], _ scan: EnvelopeScan, _ acknowledge: Bool, _ address: String
  ) -> WorkerReply {
    do throws(EnvelopeError) {
      let opened = try unwrap(body, scan)
      // A client whose key is cached needs no round trip to the store: its id can have no other key.
      if let known = state.withLock({ $0.sessions.entry(opened.name) }),
        opened.session.verify(with: known.publicKey)
      {
        return try admit(opened, known.publicKey, scan, acknowledge)
      }
      metrics.unverified.increment()
      return .unverified(source: opened.name.description)
    } catch {
      noteFailure(error, Array(body[scan.encryptedCipher]), address)
      return reject(error)
    }
  }

  /// Finds the session of a body: among the unauthenticated ones, or by RSA, and then keeps it there.
  private func unwrap(
    _ body: [UInt8], _ scan: EnvelopeScan
  ) throws(EnvelopeError) -> Unwrapped {
    let encryptedCipher = Array(body[scan.encryptedCipher])
    let waiting = state.withLock { $0.sessions.waiting(encryptedCipher, now: clock()) }
    let opened = body.withUnsafeBytes { buffer in
      Result { () throws(EnvelopeError) -> (session: InboundSession, lists: PackedLists, key: KeyID) in
        if let waiting { return (waiting.session, try waiting.session.open(buffer, scan), waiting.key) }
        return try decrypt(buffer, scan)
      }
    }
    let (session, lists, key) = try opened.get()
    let name = try name(session.source, nonce: lists.nonce)
    if waiting == nil { state.withLock { $0.sessions.store(waiting: session, key: key, now: clock()) } }
    return Unwrapped(session: session, lists: lists, name: name, key: key)
  }

  /// Tries the server's keys, the current one first. Only a session that was not wrapped for a key goes on to the next.
  private func decrypt(
    _ body: UnsafeRawBufferPointer, _ scan: EnvelopeScan
  ) throws(EnvelopeError) -> (session: InboundSession, lists: PackedLists, key: KeyID) {
    let now = settings.date()
    for (index, key) in ring.keys.enumerated() where key.isAccepted(at: now) {
      metrics.rsaDecrypt.increment()
      do throws(EnvelopeError) {
        let unwrapped = try InboundSession.unwrap(body, scan, with: key.privateKey)
        if index > 0 { metrics.previousKey.increment() }
        return (unwrapped.session, unwrapped.lists, key.id)
      } catch {
        guard error.code == .decryption else { throw error }
      }
    }
    throw EnvelopeError(.decryption)
  }

  /// Verifies with the key from the store; only a key that hashes to the source counts.
  private func confirm(_ body: [UInt8], _ publicKey: [UInt8], _ acknowledge: Bool) -> WorkerReply {
    do throws(EnvelopeError) {
      guard let scan = try? EnvelopeScan(body) else { throw EnvelopeError(.malformed) }
      guard !scan.isEmpty else { throw EnvelopeError(.noSession) }
      guard let key = try? RSAPublicKey(pkcs1DER: publicKey) else { throw EnvelopeError(.signature, "stored key") }
      let opened = try unwrap(body, scan)
      guard key.clientID == opened.name.id else { throw EnvelopeError(.signature, "key of another client") }
      guard opened.session.verify(with: key) else { throw EnvelopeError(.signature) }
      return try admit(opened, key, scan, acknowledge)
    } catch {
      return reject(error)
    }
  }

  private func admit(
    _ opened: Unwrapped, _ publicKey: RSAPublicKey, _ scan: EnvelopeScan, _ acknowledge: Bool
  ) throws(EnvelopeError) -> WorkerReply {
    metrics.sessions.increment()
    let outbound = state.withLock { state in
      state.sessions.store(inbound: opened.session, of: opened.name, publicKey: publicKey, key: opened.key)
      return state.sessions.outbound(opened.name, key: opened.key)
    }
    let known = ServerSessions.Known(name: opened.name, publicKey: publicKey, outbound: outbound, key: opened.key)
    return .opened(try finish(opened.lists, known, scan, acknowledge))
  }

  private func unenrolled(_ body: [UInt8], _ respond: @escaping @Sendable (WorkerReply) -> Void) {
    onColdLane(respond) { [self] in
      do throws(EnvelopeError) {
        guard let scan = try? EnvelopeScan(body) else { throw EnvelopeError(.malformed) }
        guard !scan.isEmpty else { throw EnvelopeError(.noSession) }
        let opened = try unwrap(body, scan)
        return .unauthenticated(
          OpenedBody(
            source: opened.name.description, apiVersion: scan.apiVersion, timestamp: opened.lists.timestamp,
            compressed: opened.lists.compressed, lists: opened.lists.lists))
      } catch {
        return reject(error)
      }
    }
  }

  private func finish(
    _ lists: PackedLists, _ known: ServerSessions.Known, _ scan: EnvelopeScan, _ acknowledge: Bool
  ) throws(EnvelopeError) -> OpenedBody {
    var result = OpenedBody(
      source: known.name.description, apiVersion: scan.apiVersion, timestamp: lists.timestamp,
      compressed: lists.compressed, lists: lists.lists, keyID: known.key)
    if acknowledge {
      // The key that opened the body also signs: it is the one whose certificate the agent holds.
      let session =
        if let outbound = known.outbound { outbound } else {
          try newOutbound(known.name, known.publicKey, key: known.key)
        }
      result.acknowledgement = try session.seal(packed([], for: known.name))
    }
    metrics.opened.increment()
    return result
  }

  // MARK: sealing

  private func seal(
    _ list: [UInt8], for source: String, _ publicKey: [UInt8], _ keyID: KeyID,
    _ respond: @escaping @Sendable (WorkerReply) -> Void
  ) {
    guard let name = ClientName(source) else { return respond(reject(EnvelopeError(.source))) }
    let known = state.withLock { $0.sessions.entry(name) }
    if let outbound = known?.outbound {
      let work: @Sendable () -> WorkerReply = { [self] in sealed(list, name, outbound) }
      if list.count > settings.inlineLimit { onColdLane(respond, work) } else { respond(work()) }
      return
    }
    guard known != nil || !publicKey.isEmpty else { return respond(.needKey) }
    onColdLane(respond) { [self] in
      do throws(EnvelopeError) {
        let key = if let known { known.publicKey } else { try Self.key(publicKey, of: name) }
        return sealed(list, name, try newOutbound(name, key, key: known?.key ?? keyID))
      } catch {
        return reject(error)
      }
    }
  }

  private static func key(_ der: [UInt8], of name: ClientName) throws(EnvelopeError) -> RSAPublicKey {
    guard let key = try? RSAPublicKey(pkcs1DER: der), key.clientID == name.id else {
      throw EnvelopeError(.signature, "key of another client")
    }
    return key
  }

  private func sealed(_ list: [UInt8], _ name: ClientName, _ session: OutboundSession) -> WorkerReply {
    do throws(EnvelopeError) {
      return .sealed(body: try session.seal(try packed(list, for: name)))
    } catch {
      return reject(error)
    }
  }

  private func packed(_ list: [UInt8], for name: ClientName) throws(EnvelopeError) -> PackedLists {
    guard let nonce = ring.orgs[name.org] else { throw EnvelopeError(.nonce, "no such org") }
    return PackedLists(lists: [list], compressed: false, timestamp: AgentEnvelope.now(), nonce: nonce)
  }

  /// - Parameter key: which of the server's keys signs, if it is still accepted: the one whose certificate the client has.
  private func newOutbound(
    _ name: ClientName, _ receiver: RSAPublicKey, key: KeyID
  ) throws(EnvelopeError) -> OutboundSession {
    guard let key = ring.key(preferring: key, at: settings.date()) else { throw EnvelopeError(.noDestination) }
    // Two bodies of one client may get here together: the first session made is the one both use.
    if let session = state.withLock({ $0.sessions.outbound(name, key: key.id) }) { return session }
    metrics.rsaSign.increment()
    let session = try OutboundSession(sender: settings.serverName, key: key.privateKey, receiver: receiver)
    state.withLock { $0.sessions.store(outbound: session, of: name, publicKey: receiver, key: key.id) }
    return session
  }

  // MARK: helpers

  /// The name that a source and a nonce give. A suffix that is not the org of the nonce is refused (corrections).
  private func name(_ source: String, nonce: String) throws(EnvelopeError) -> ClientName {
    guard let org = ring.org(nonce) else { throw EnvelopeError(.nonce) }
    guard let name = ClientName(source) else { throw EnvelopeError(.source) }
    guard name.org.isEmpty || name.org == org else { throw EnvelopeError(.source, "suffix of another org") }
    return ClientName(id: name.id, org: org)
  }

  /// A cached key for the source in any org: then its session is worth verifying at once.
  private func hasKey(_ source: String, _ state: inout State) -> Bool {
    guard let name = ClientName(source) else { return false }
    return ring.orgs.keys.contains { state.sessions.entry(ClientName(id: name.id, org: $0)) != nil }
  }

  private func reject(_ error: EnvelopeError) -> WorkerReply {
    metrics.reject(error)
    return .rejected(reason: error.code.rawValue)
  }

  private func onColdLane(
    _ respond: @escaping @Sendable (WorkerReply) -> Void, _ work: @escaping @Sendable () -> WorkerReply
  ) {
    metrics.coldJobs.increment()
    if !cold.submit({ respond(work()) }) {
      metrics.overloaded.increment()
      respond(.overloaded)
    }
  }
}
