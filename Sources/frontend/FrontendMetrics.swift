import Observability
import Store

/// The frontend's counters. Names follow the reference's where the meaning is the same.
final class FrontendMetrics: Sendable {
  let registry: MetricsRegistry
  let received: Counter
  let refused: Counter
  let enrollmentsAsked: Counter
  let enrolled: Counter
  let enrollmentsRefused: Counter
  let acknowledged: Counter
  let aborted: Counter
  let unavailable: Counter
  let tooLarge: Counter
  let concurrencyTimeouts: Counter
  let conflicts: Counter
  let readers: Gauge
  let tasksSent: Counter
  let shed: Counter
  let connectionErrors: Counter
  let jobFailures: Counter
  let duplicates: Counter
  let commitLatency: Histogram
  private let removed: [String: Counter]

  init(_ registry: MetricsRegistry) {
    self.registry = registry
    received = registry.counter("frontend_received_count", "Bodies received on control and reader.")
    refused = registry.counter("frontend_decryption_errors", "Bodies refused with 403.")
    enrollmentsAsked = registry.counter("frontend_enrollment_requests", "Answers 406: the client has to enroll.")
    enrolled = registry.counter("frontend_enrolled_count", "Client keys stored.")
    enrollmentsRefused = registry.counter("frontend_enrollment_errors", "Certificate requests refused.")
    acknowledged = registry.counter("frontend_acknowledged_count", "Bodies acknowledged after their commit.")
    aborted = registry.counter("frontend_aborted_count", "Answers cut because the data could not be stored in time.")
    unavailable = registry.counter("frontend_unavailable_count", "Answers 503: no worker or store.")
    tooLarge = registry.counter("frontend_too_large_count", "Bodies dropped for their size.")
    concurrencyTimeouts = registry.counter("frontend_concurrency_timeouts", "Answers 408: no slot in time.")
    conflicts = registry.counter("frontend_client_conflicts", "Second readers of one client id.")
    readers = registry.gauge("client_comms_current_connections", "Readers that wait for tasks.")
    tasksSent = registry.counter("frontend_tasks_sent", "Messages handed to readers.")
    shed = registry.counter("frontend_connections_shed", "Connections closed at once: connections_per_second.")
    connectionErrors = registry.counter("frontend_connection_errors", "Connections that ended in an error or garbage.")
    jobFailures = registry.counter("frontend_job_failures", "Jobs refused; the others of their body were stored.")
    duplicates = registry.counter("frontend_duplicate_lists", "Re-sent message lists that were stored before.")
    removed = Dictionary(
      uniqueKeysWithValues: ["monitoring", "flows", "uploads", "logs", "audit"].map { kind in
        let help = "Records that this process removed by Datastore.retention."
        return (kind, registry.counter("store_retention_removed", help, labels: ["kind": kind]))
      })
    commitLatency = registry.histogram("frontend_commit_seconds", "From the opened body to its commit.")
  }

  /// Counts what a step of retention removed.
  func count(_ report: RetentionReport) {
    let counts = [
      "monitoring": report.monitoring, "flows": report.flows, "uploads": report.uploads, "logs": report.logs,
      "audit": report.audit,
    ]
    for (kind, count) in counts { removed[kind]?.increment(by: UInt64(max(0, count))) }
  }
}
