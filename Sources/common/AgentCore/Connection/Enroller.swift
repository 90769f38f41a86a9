/// Decides when a certificate request is sent: on 406, at most one in 60 s (client.md §2.3).
package struct Enroller: Sendable {
  private let interval: Duration
  private var lastRequest: Instant?

  package init(interval: Duration = .seconds(60)) {
    self.interval = interval
  }

  /// The server answered 406.
  ///
  /// - Returns: whether a CSR is to be queued now.
  package mutating func pleaseEnrol(at now: Instant) -> Bool {
    if let lastRequest, now - lastRequest <= interval { return false }
    lastRequest = now
    return true
  }
}
