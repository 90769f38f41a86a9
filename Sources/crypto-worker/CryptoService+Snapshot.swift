import Envelope
import PKI

/// The sessions of a worker that stops, for the one that starts after it.
extension CryptoService {
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
}
