import Envelope
import Observability

/// The worker's counters. Names follow the reference's where the meaning is the same.
final class CryptoMetrics: Sendable {
  let registry: MetricsRegistry
  let rsaDecrypt: Counter
  let rsaSign: Counter
  let opened: Counter
  let unverified: Counter
  let rejected: Counter
  let overloaded: Counter
  let abuseRefused: Counter
  let cacheHits: Counter
  let cacheMisses: Counter
  let linkErrors: Counter
  let previousKey: Counter
  let sessions: Counter
  let warmJobs: Counter
  let coldJobs: Counter
  private let reasons: [EnvelopeError.Code: Counter]

  init(_ registry: MetricsRegistry) {
    self.registry = registry
    rsaDecrypt = registry.counter("rsa_decrypt_op", "RSA private decryptions.")
    rsaSign = registry.counter("rsa_sign_op", "RSA signatures, one for each new session towards a client.")
    opened = registry.counter("worker_opened_count", "Bodies opened and authenticated.")
    unverified = registry.counter("worker_unverified_count", "Bodies whose sender's key had to be asked for.")
    rejected = registry.counter("frontend_decryption_errors", "Bodies refused.")
    overloaded = registry.counter("worker_overloaded_count", "Requests refused because the cold lane was full.")
    abuseRefused = registry.counter(
      "worker_abuse_refused_count", "Unknown sessions refused before RSA because their address kept failing.")
    cacheHits = registry.counter("cipher_lru_hit", "Bodies of a cached session.")
    cacheMisses = registry.counter("cipher_lru_miss", "Bodies of an unknown session.")
    linkErrors = registry.counter("worker_link_errors", "Garbage on the ZeroMQ endpoint.")
    previousKey = registry.counter(
      "worker_previous_key_count", "Sessions opened with a rotated key; if it grows, agents hold the old certificate.")
    sessions = registry.counter("worker_sessions_count", "Client sessions authenticated, each by one RSA decryption.")
    let lanes = ("worker_lane_count", "Requests by the lane that did them: warm without RSA, cold with it.")
    warmJobs = registry.counter(lanes.0, lanes.1, labels: ["lane": "warm"])
    coldJobs = registry.counter(lanes.0, lanes.1, labels: ["lane": "cold"])
    let (hits, misses, decryptions, signatures, opened) = (cacheHits, cacheMisses, rsaDecrypt, rsaSign, sessions)
    registry.gauge("cipher_lru_hit_ratio", "Part of all bodies whose session was cached.") {
      let all = hits.value + misses.value
      return all == 0 ? .nan : Double(hits.value) / Double(all)
    }
    registry.gauge("rsa_operations_per_session", "RSA private operations for each authenticated session.") {
      opened.value == 0 ? .nan : Double(decryptions.value + signatures.value) / Double(opened.value)
    }
    reasons = Dictionary(
      uniqueKeysWithValues: EnvelopeError.Code.allCases.map { code in
        (code, registry.counter("worker_rejected_count", "Bodies refused, by reason.", labels: ["reason": "\(code)"]))
      })
  }

  func reject(_ error: EnvelopeError) {
    rejected.increment()
    reasons[error.code]?.increment()
  }
}
