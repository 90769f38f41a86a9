/// How long things are kept; nil keeps them for ever. `Store.maintain` removes what is older, in small steps.
package struct Retention: Sendable, Equatable {
  /// Rows and logs of event queries.
  package var monitoring: Duration?
  /// Flows that ended, with their rows, logs, uploads and tasks.
  package var flows: Duration?
  /// Uploaded files, also of flows that are kept.
  package var uploads: Duration?
  /// Logs of flows, also of flows that are kept.
  package var logs: Duration?
  /// The audit trail.
  package var audit: Duration?
  /// Bytes that the database may use; beyond them the oldest event rows and ended flows go first. SQLite only.
  package var maximumBytes: Int64?

  package init() {}

  /// Until when, in microseconds since 1970; nil when nothing is removed.
  func horizon(_ age: Duration?, now: Timestamp) -> Int64? {
    age.map { now.advanced(by: .zero - $0).microseconds }
  }
}

/// What one step of retention removed.
package struct RetentionReport: Sendable, Equatable {
  /// Messages of event queries.
  package var monitoring = 0
  package var flows = 0
  package var uploads = 0
  /// Log messages.
  package var logs = 0
  package var audit = 0
  /// Rows and other records of flows that are going.
  package var records = 0

  package init() {}

  var isEmpty: Bool { self == RetentionReport() }
}
