import Envelope
import Foundation
import PKI
import PublicIdentity

/// One of the server's message keys: the current one, or one that `microraptor config rotate` replaced.
struct ServerKey: Sendable {
  let privateKey: RSAPrivateKey
  /// From then on the key opens nothing; nil for the current key.
  var acceptedUntil: Date?

  func isAccepted(at now: Date) -> Bool { acceptedUntil.map { now < $0 } ?? true }
}

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
    let key: Int

    init(name: ClientName, entry: SessionCache.Entry, key: Int) {
      self.name = name
      publicKey = entry.publicKey
      inbound = entry.inbound
      outbound = entry.outbound
      self.key = key
    }

    init(name: ClientName, publicKey: RSAPublicKey, outbound: OutboundSession?, key: Int) {
      self.name = name
      self.publicKey = publicKey
      inbound = nil
      self.outbound = outbound
      self.key = key
    }
  }

  private struct Keyed {
    var cache: SessionCache
    var waiting: UnauthenticatedSessions
    var isRetired = false
  }

  private var keyed: [Keyed]
  private let capacity: Int
  private let waitingCapacity: Int

  /// - Parameters:
  ///   - keys: their number, the current one first.
  ///   - capacity: clients of each key.
  init(keys: Int, capacity: Int) {
    self.capacity = capacity
    waitingCapacity = max(1024, capacity / 4)
    keyed = []
    for _ in 0..<max(1, keys) { keyed.append(empty()) }
  }

  private func empty() -> Keyed {
    Keyed(
      cache: SessionCache(capacity: capacity), waiting: UnauthenticatedSessions(capacity: waitingCapacity))
  }

  /// Clients with a session.
  var count: Int { keyed.reduce(0) { $0 + $1.cache.count } }

  /// The caches in the order of the keys, for a snapshot.
  var caches: [SessionCache] { keyed.map(\.cache) }

  /// The session with exactly this `encrypted_cipher`. Counts as a use.
  mutating func inbound(_ encryptedCipher: [UInt8]) -> Known? {
    for key in keyed.indices {
      if let (name, entry) = keyed[key].cache.inbound(encryptedCipher) {
        return Known(name: name, entry: entry, key: key)
      }
    }
    return nil
  }

  /// What is known of a client. Counts as a use.
  mutating func entry(_ name: ClientName) -> Known? {
    for key in keyed.indices {
      if let entry = keyed[key].cache.entry(name) { return Known(name: name, entry: entry, key: key) }
    }
    return nil
  }

  /// Our session towards a client, of one key.
  mutating func outbound(_ name: ClientName, key: Int) -> OutboundSession? {
    keyed.indices.contains(key) ? keyed[key].cache.entry(name)?.outbound : nil
  }

  /// Takes an authenticated session. The client's sessions of other keys leave: it has changed to this one.
  mutating func store(inbound session: InboundSession, of name: ClientName, publicKey: RSAPublicKey, key: Int) {
    guard keyed.indices.contains(key), !keyed[key].isRetired else { return }
    for other in keyed.indices where other != key { keyed[other].cache.forget(name) }
    keyed[key].cache.store(inbound: session, of: name, publicKey: publicKey)
    keyed[key].waiting.remove(session.encryptedCipher)
  }

  /// Takes a session of ours towards a client.
  mutating func store(outbound session: OutboundSession, of name: ClientName, publicKey: RSAPublicKey, key: Int) {
    guard keyed.indices.contains(key), !keyed[key].isRetired else { return }
    keyed[key].cache.store(outbound: session, of: name, publicKey: publicKey)
  }

  /// An unauthenticated session, and the key that opened it.
  mutating func waiting(_ encryptedCipher: [UInt8], now: UInt64) -> (session: InboundSession, key: Int)? {
    for key in keyed.indices {
      if let session = keyed[key].waiting.session(encryptedCipher, now: now) { return (session, key) }
    }
    return nil
  }

  mutating func store(waiting session: InboundSession, key: Int, now: UInt64) {
    guard keyed.indices.contains(key), !keyed[key].isRetired else { return }
    keyed[key].waiting.store(session, now: now)
  }

  /// Drops all of a client.
  mutating func forget(_ name: ClientName) {
    for key in keyed.indices { keyed[key].cache.forget(name) }
  }

  /// Ends the sessions of a key for good.
  mutating func retire(_ key: Int) {
    guard keyed.indices.contains(key), !keyed[key].isRetired else { return }
    keyed[key] = empty()
    keyed[key].isRetired = true
  }

  /// Takes over the sessions of a former process.
  mutating func restore(_ cache: SessionCache, key: Int) {
    guard keyed.indices.contains(key), !keyed[key].isRetired else { return }
    keyed[key].cache = cache
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
