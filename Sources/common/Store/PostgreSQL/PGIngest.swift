import Foundation
import PublicIdentity
import Wire

/// Stores a group of submissions in one transaction (server.md §1 to §3 with corrections.md).
///
/// The clients are locked, everything stored that the decisions need is fetched for all submissions at once, the
/// decisions are taken in memory in the order of arrival, and all rows are written with one statement per table: a
/// group takes three or four round trips, whatever its size. Used once, by one task.
struct PGIngest {
  enum Outcome: Sendable {
    case done(IngestResult)
    /// Another transaction holds the client's lock; nothing was stored.
    case locked
  }

  let submissions: [PreparedSubmission]
  private let waitsForLocks: Bool
  private(set) var keys: [ClientName: Int64] = [:]
  private var lockedOut: Set<ClientName> = []
  /// For each submission and list: whether it has to be stored now.
  private(set) var fresh: [[Bool]] = []
  var artifacts: [PGArtifact: Int64] = [:]
  var flows: [PGFlowRef: PGFlowDraft] = [:]
  var resultSets: [PGResultSetRef: PGResultSet] = [:]
  var uploads: [PGUploadRef: PGUpload] = [:]
  var facts: [Int64: HostFacts] = [:]
  /// Logs below what is stored whose very text is stored already.
  var knownLogs: Set<PGLogRef> = []
  var writes = PGIngestWrites()

  static let sqlClients = """
    SELECT k.n, c.id FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(org, client, n)
    JOIN clients c ON c.org = k.org AND c.client = k.client
    """
  static let sqlLock = """
    SELECT t.client FROM unnest($1::text[], $2::text[]) AS k(org, client)
    JOIN clients c ON c.org = k.org AND c.client = k.client JOIN contacts t ON t.client = c.id
    ORDER BY t.client FOR NO KEY UPDATE OF t
    """
  static let sqlLockFree = sqlLock + " SKIP LOCKED"
  static let sqlRemember = """
    INSERT INTO seen_lists (client, digest, seen_at)
    SELECT k.client, k.digest, k.at FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) AS k(client, digest, at)
    ON CONFLICT (client, digest) DO NOTHING RETURNING client, digest
    """

  init(submissions: [PreparedSubmission], waitsForLocks: Bool) {
    self.submissions = submissions
    self.waitsForLocks = waitsForLocks
  }

  mutating func run(_ transaction: inout PGTransaction) async throws -> [Outcome] {
    try await lockClients(&transaction)
    guard !keys.isEmpty else { return submissions.map { outcome(of: $0) } }
    try await rememberLists(&transaction)
    try await fetch(&transaction)
    var outcomes: [Outcome] = []
    for (index, submission) in submissions.enumerated() {
      guard let key = keys[submission.client] else {
        outcomes.append(outcome(of: submission))
        continue
      }
      outcomes.append(.done(try apply(submission, key, fresh[index])))
    }
    transaction.write(try writes.statements(flows: flows.values, resultSets: resultSets.values))
    transaction.announce(writes.requeued, at: .now())
    return outcomes
  }

  /// Of a submission whose client is not held.
  private func outcome(of submission: PreparedSubmission) -> Outcome {
    lockedOut.contains(submission.client) ? .locked : .done(IngestResult(outcome: .unknownClient))
  }

  private mutating func lockClients(_ transaction: inout PGTransaction) async throws {
    let names = Array(Set(submissions.map(\.client)))
    let parameters: [PGValue] = [.texts(names.map(\.org)), .texts(names.map(\.id.rawValue))]
    let results = try await transaction.read([
      PGStatement(waitsForLocks ? Self.sqlLock : Self.sqlLockFree, parameters),
      PGStatement(Self.sqlClients, parameters),
    ])
    let held = Set(results.first?.rows.map { $0.int(0) } ?? [])
    for row in results.last?.rows ?? [] {
      let index = Int(row.int(0)) - 1
      guard names.indices.contains(index) else { continue }
      if held.contains(row.int(1)) {
        keys[names[index]] = row.int(1)
      } else {
        lockedOut.insert(names[index])
      }
    }
  }

  /// Inserts the digests; a list whose digest is there already is not stored again.
  private mutating func rememberLists(_ transaction: inout PGTransaction) async throws {
    var clients: [Int64] = []
    var digests: [Data] = []
    var times: [Int64] = []
    for submission in submissions {
      guard let key = keys[submission.client] else { continue }
      for list in submission.lists where list.isDurable {
        clients.append(key)
        digests.append(list.digest)
        times.append(submission.receivedAt.microseconds)
      }
    }
    var unused: Set<PGDigest> = []
    var remember: [PGStatement] = []
    if !digests.isEmpty {
      remember = [PGStatement(Self.sqlRemember, [.ints(clients), .blobs(digests), .ints(times)])]
    }
    let needs = needs
    let statements = remember + needs.statements
    let results = statements.isEmpty ? [] : try await transaction.change(statements)
    if !digests.isEmpty, let result = results.first {
      unused = Set(result.rows.map { PGDigest(client: $0.int(0), digest: $0.optionalData(1) ?? Data()) })
    }
    take(Array(results.dropFirst(remember.count)), needs)
    fresh = submissions.map { submission in
      submission.lists.map { list in
        guard let key = keys[submission.client], list.isDurable else { return true }
        return unused.remove(PGDigest(client: key, digest: list.digest)) != nil
      }
    }
  }

  /// What all submissions name, whether their lists are fresh or not.
  private var needs: PGIngestNeeds {
    var needs = PGIngestNeeds()
    for submission in submissions {
      guard let key = keys[submission.client] else { continue }
      for list in submission.lists where list.isDurable {
        for effect in list.effects { needs.add(effect, of: submission, client: key) }
      }
    }
    return needs
  }

  /// The fresh lists with their submissions.
  func eachFreshEffect(_ body: (JobEffect, PreparedSubmission, Int64) -> Void) {
    for (submission, isFresh) in zip(submissions, fresh) {
      guard let key = keys[submission.client] else { continue }
      for (list, isFresh) in zip(submission.lists, isFresh) where isFresh {
        for effect in list.effects { body(effect, submission, key) }
      }
    }
  }
}

/// A digest of one client's list.
struct PGDigest: Hashable {
  var client: Int64
  var digest: Data
}

struct PGResultSetRef: Hashable {
  var flow: PGFlowRef
  var name: String
}

struct PGResultSet {
  let key: Int64
  var next: Int64
  /// What this group adds.
  var addedRows: Int64 = 0
  var addedBytes: Int64 = 0
}

struct PGLogRef: Hashable {
  var flow: Int64
  var firstID: Int64
  var jsonl: Data
}

struct PGUploadRef: Hashable {
  var flow: PGFlowRef
  var number: Int64
  var path: String
}

/// One uploaded file as it is stored and as the group changes it.
struct PGUpload {
  var size: Int64 = 0
  var storedSize: Int64 = 0
  var complete = false
  var accessor = Data()
  var clientPath = Data()
  var index: Data?
  var storedAt = Timestamp(microseconds: 0)
}
