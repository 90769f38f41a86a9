import PublicIdentity

/// The durable state of a deployment: clients, tasks, flows and what agents sent (architecture §5).
///
/// Two implementations are meant to pass one suite of tests. Every `async` call that changes something returns after
/// the change is durable. All errors are `StoreError`.
package protocol Store: ForemanStore {
  // MARK: clients

  /// The key that opens the client's messages; nil when the client has to enroll.
  func publicKey(of client: ClientName) async throws -> StoredKey?
  func clientExists(_ client: ClientName) async throws -> Bool
  /// Creates the client or overwrites its key. `.keyChanged` is announced when the key is new or another.
  /// - Parameters:
  ///   - publicKeyPEM: PKCS#1 PEM that hashes to the client id (the caller checked it).
  ///   - address: the remote address, for display.
  func enroll(_ client: ClientName, publicKeyPEM: String, at: Timestamp, address: String) async throws
  func client(_ client: ClientName) async throws -> ClientRecord?
  func clients(_ filter: ClientFilter) async throws -> [ClientRecord]
  /// Adds and removes labels; they are unique without regard to case. Throws `.notFound`.
  func changeLabels(of client: ClientName, add: [String], remove: [String], by: Operator) async throws
  /// Deletes the client, its key, tasks, flows, rows and files. The first step makes the client unknown at once and
  /// announces `.clientDeleted`; the rest follows in small steps that `maintain` completes after a crash.
  /// - Returns: false when there was no such client.
  @discardableResult
  func delete(_ client: ClientName, by: Operator) async throws -> Bool

  // MARK: what agents send

  /// Stores one body's content as one atomic unit; see `IngestResult`. Throws when nothing was stored: answer 503 or
  /// abort, never 200.
  func ingest(_ submission: Submission) async throws -> IngestResult
  /// Stores a `Server.Internal.ClientConflict` event; `monitoring` reads it.
  func recordConflict(_ conflict: ClientConflict) async throws

  // MARK: readers

  /// Where the client's reader was seated last; nil when never.
  func seat(of client: ClientName) async throws -> StoredSeat?
  /// The client's reader sits here now. When it sat at another process `.seatTaken` is announced. A seat that is taken
  /// again by the same process and session writes nothing.
  /// - Returns: the seat of another process that this one replaces.
  func takeSeat(_ seat: StoredSeat) async throws -> StoredSeat?

  // MARK: tasks

  /// Queues tasks in order and creates the flows of `FlowRequest`s; announces `.tasksQueued`. Throws `.notFound` when
  /// a client is unknown; then nothing was queued.
  /// - Returns: the task ids, in order.
  @discardableResult
  func queue(_ tasks: [NewTask], by: Operator) async throws -> [Int64]
  /// What the client's reader should be given now; nil for nothing. See `TaskRules` for budget and leases.
  /// - Parameter foreman: queues first what is due to the client: interrogation, event table, hunts; nil for nothing.
  func leaseTasks(for client: ClientName, now: Timestamp, foreman: Foreman?) async throws -> TaskLease?
  /// The lease's answer was certainly never written to a socket: the tasks wait again at once.
  func release(_ lease: TaskLease) async throws
  func cancel(_ flow: FlowName, by: Operator) async throws -> CancelOutcome
  /// Changes made from now on, by any process. Events may repeat; each is only a reason to look.
  func events() async throws -> AsyncStream<StoreEvent>

  // MARK: what operators read

  /// The client's flows, newest first.
  func flows(of client: ClientName, limit: Int) async throws -> [FlowRecord]
  func flow(_ name: FlowName) async throws -> FlowRecord?
  func sources(of flow: FlowName) async throws -> [ResultSource]
  /// Up to `limit` rows with index ≥ `from`, in order.
  func rows(of flow: FlowName, source: String, from: Int64, limit: Int) async throws -> [StoredRow]
  /// Log messages after `cursor` (0 from the start), at most `limit` messages.
  func logs(of flow: FlowName, after cursor: Int64, limit: Int) async throws -> [LogChunk]
  /// Event rows of an artifact after `cursor`, at most `limit` messages, of all clients or of one.
  func monitoring(
    org: String, artifact: String, client: ClientName?, after cursor: Int64, limit: Int
  ) async throws -> [MonitoringChunk]
  /// The cursor after the newest event row now stored, to follow from.
  func monitoringEnd() async throws -> Int64
  func uploads(of flow: FlowName) async throws -> [UploadRecord]
  /// Some stored bytes of an upload; pieces that did not come are zero.
  /// - Returns: fewer bytes than `limit` at the end of what is stored, none beyond it.
  func uploadContent(of flow: FlowName, _ upload: UploadRecord, from offset: Int64, limit: Int) async throws -> [UInt8]
  /// The newest operator actions first.
  func audit(limit: Int) async throws -> [AuditRecord]

  // MARK: operation

  /// One small step of housekeeping: expiry, forgotten digests, deletions. Call it every few seconds, and again at
  /// once while `hasMore`.
  @discardableResult
  func maintain(now: Timestamp) async throws -> MaintenanceReport
  func health() async -> StoreHealth
  /// Waits for what was accepted, then closes. Later calls throw `.unavailable`.
  func close() async
}

extension Store {
  package func leaseTasks(for client: ClientName, now: Timestamp) async throws -> TaskLease? {
    try await leaseTasks(for: client, now: now, foreman: nil)
  }
}
