import Envelope
import PublicIdentity

/// The sessions with clients, apart for each server key (crypto.md §7, server.md §11).
///
/// A client that still holds the former certificate wraps for the former key and verifies answers with it. Its sessions
/// therefore live with that key, in both directions, until it comes with a session for another key.
struct ServerSessions: Sendable {
  /// A client, and the key that its sessions belong to.
  struct Known {
    let name: ClientName
    let publicKey: RSAPublicKey
    let inbound: InboundSession?
    let outbound: OutboundSession?
    let key: KeyID

    init(name: ClientName, entry: SessionCache.Entry, key: KeyID) {
      self.name = name
      publicKey = entry.publicKey
      inbound = entry.inbound
      outbound = entry.outbound
      self.key = key
    }

    init(name: ClientName, publicKey: RSAPublicKey, outbound: OutboundSession?, key: KeyID) {
      self.name = name
      self.publicKey = publicKey
      inbound = nil
      self.outbound = outbound
      self.key = key
    }
  }

  private struct Keyed {
    let key: KeyID
    var cache: SessionCache
    var waiting: UnauthenticatedSessions
    var isRetired = false
  }

  private var keyed: [Keyed] = []
  private let capacity: Int
  private let waitingCapacity: Int

  /// - Parameters:
  ///   - keys: the current one first.
  ///   - capacity: clients of each key.
  init(keys: [KeyID], capacity: Int) {
    self.capacity = capacity
    waitingCapacity = max(1024, capacity / 4)
    setKeys(keys)
  }

  /// From now on these are the keys; sessions of keys that stay are kept, those of others end.
  mutating func setKeys(_ keys: [KeyID]) {
    keyed = keys.map { key in
      keyed.first { $0.key == key } ?? empty(key)
    }
  }

  private func empty(_ key: KeyID) -> Keyed {
    Keyed(
      key: key, cache: SessionCache(capacity: capacity), waiting: UnauthenticatedSessions(capacity: waitingCapacity))
  }

  /// Clients with a session.
  var count: Int { keyed.reduce(0) { $0 + $1.cache.count } }

  /// The clients' sessions of a key, for a snapshot.
  func cache(_ key: KeyID) -> SessionCache? { keyed.first { $0.key == key }?.cache }

  /// Where a key's sessions are, unless it has been retired or is unknown.
  private func place(_ key: KeyID) -> Int? { keyed.firstIndex { $0.key == key && !$0.isRetired } }

  /// The session with exactly this `encrypted_cipher`. Counts as a use.
  mutating func inbound(_ encryptedCipher: UnsafeRawBufferPointer) -> Known? {
    for place in keyed.indices {
      if let (name, entry) = keyed[place].cache.inbound(encryptedCipher) {
        return Known(name: name, entry: entry, key: keyed[place].key)
      }
    }
    return nil
  }

  /// What is known of a client. Counts as a use.
  mutating func entry(_ name: ClientName) -> Known? {
    for place in keyed.indices {
      if let entry = keyed[place].cache.entry(name) { return Known(name: name, entry: entry, key: keyed[place].key) }
    }
    return nil
  }

  /// Our session towards a client, of one key.
  mutating func outbound(_ name: ClientName, key: KeyID) -> OutboundSession? {
    place(key).flatMap { keyed[$0].cache.entry(name)?.outbound }
  }

  /// Takes an authenticated session. The client's sessions of other keys leave: it has changed to this one.
  mutating func store(inbound session: InboundSession, of name: ClientName, publicKey: RSAPublicKey, key: KeyID) {
    guard let place = place(key) else { return }
    for other in keyed.indices where other != place { keyed[other].cache.forget(name) }
    keyed[place].cache.store(inbound: session, of: name, publicKey: publicKey)
    keyed[place].waiting.remove(session.encryptedCipher)
  }

  /// Takes a session of ours towards a client.
  mutating func store(outbound session: OutboundSession, of name: ClientName, publicKey: RSAPublicKey, key: KeyID) {
    guard let place = place(key) else { return }
    keyed[place].cache.store(outbound: session, of: name, publicKey: publicKey)
  }

  /// An unauthenticated session, and the key that opened it.
  mutating func waiting(_ encryptedCipher: [UInt8], now: UInt64) -> (session: InboundSession, key: KeyID)? {
    for place in keyed.indices {
      if let session = keyed[place].waiting.session(encryptedCipher, now: now) { return (session, keyed[place].key) }
    }
    return nil
  }

  mutating func store(waiting session: InboundSession, key: KeyID, now: UInt64) {
    guard let place = place(key) else { return }
    keyed[place].waiting.store(session, now: now)
  }

  /// Drops all of a client.
  mutating func forget(_ name: ClientName) {
    for place in keyed.indices { keyed[place].cache.forget(name) }
  }

  /// Ends the sessions of a key for good.
  mutating func retire(_ key: KeyID) {
    guard let place = place(key) else { return }
    keyed[place] = empty(key)
    keyed[place].isRetired = true
  }

  /// Takes over the sessions of a former process.
  mutating func restore(_ cache: SessionCache, key: KeyID) {
    guard let place = place(key) else { return }
    keyed[place].cache = cache
  }
}

/// Several session snapshots in one file, each sealed with the key that its sessions belong to.
///
/// | offset | size | content |
/// |---|---|---|
/// | 0 | 4 | `MRSB` |
/// | 4 | 1 | format version, 1 |
/// | 5 | – | snapshots, each after its length in 8 bytes, little endian |
enum SnapshotBundle {
  private static let magic = Array("MRSB".utf8) + [1]

  /// One snapshot stays as it is, so that other versions can read it.
  static func join(_ snapshots: [[UInt8]]) -> [UInt8] {
    if snapshots.count == 1, let only = snapshots.first { return only }
    return snapshots.reduce(into: magic) { bytes, snapshot in
      let count = UInt64(snapshot.count)
      for shift in 0..<8 as Range<UInt64> { bytes.append(UInt8(truncatingIfNeeded: count >> (8 * shift))) }
      bytes += snapshot
    }
  }

  /// The snapshots of a file; a damaged end is left out.
  static func split(_ bytes: [UInt8]) -> [[UInt8]] {
    guard bytes.starts(with: magic) else { return [bytes] }
    var rest = bytes.dropFirst(magic.count)
    var snapshots: [[UInt8]] = []
    while rest.count >= 8 {
      let count = rest.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      rest = rest.dropFirst(8)
      guard count <= UInt64(rest.count) else { break }
      snapshots.append(Array(rest.prefix(Int(count))))
      rest = rest.dropFirst(Int(count))
    }
    return snapshots
  }
}
