import Dispatch
import Envelope
import PKI
import PublicIdentity
import Wire
import WorkerLink

/// Opening of bodies: known sessions at once, unknown ones by RSA (crypto.md §6).
extension CryptoService {
  func open(
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
    state.withLock { $0.abuse.began(address) }
    let finish: @Sendable (WorkerReply) -> Void = { [self] reply in
      state.withLock { $0.abuse.ended(address) }
      respond(reply)
    }
    inTurn(patience, finish) { [self] in openCold(body, scan, acknowledge, address) }
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
  func confirm(_ body: [UInt8], _ publicKey: [UInt8], _ acknowledge: Bool) -> WorkerReply {
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

  func unenrolled(_ body: [UInt8], _ respond: @escaping @Sendable (WorkerReply) -> Void) {
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
}
