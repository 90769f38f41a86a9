import Envelope
import PKI
import PublicIdentity
import WorkerLink

/// Sealing of answers and acknowledgements (crypto.md §5).
extension CryptoService {
  func seal(
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

  func packed(_ list: [UInt8], for name: ClientName) throws(EnvelopeError) -> PackedLists {
    guard let nonce = ring.orgs[name.org] else { throw EnvelopeError(.nonce, "no such org") }
    return PackedLists(lists: [list], compressed: false, timestamp: AgentEnvelope.now(), nonce: nonce)
  }

  /// - Parameter key: which of the server's keys signs, if it is still accepted: the one whose certificate the client has.
  func newOutbound(
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
}
