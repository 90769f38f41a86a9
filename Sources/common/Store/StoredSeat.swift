import PublicIdentity

/// Where a client's reader was seated last, as frontends tell each other (http.md §5 step 6). It is a hint: a reader
/// that ends leaves its seat as it is, so that one that comes back to the same process costs no write.
package struct StoredSeat: Sendable, Equatable {
  package var client: ClientName
  /// The frontend process, unique for each start.
  package var process: String
  /// A hash of the agent's session.
  package var session: UInt64
  /// The address without its port.
  package var host: String
  /// The address for display.
  package var remoteAddress: String
  package var userAgent: String
  /// A proxy's connection stands between.
  package var isRelayed: Bool

  package init(
    client: ClientName, process: String, session: UInt64, host: String, remoteAddress: String, userAgent: String,
    isRelayed: Bool
  ) {
    self.client = client
    self.process = process
    self.session = session
    self.host = host
    self.remoteAddress = remoteAddress
    self.userAgent = userAgent
    self.isRelayed = isRelayed
  }

  /// Whether nothing has to be written for this seat: only the port may differ.
  func repeats(_ stored: StoredSeat) -> Bool {
    process == stored.process && session == stored.session && host == stored.host
  }
}
