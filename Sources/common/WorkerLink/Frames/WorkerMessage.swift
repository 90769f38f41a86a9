import Wire

/// What a frontend asks of a crypto-worker. Every operation is idempotent, so a request that was in flight at a worker
/// that died can be sent again to the next.
package enum WorkerRequest: Sendable, Equatable {
  /// Opens a POST body.
  /// - `acknowledge`: also seal an empty list for the sender, to be sent after the commit.
  /// - `address`: where it came from, without port; empty when unknown. Only for refusing forgeries before they cost RSA.
  case open(body: [UInt8], acknowledge: Bool, address: String = "")
  /// Opens a body whose sender's key the worker did not have. The key is PKCS#1 DER from the store; the worker checks
  /// that it hashes to the source and that it signed the session.
  case confirm(body: [UInt8], publicKey: [UInt8], acknowledge: Bool)
  /// The lists of a body whose sender is not enrolled. Only a CSR in them may be used.
  case unenrolled(body: [UInt8])
  /// Seals one serialized MessageList for a client.
  /// - `routingKey`: the `encrypted_cipher` of the client's session, so that one worker serves both directions.
  /// - `source`: the client's name with org suffix.
  /// - `publicKey`: PKCS#1 DER, empty when the worker is expected to have it.
  /// - `keyID`: which of the server's keys the client's session was wrapped for, from `OpenedBody`; 0 when unknown.
  case seal(routingKey: [UInt8], source: String, publicKey: [UInt8], list: [UInt8], keyID: UInt64 = 0)
  /// Drops a client's sessions and key (deleted or enrolled again).
  case forget(source: String)
  case health
}

/// What a crypto-worker answers.
package enum WorkerReply: Sendable, Equatable {
  /// The body is authentic.
  case opened(OpenedBody)
  /// The session was unwrapped and its MAC is right, but no public key is at hand for the source: ask the store and
  /// `confirm`, or treat as unenrolled.
  case unverified(source: String)
  /// The content of an unauthenticated body.
  case unauthenticated(OpenedBody)
  /// A body for the client.
  case sealed(body: [UInt8])
  /// `seal` needs the client's public key.
  case needKey
  /// Refused; `reason` is the worker's error code, for metrics only.
  case rejected(reason: UInt8)
  /// The cold lane is full.
  case overloaded
  case done
  case health(WorkerHealth)
}

/// A decrypted body.
package struct OpenedBody: Sendable, Equatable {
  /// The sender's name with org suffix, proved unless the reply says otherwise.
  package var source: String
  package var apiVersion: UInt32
  /// The sender's clock, microseconds since 1970.
  package var timestamp: UInt64
  package var compressed: Bool
  /// MessageLists as they were packed, still compressed when `compressed`.
  package var lists: [[UInt8]]
  /// The sealed empty list, when it was asked for.
  package var acknowledgement: [UInt8]
  /// Which of the server's keys opened it: the client holds that one's certificate.
  package var keyID: UInt64

  package init(
    source: String, apiVersion: UInt32, timestamp: UInt64, compressed: Bool, lists: [[UInt8]],
    acknowledgement: [UInt8] = [], keyID: UInt64 = 0
  ) {
    self.keyID = keyID
    self.source = source
    self.apiVersion = apiVersion
    self.timestamp = timestamp
    self.compressed = compressed
    self.lists = lists
    self.acknowledgement = acknowledgement
  }
}

/// A worker's own account of its load.
package struct WorkerHealth: Sendable, Equatable {
  package var name: String
  package var draining: Bool
  package var coldDepth: UInt64
  package var coldLimit: UInt64
  package var sessions: UInt64
  package var sessionLimit: UInt64
  package var rsaPrivateOperations: UInt64
  package var opened: UInt64
  package var rejected: UInt64

  package init(
    name: String = "", draining: Bool = false, coldDepth: UInt64 = 0, coldLimit: UInt64 = 0, sessions: UInt64 = 0,
    sessionLimit: UInt64 = 0, rsaPrivateOperations: UInt64 = 0, opened: UInt64 = 0, rejected: UInt64 = 0
  ) {
    self.name = name
    self.draining = draining
    self.coldDepth = coldDepth
    self.coldLimit = coldLimit
    self.sessions = sessions
    self.sessionLimit = sessionLimit
    self.rsaPrivateOperations = rsaPrivateOperations
    self.opened = opened
    self.rejected = rejected
  }
}
