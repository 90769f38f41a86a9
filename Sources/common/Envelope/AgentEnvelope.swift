import PKI
import PublicIdentity
import Synchronization
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// The agent's end of the envelope: its outbound session to the server, and the server's sessions to it.
package final class AgentEnvelope: Sendable {
  /// Sessions of the server that are kept: one for each crypto-worker that may answer (the oldest leaves first).
  static let inboundCapacity = 100

  private struct State {
    var serverName: String?
    var serverKey: RSAPublicKey?
    var outbound: OutboundSession?
    var inbound: [[UInt8]: InboundSession] = [:]
    var order: [[UInt8]] = []
  }

  private let privateKey: RSAPrivateKey
  private let nonce: String
  private let name: String
  private let state = Mutex(State())

  /// - Parameters:
  ///   - privateKey: the agent's own key; its id is the source of every body.
  ///   - nonce: the deployment's, from the client file. Sent in each body and demanded in each answer.
  package init(privateKey: RSAPrivateKey, nonce: String) {
    self.privateKey = privateKey
    self.nonce = nonce
    name = privateKey.publicKey.clientID.rawValue
  }

  /// Stores the key under the name and drops all sessions with it (crypto.md §4 step 4).
  package func setServer(name: String, publicKey: RSAPublicKey) {
    state.withLock { $0 = State(serverName: name, serverKey: publicKey) }
  }

  /// Forgets the server: bodies can be built again after the next `setServer`.
  package func forgetServer() {
    state.withLock { $0 = State() }
  }

  /// Builds a body for the server.
  /// - Parameters:
  ///   - lists: serialized MessageLists, already deflated when `compressed`.
  ///   - compressed: whether they are.
  package func seal(lists: [[UInt8]], compressed: Bool) throws(EnvelopeError) -> [UInt8] {
    try outboundSession().seal(
      PackedLists(lists: lists, compressed: compressed, timestamp: Self.now(), nonce: nonce))
  }

  private func outboundSession() throws(EnvelopeError) -> OutboundSession {
    try state.withLock { (state) throws(EnvelopeError) in
      if let session = state.outbound { return session }
      guard let key = state.serverKey else { throw EnvelopeError(.noDestination) }
      let session = try OutboundSession(sender: name, key: privateKey, receiver: key)
      state.outbound = session
      return session
    }
  }

  /// Opens an answer.
  /// - Returns: the inflated, serialized MessageLists; nil when the body is empty or only padding.
  /// - Throws: `EnvelopeError` for all that is not an authentic answer of the server under our nonce. Content that was
  ///   not verified is never returned.
  package func open(_ body: [UInt8]) throws(EnvelopeError) -> [[UInt8]]? {
    try body.withUnsafeBytes { buffer in
      Result { () throws(EnvelopeError) in try open(buffer) }
    }.get()
  }

  private func open(_ body: UnsafeRawBufferPointer) throws(EnvelopeError) -> [[UInt8]]? {
    let scan: EnvelopeScan
    do throws(WireReader.Malformed) {
      scan = try EnvelopeScan(body)
    } catch {
      throw EnvelopeError(.malformed)
    }
    if scan.isEmpty { return nil }
    let key = Array(body[scan.encryptedCipher])
    let (known, serverName, serverKey) = state.withLock { ($0.inbound[key], $0.serverName, $0.serverKey) }
    let lists: PackedLists
    if let known {
      lists = try known.open(body, scan)
    } else {
      guard let serverName, let serverKey else { throw EnvelopeError(.noDestination) }
      let unwrapped = try InboundSession.unwrap(body, scan, with: privateKey)
      guard unwrapped.session.source == serverName else { throw EnvelopeError(.source, "not the server's name") }
      guard unwrapped.session.verify(with: serverKey) else { throw EnvelopeError(.signature) }
      lists = unwrapped.lists
      guard lists.nonce == nonce else { throw EnvelopeError(.nonce) }
      remember(unwrapped.session, of: serverKey)
    }
    guard lists.nonce == nonce else { throw EnvelopeError(.nonce) }
    return try inflate(lists)
  }

  private func remember(_ session: InboundSession, of serverKey: RSAPublicKey) {
    state.withLock { state in
      // The server may have been replaced while the body was opened.
      guard state.serverKey === serverKey else { return }
      if state.inbound.updateValue(session, forKey: session.encryptedCipher) == nil {
        state.order.append(session.encryptedCipher)
      }
      if state.order.count > Self.inboundCapacity { state.inbound[state.order.removeFirst()] = nil }
    }
  }

  private func inflate(_ lists: PackedLists) throws(EnvelopeError) -> [[UInt8]] {
    var result: [[UInt8]] = []
    for list in lists.lists {
      do throws(MessageListCodec.Failure) {
        result.append(try MessageListCodec.plain(list, compressed: lists.compressed))
      } catch {
        throw EnvelopeError(.innerMessage, error.description)
      }
    }
    return result
  }

  /// Microseconds since 1970, for the timestamp of a packed list.
  package static func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(max(0, time.tv_sec)) * 1_000_000 + UInt64(max(0, time.tv_nsec)) / 1000
  }
}
