import PublicIdentity

/// The exact bytes of an `encrypted_cipher`, hashed in one go: an array of bytes would be hashed byte by byte, which costs
/// more than the cryptography of a small body.
package struct SessionKey: Hashable, Sendable {
  package let bytes: [UInt8]

  package init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  package func hash(into hasher: inout Hasher) {
    bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
  }
}

/// The sessions of authenticated clients: a true LRU of sources, each with its key, one inbound and one outbound
/// session (crypto.md §7). Inbound sessions are found by the exact bytes of `encrypted_cipher`.
package struct SessionCache: Sendable {
  /// What is known of one client. The org is part of its name, so a session never changes its org.
  package struct Entry: Sendable {
    package var publicKey: RSAPublicKey
    package var inbound: InboundSession?
    package var outbound: OutboundSession?
  }

  private var entries: LeastRecentlyUsed<ClientName, Entry>
  /// Positions by the hash of `encrypted_cipher`, whose bytes are compared after that. Two sessions with one hash are as
  /// good as impossible; the older one would be unwrapped again.
  private var positions: [Int: Int] = [:]

  /// - Parameter capacity: sources, `Frontend.resources.expected_clients`.
  package init(capacity: Int) {
    entries = LeastRecentlyUsed(capacity: capacity)
  }

  package var count: Int { entries.count }
  package var capacity: Int { entries.capacity }
  package var inboundCount: Int { positions.count }

  /// The session with exactly this `encrypted_cipher`, and whose it is. Counts as a use.
  package mutating func inbound(_ encryptedCipher: UnsafeRawBufferPointer) -> (name: ClientName, entry: Entry)? {
    guard let position = positions[Self.hash(encryptedCipher)], let (name, entry) = entries.use(at: position),
      let session = entry.inbound, session.hasCipher(encryptedCipher)
    else { return nil }
    return (name, entry)
  }

  package mutating func inbound(_ encryptedCipher: [UInt8]) -> (name: ClientName, entry: Entry)? {
    encryptedCipher.withUnsafeBytes { inbound($0) }
  }

  private static func hash(_ encryptedCipher: UnsafeRawBufferPointer) -> Int {
    var hasher = Hasher()
    hasher.combine(bytes: encryptedCipher)
    return hasher.finalize()
  }

  /// What is known of a client. Counts as a use.
  package mutating func entry(_ name: ClientName) -> Entry? { entries.use(name) }

  /// Takes an authenticated session; the client's former inbound session leaves, its outbound one stays.
  package mutating func store(inbound session: InboundSession, of name: ClientName, publicKey: RSAPublicKey) {
    var entry = entries.peek(name) ?? Entry(publicKey: publicKey)
    if let former = entry.inbound { unindex(former) }
    entry.publicKey = publicKey
    entry.inbound = session
    put(entry, name)
    positions[session.encryptedCipher.withUnsafeBytes { Self.hash($0) }] = entries.position(name)
  }

  /// Takes a session of ours towards a client.
  package mutating func store(outbound session: OutboundSession, of name: ClientName, publicKey: RSAPublicKey) {
    var entry = entries.peek(name) ?? Entry(publicKey: publicKey)
    entry.publicKey = publicKey
    entry.outbound = session
    put(entry, name)
  }

  /// All clients, the one used longest ago first.
  package var oldestFirst: [(key: ClientName, value: Entry)] { entries.oldestFirst }

  /// Drops all of a client.
  package mutating func forget(_ name: ClientName) {
    if let session = entries.remove(name)?.inbound { unindex(session) }
  }

  private mutating func put(_ entry: Entry, _ name: ClientName) {
    if let evicted = entries.store(entry, for: name), let session = evicted.value.inbound { unindex(session) }
  }

  private mutating func unindex(_ session: InboundSession) {
    positions[session.encryptedCipher.withUnsafeBytes { Self.hash($0) }] = nil
  }
}

/// Sessions whose sender is not known (yet): kept for a while by the exact bytes of `encrypted_cipher`, so that an
/// enrolling client costs one RSA decryption and not one for each body (crypto.md §8). They never authenticate anything
/// by themselves: the signature has to be verified with a key that hashes to the source.
package struct UnauthenticatedSessions: Sendable {
  private struct Entry: Sendable {
    var session: InboundSession
    var expires: UInt64
  }

  /// Milliseconds that a session is kept after it was unwrapped.
  package static let lifetime: UInt64 = 60_000

  private var entries: LeastRecentlyUsed<SessionKey, Entry>

  package init(capacity: Int) {
    entries = LeastRecentlyUsed(capacity: capacity)
  }

  package var count: Int { entries.count }

  /// - Parameter now: milliseconds of a monotonic clock.
  package mutating func session(_ encryptedCipher: [UInt8], now: UInt64) -> InboundSession? {
    guard let entry = entries.peek(SessionKey(encryptedCipher)) else { return nil }
    guard entry.expires > now else {
      _ = entries.remove(SessionKey(encryptedCipher))
      return nil
    }
    return entry.session
  }

  package mutating func store(_ session: InboundSession, now: UInt64) {
    // Entries are never "used", so the oldest is also the first to expire.
    while let oldest = entries.leastRecent, oldest.value.expires <= now { _ = entries.remove(oldest.key) }
    _ = entries.store(Entry(session: session, expires: now + Self.lifetime), for: SessionKey(session.encryptedCipher))
  }

  package mutating func remove(_ encryptedCipher: [UInt8]) {
    _ = entries.remove(SessionKey(encryptedCipher))
  }
}
