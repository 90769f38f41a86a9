#if canImport(Glibc)
  import Glibc
#endif

/// Weighted rendezvous (highest random weight) hashing: each session has an order of preference over all workers, and the
/// first live one serves it. A worker that leaves or joins moves only its own share of the sessions; a worker with twice
/// the weight gets twice as many.
package struct Rendezvous: Sendable {
  /// A worker's name, hashed once.
  package struct Place: Sendable, Equatable {
    fileprivate let hash: UInt64
  }

  private let hash: SipHash

  /// - Parameter secret: common to all frontends of a deployment; worth nothing but the routing.
  package init(secret: [UInt8]) {
    hash = SipHash(key: secret)
  }

  /// What a session's `encrypted_cipher` is compared by; of an empty key for requests that any worker may serve.
  package func digest(_ key: UnsafeRawBufferPointer) -> UInt64 { hash.hash(key) }

  package func digest(_ key: [UInt8]) -> UInt64 { key.withUnsafeBytes { hash.hash($0) } }

  /// - Parameter name: stable, such as an endpoint.
  package func place(_ name: String) -> Place {
    Place(hash: Array(name.utf8).withUnsafeBytes { hash.hash($0) })
  }

  /// How much a session belongs to a worker: the highest score has it.
  /// - Parameter weight: above 0, such as the number of sessions that the worker can keep.
  package func score(_ digest: UInt64, _ place: Place, weight: Double) -> Double {
    // A number from 0 to 1, both excluded, that is the same in every frontend.
    let uniform = (Double(hash.hash(digest, place.hash) >> 11) + 0.5) * 0x1p-53
    return -weight / log(uniform)
  }

  /// The workers in this key's order of preference, all of the same weight.
  package func order<Workers: Sequence<String>>(_ key: [UInt8], _ workers: Workers) -> [String] {
    let digest = digest(key)
    return workers.map { (score: score(digest, place($0), weight: 1), name: $0) }
      // Equal scores are as good as impossible; the name keeps all frontends in agreement even then.
      .sorted { ($0.score, $0.name) > ($1.score, $1.name) }
      .map(\.name)
  }
}
