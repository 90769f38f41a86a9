import Foundation
import GRDB
import PublicIdentity

extension SQLiteStore {
  package func ingest(_ submission: Submission) async throws -> IngestResult {
    var prepared = PreparedSubmission(submission, processor: processor)
    if prepared.hasUploads {
      // Files are written before the transaction; what is known to be stored, or not wanted, is not.
      let (name, digests) = (submission.client, prepared.lists.map(\.digest))
      let wanted = try await read { db -> [Bool]? in
        guard let key = try db.key(of: name) else { return nil }
        return try digests.map { try db.row(IngestWriter.sqlSeen, [key, $0]) == nil }
      }
      guard let wanted else { return IngestResult(outcome: .unknownClient) }
      for (index, isWanted) in wanted.enumerated() where isWanted {
        let failures = try await writeFiles(prepared.lists[index].uploads, of: submission.client)
        prepared.failures += failures
      }
    }
    return try await write(bytes: prepared.bytes) { [prepared, options] db in
      try IngestWriter(db: db, submission: prepared, options: options).run()
    }.announcing(to: poller)
  }

  private func writeFiles(_ pieces: [UploadPiece], of client: ClientName) async throws -> [JobFailure] {
    guard !pieces.isEmpty else { return [] }
    do {
      return try await uploadFiles.write(pieces, of: client)
    } catch {
      throw StoreError.from(error, path: pool.path)
    }
  }

  package func recordConflict(_ conflict: ClientConflict) async throws {
    let part = MonitoringPart.conflict(conflict)
    try await write(bytes: part.jsonl.count) { db in
      guard let key = try db.key(of: conflict.client) else { return }
      try db.storeMonitoring(part, org: conflict.client.org, client: key, at: conflict.at)
    }
  }
}

/// What an ingest returns out of its transaction.
struct IngestOutcome: Sendable {
  var result: IngestResult
  /// Whether tasks went back into the queue.
  var requeued: Bool

  func announcing(to poller: ChangePoller) async -> IngestResult {
    if requeued { await poller.announced() }
    return result
  }
}

/// A submission after all work that needs no database.
struct PreparedSubmission: Sendable {
  struct List: Sendable {
    /// The first half of a SHA-256.
    var digest: Data
    var effects: [JobEffect]
    /// Whether the list is remembered (architecture §4.5).
    var isDurable: Bool

    var uploads: [UploadPiece] {
      effects.compactMap { if case .upload(let piece) = $0 { piece } else { nil } }
    }
  }

  var client: ClientName
  var address: String
  var receivedAt: Timestamp
  var lists: [List]
  var failures: [JobFailure] = []
  var bytes: Int

  init(_ submission: Submission, processor: JobProcessor) {
    client = submission.client
    address = submission.remoteAddress
    receivedAt = submission.receivedAt
    lists = []
    bytes = 256
    for received in submission.lists {
      var effects: [JobEffect] = []
      for job in received.jobs {
        let outcome = processor.process(job, from: submission.client)
        effects += outcome.effects
        if let failure = outcome.failure { failures.append(failure) }
      }
      let isDurable = effects.contains(where: \.isDurable)
      let digest = isDurable ? Data(Digest.sha256(received.bytes).prefix(16)) : Data()
      lists.append(List(digest: digest, effects: effects, isDurable: isDurable))
      bytes += received.bytes.count
    }
  }

  var hasUploads: Bool { lists.contains { !$0.uploads.isEmpty } }
}

extension Database {
  static let sqlArtifact = "SELECT id FROM artifacts WHERE org = ? AND name = ?"
  private static let sqlNewArtifact = "INSERT INTO artifacts (org, name) VALUES (?, ?)"
  private static let sqlMonitoring = """
    INSERT INTO monitoring_chunks (artifact, client, kind, day, received_at, row_count, jsonl)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    """

  func storeMonitoring(_ part: MonitoringPart, org: String, client: Int64, at: Timestamp) throws {
    let artifact: Int64
    if let known = try number(Self.sqlArtifact, [org, part.artifact]) {
      artifact = known
    } else {
      try run(Self.sqlNewArtifact, [org, part.artifact])
      artifact = lastInsertedRowID
    }
    try run(
      Self.sqlMonitoring,
      [artifact, client, part.kind.rawValue, at.day, at.microseconds, part.count, part.jsonl])
  }
}
