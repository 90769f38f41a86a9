import PublicIdentity
import Wire

/// One decrypted and inflated element of a `PackedMessageList` with its decoded jobs.
package struct ReceivedList: Sendable {
  /// The serialized `MessageList` as the worker opened and the frontend inflated it. Its digest recognises a re-sent
  /// list (corrections.md, "Re-sending").
  package var bytes: [UInt8]
  /// The jobs of `bytes`; `source`, `org_id` and `auth_state` were overwritten from the envelope.
  package var jobs: [Proto_VeloMessage]

  package init(bytes: [UInt8], jobs: [Proto_VeloMessage]) {
    self.bytes = bytes
    self.jobs = jobs
  }
}

/// The content of one authenticated body.
package struct Submission: Sendable {
  package var client: ClientName
  /// The agent's address as text, for display only (http.md §9).
  package var remoteAddress: String
  package var receivedAt: Timestamp
  package var lists: [ReceivedList]

  package init(client: ClientName, remoteAddress: String, receivedAt: Timestamp, lists: [ReceivedList]) {
    self.client = client
    self.remoteAddress = remoteAddress
    self.receivedAt = receivedAt
    self.lists = lists
  }
}

/// A job that was refused; the others of its body were stored (verify.md S-14).
package struct JobFailure: Sendable, Hashable {
  package enum Reason: String, Sendable, CaseIterable {
    case malformedSession = "malformed_session"
    case malformedArtifact = "malformed_artifact"
    case malformedRows = "malformed_rows"
    case tooLarge = "too_large"
    case malformedUpload = "malformed_upload"
  }

  package var reason: Reason
  /// A short text for a log line: no row text, no path.
  package var detail: String

  package init(_ reason: Reason, _ detail: String) {
    self.reason = reason
    self.detail = detail
  }
}

/// What one `ingest` did. It is returned after the commit: from then on the body may be acknowledged.
package struct IngestResult: Sendable, Equatable {
  package enum Outcome: Sendable {
    /// Everything that could be stored is durable.
    case stored
    /// The client was deleted or never enrolled: nothing was stored; answer 406.
    case unknownClient
  }

  package var outcome: Outcome
  /// JSON rows newly stored for flows.
  package var rows = 0
  /// JSON rows newly stored for event queries.
  package var monitoringRows = 0
  /// Log lines newly stored.
  package var logs = 0
  /// Message lists that were stored before and therefore skipped.
  package var duplicateLists = 0
  /// Parts dropped by the rule of `query_start_row` or because the same log was there.
  package var duplicateParts = 0
  /// Refused jobs.
  package var failures: [JobFailure] = []
  /// The event table version of the last check-in in the body; nil when there was none.
  package var eventTableVersion: UInt64?

  package init(outcome: Outcome) {
    self.outcome = outcome
  }
}

/// A second reader of one client id (http.md §5.6).
package struct ClientConflict: Sendable {
  package var client: ClientName
  package var remoteAddress: String
  package var userAgent: String
  package var at: Timestamp

  package init(client: ClientName, remoteAddress: String, userAgent: String, at: Timestamp) {
    self.client = client
    self.remoteAddress = remoteAddress
    self.userAgent = userAgent
    self.at = at
  }
}
