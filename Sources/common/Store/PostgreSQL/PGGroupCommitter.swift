import PublicIdentity

/// Collects the submissions of one process and commits all that wait as one transaction: while one group is being
/// committed, the next fills. A submission that cannot be stored never loses the others.
actor PGGroupCommitter {
  private struct Waiting: Sendable {
    var submission: PreparedSubmission
    var deadline: ContinuousClock.Instant
    var continuation: CheckedContinuation<IngestResult, any Error>
  }

  private let client: PGClient
  private let options: StoreOptions
  private var waiting = GroupQueue<Waiting>()
  private var senders = 0
  private var isRunning = false
  /// Submissions that wait for somebody else's lock, beside the groups.
  private var patient = 0
  private var isClosed = false
  private var closers: [CheckedContinuation<Void, Never>] = []
  /// How many senders were seen when the last group ended, and how long it took.
  private var rhythm: (senders: Int, duration: Duration) = (0, .zero)
  /// The error of the last group; nil when it was committed.
  private(set) var lastFailure: StoreError?

  init(client: PGClient, options: StoreOptions) {
    self.client = client
    self.options = options
  }

  /// Stores a submission within the next group and returns after the commit.
  func submit(_ submission: PreparedSubmission) async throws -> IngestResult {
    guard !isClosed else { throw StoreError(.unavailable, "the store is closed") }
    guard !waiting.isFull(options) else {
      throw StoreError(.busy, "\(waiting.count) submissions wait for PostgreSQL; it is too slow or away")
    }
    return try await withCheckedThrowingContinuation { continuation in
      waiting.append(
        Waiting(submission: submission, deadline: client.deadline, continuation: continuation),
        bytes: submission.bytes)
      guard !isRunning else { return }
      isRunning = true
      Task { await drain() }
    }
  }

  func clearFailure() {
    lastFailure = nil
  }

  /// Takes no more and waits for what was accepted.
  func close() async {
    isClosed = true
    guard isRunning || patient > 0 else { return }
    await withCheckedContinuation { closers.append($0) }
  }

  private func drain() async {
    while !waiting.isEmpty {
      await gather()
      let group = waiting.takeGroup(options)
      let start = ContinuousClock.now
      await commit(group)
      rhythm = (senders, ContinuousClock.now - start)
    }
    isRunning = false
    wakeClosers()
  }

  /// Those whom the last commit answered are about to send again. Waiting for them for a small part of a commit's time
  /// keeps the senders in one group instead of two halves that take turns. A lone sender never waits.
  private func gather() async {
    let slices = 8
    let slice = min(rhythm.duration / (4 * slices), .microseconds(250))
    let expected = min(rhythm.senders, options.maximumGroup)
    guard expected > 1 else { return }
    for _ in 0..<slices where waiting.count < expected && !isClosed { try? await Task.sleep(for: slice) }
  }

  private func wakeClosers() {
    guard !isRunning, patient == 0 else { return }
    for closer in closers { closer.resume() }
    closers = []
  }

  private func commit(_ group: [Waiting]) async {
    guard let deadline = group.map(\.deadline).min() else { return }
    do {
      let outcomes = try await store(group.map(\.submission), waitsForLocks: false, .ingest, deadline)
      lastFailure = nil
      senders = group.count + waiting.count
      for (item, outcome) in zip(group, outcomes) {
        switch outcome {
        case .done(let result): item.continuation.resume(returning: result)
        case .locked: waitForLock(item)
        }
      }
    } catch {
      await failed(group, error)
    }
  }

  /// Another process works on the client: its submission waits beside the groups.
  private func waitForLock(_ item: Waiting) {
    patient += 1
    Task {
      do {
        let outcomes = try await store([item.submission], waitsForLocks: true, .change, item.deadline)
        if case .done(let result)? = outcomes.first {
          item.continuation.resume(returning: result)
        } else {
          item.continuation.resume(throwing: StoreError(.busy, "the client is locked by another process"))
        }
      } catch {
        item.continuation.resume(throwing: Self.storeError(error))
      }
      patient -= 1
      wakeClosers()
    }
  }

  private func failed(_ group: [Waiting], _ error: any Error) async {
    let failure = Self.storeError(error)
    if case .unreachable? = error as? PGFailure, !isClosed {
      // Only those whose time is over give up; the others go on waiting for the server.
      lastFailure = failure
      let now = ContinuousClock.now
      let patient = group.filter { $0.deadline > now }
      for item in group where item.deadline <= now { item.continuation.resume(throwing: failure) }
      waiting.putBack(patient) { $0.submission.bytes }
    } else if failure.isTransient || group.count == 1 {
      if failure.isTransient { lastFailure = failure }
      for item in group { item.continuation.resume(throwing: failure) }
    } else {
      // One of them cannot be stored: each by itself, so that it does not lose the others.
      for item in group { await commit([item]) }
    }
  }

  private static func storeError(_ error: any Error) -> StoreError {
    if let failure = error as? PGFailure { return failure.storeError }
    return error as? StoreError ?? StoreError(.internalError, "the store failed unexpectedly: \(error)")
  }

  private func store(
    _ submissions: [PreparedSubmission], waitsForLocks: Bool, _ role: PGRole, _ deadline: ContinuousClock.Instant
  ) async throws -> [PGIngest.Outcome] {
    try await client.attempts(role, deadline) { transaction in
      var group = PGIngest(submissions: submissions, waitsForLocks: waitsForLocks)
      return try await group.run(&transaction)
    }
  }
}
