/// Rendezvous (highest random weight) hashing: each session has an order of preference over all workers, and the first
/// live one serves it. A worker that leaves or joins moves only its own share of the sessions.
package struct Rendezvous: Sendable {
  private let hash: SipHash

  /// - Parameter secret: common to all frontends of a deployment; worth nothing but the routing.
  package init(secret: [UInt8]) {
    hash = SipHash(key: secret)
  }

  /// The workers in this key's order of preference.
  /// - Parameters:
  ///   - key: the `encrypted_cipher` of the session; empty for requests that any worker may serve.
  ///   - workers: stable names, such as endpoints.
  package func order<Workers: Sequence<String>>(_ key: [UInt8], _ workers: Workers) -> [String] {
    let digest = hash.hash(key)
    let prefix = (0..<8).map { UInt8(truncatingIfNeeded: digest >> (8 * UInt64($0))) }
    return workers.map { (score: hash.hash(prefix + Array($0.utf8)), name: $0) }
      // Equal scores are as good as impossible; the name keeps all frontends in agreement even then.
      .sorted { ($0.score, $0.name) > ($1.score, $1.name) }
      .map(\.name)
  }
}
