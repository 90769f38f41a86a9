import PublicIdentity

/// A client's public key as stored.
package struct StoredKey: Sendable, Equatable {
  /// PKCS#1 PEM (`RSA PUBLIC KEY`).
  package var publicKeyPEM: String
  package var enrolledAt: Timestamp

  package init(publicKeyPEM: String, enrolledAt: Timestamp) {
    self.publicKeyPEM = publicKeyPEM
    self.enrolledAt = enrolledAt
  }
}

/// What a host says about itself, by `Server.Internal.ClientInfo` and `BasicInformation` rows (server.md §3, §6).
/// Empty texts are unknown.
package struct HostFacts: Sendable, Equatable, Codable {
  package var hostname = ""
  package var fqdn = ""
  package var system = ""
  package var release = ""
  package var architecture = ""
  package var clientName = ""
  package var clientVersion = ""
  package var buildURL = ""
  package var buildTime = ""
  /// Unix seconds; 0 is unknown.
  package var installTime: Int64 = 0
  package var macAddresses: [String] = []

  package init() {}
}

/// One client as the operator sees it.
package struct ClientRecord: Sendable, Equatable {
  package var client: ClientName
  package var firstSeen: Timestamp
  package var lastSeen: Timestamp?
  package var lastAddress: String
  package var facts: HostFacts
  package var labels: [String]
}

/// Which clients to list.
package struct ClientFilter: Sendable {
  package var org = ""
  /// A prefix of the client id, host name or FQDN, without regard to case; nil for all. `label:NAME` selects by label.
  package var search: String?
  /// Only clients in contact at or after this instant.
  package var seenSince: Timestamp?
  package var limit = 1_000
  /// Continue after this client id (the order is by client id).
  package var after: String?

  package init() {}
}

/// The states an operator is shown (server.md §2). The raw values are stored.
package enum FlowState: Int64, Sendable {
  case waiting = 0
  case running = 1
  case finished = 2
  case error = 3
  case cancelled = 4
  case expired = 5

  package var hasEnded: Bool { self != .waiting && self != .running }
}

/// Sums over the statuses of a flow's queries (server.md §2, FlowStats).
package struct FlowTotals: Sendable, Equatable, Codable {
  package var rows: Int64 = 0
  package var logs: Int64 = 0
  package var uploadedFiles: Int64 = 0
  package var uploadedBytes: Int64 = 0
  package var expectedUploadedBytes: Int64 = 0
  /// Nanoseconds; the longest query's.
  package var duration: Int64 = 0
  /// Microseconds since 1970; 0 is unknown.
  package var firstActive: Int64 = 0
  package var lastActive: Int64 = 0

  package init() {}
}

package struct FlowRecord: Sendable, Equatable {
  package var name: FlowName
  package var state: FlowState
  /// The first error's text; empty without one.
  package var errorText: String
  package var createdAt: Timestamp
  package var creator: String
  /// When the agent last spoke about it; nil when never.
  package var lastHeard: Timestamp?
  package var endedAt: Timestamp?
  package var totals: FlowTotals
  /// The serialized `FlowRequest`; empty for a flow that only the agent knows about.
  package var request: [UInt8]
  /// The serialized `FlowStats` of the last message about it.
  package var stats: [UInt8]

  /// The state as displayed: WAITING, IN_PROGRESS (heard in the last 300 s), UNRESPONSIVE, FINISHED, ERROR, …
  package func displayedState(at now: Timestamp) -> String {
    switch state {
    case .waiting: "WAITING"
    case .running:
      (lastHeard ?? createdAt).advanced(by: .seconds(300)) >= now ? "IN_PROGRESS" : "UNRESPONSIVE"
    case .finished: "FINISHED"
    case .error: "ERROR"
    case .cancelled: "CANCELLED"
    case .expired: "EXPIRED"
    }
  }
}

/// The rows of one artifact or source in a flow.
package struct ResultSource: Sendable, Equatable {
  package var name: String
  package var rows: Int64
  /// Bytes of JSONL.
  package var bytes: Int64
}

/// One JSON row exactly as received, without its LF.
package struct StoredRow: Sendable, Equatable {
  package var index: Int64
  package var json: String
}

/// Some log lines of one message, JSONL exactly as received.
package struct LogChunk: Sendable, Equatable {
  /// Grows with each stored message; pass the last one to read on.
  package var cursor: Int64
  package var firstID: Int64
  package var jsonl: String
}

/// Some rows of an event query.
package struct MonitoringChunk: Sendable, Equatable {
  package var cursor: Int64
  package var client: ClientName
  package var receivedAt: Timestamp
  package var jsonl: String
}

package struct UploadRecord: Sendable, Equatable {
  package var number: Int64
  package var accessor: String
  /// The path as the client named it, for display.
  package var clientPath: String
  /// Below the datastore directory, sanitised.
  package var storedPath: String
  package var size: Int64
  package var storedSize: Int64
  package var complete: Bool
  /// The serialized `Index` of a sparse file; empty without holes.
  package var index: [UInt8]

  package init(
    number: Int64, accessor: String, clientPath: String, storedPath: String, size: Int64, storedSize: Int64,
    complete: Bool, index: [UInt8]
  ) {
    self.number = number
    self.accessor = accessor
    self.clientPath = clientPath
    self.storedPath = storedPath
    self.size = size
    self.storedSize = storedSize
    self.complete = complete
    self.index = index
  }
}

package struct AuditRecord: Sendable, Equatable {
  package var at: Timestamp
  package var by: Operator
  package var action: String
  package var client: String
  package var detail: String
}

/// What one `maintain` did; zero everywhere when nothing was due.
package struct MaintenanceReport: Sendable, Equatable {
  package var expiredTasks = 0
  package var forgottenDigests = 0
  package var trimmedEvents = 0
  package var purgedRecords = 0
  package var retention = RetentionReport()
  /// Whether a deletion has more steps to go.
  package var hasMore = false

  package init() {}
}
