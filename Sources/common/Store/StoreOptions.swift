import PublicIdentity

/// The knobs of a store, with the same meaning in each implementation.
package struct StoreOptions: Sendable {
  /// Flows handed to one client and not yet ended; 2 + `Client.concurrency`, 4 when that is unset (corrections.md S-3).
  package var flowsInFlight = 4
  /// How long a handed-out flow may be silent before the agent is asked about it; `defaults.inflight_check_time`.
  package var leaseDuration: Duration = .seconds(60)
  /// How soon a reader comes back after an answer that it read to the end; a later return means that it may not have
  /// been read. Used for messages the agent never speaks about (Cancel, UpdateEventTable).
  package var promptReturn: Duration = .seconds(30)
  /// How often a message that the agent never speaks about is sent at most.
  package var silentAttempts: Int64 = 3
  /// How long digests of stored lists are kept; an agent re-sends within minutes.
  package var digestLifetime: Duration = .seconds(7 * 86_400)
  /// How long change events are kept for other processes; they poll many times a second.
  package var eventLifetime: Duration = .seconds(600)
  /// How often changes of other processes are looked for when the system gives no inotify watch.
  package var pollInterval: Duration = .milliseconds(10)
  /// How often they are looked for beside the watch, for a process that died before it could ring.
  package var lostRingInterval: Duration = .milliseconds(250)
  /// Submissions and bytes that may wait for the disk; beyond them `ingest` throws `.busy`.
  package var maximumWaiting = 4_096
  package var maximumWaitingBytes = 512 << 20
  /// Submissions and bytes of one commit.
  package var maximumGroup = 256
  package var maximumGroupBytes = 16 << 20
  /// How long a writer waits for another program that holds the database.
  package var busyTimeout: Duration = .seconds(5)
  package var jobs = JobLimits()
  package var retention = Retention()
  /// Reads names that agents got from a stock server before; nil when there was none.
  package var names: ObfuscatedNames?

  package init() {}
}

/// Limits on what one job may carry (server.md §2).
package struct JobLimits: Sendable {
  package var rowsPerPart = 1_000_000
  /// Bytes of JSONL after inflating.
  package var bytesPerPart = 100 << 20
  /// Bytes of one `FileBuffer` after inflating; agents send 1 MiB.
  package var bytesPerPiece = 16 << 20
  /// The greatest size of one uploaded file.
  package var uploadFileSize: Int64 = 64 << 30

  package init() {}
}
