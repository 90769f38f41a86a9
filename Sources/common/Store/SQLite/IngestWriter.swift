import Foundation
import GRDB
import PublicIdentity
import Wire

/// Applies one submission inside a transaction (server.md §1 to §3 with corrections.md).
///
/// It is used for one savepoint and then dropped; nothing it remembers outlives a rollback.
struct IngestWriter {
  let db: Database
  let submission: PreparedSubmission
  let options: StoreOptions
  private var client: Int64 = 0
  private var flows: [FlowID: FlowDraft] = [:]
  private var result = IngestResult(outcome: .stored)
  private var requeued = false

  static let sqlSeen = "SELECT 1 FROM seen_lists WHERE client = ? AND digest = ?"
  static let sqlRemember = "INSERT OR IGNORE INTO seen_lists (client, digest, seen_at) VALUES (?, ?, ?)"
  static let sqlContact = """
    INSERT INTO contacts (client, last_seen, address) VALUES (?, ?, ?)
    ON CONFLICT (client) DO UPDATE SET last_seen = excluded.last_seen, address = excluded.address
    """
  static let sqlTableVersion = """
    UPDATE contacts SET reported_table_version = ? WHERE client = ? AND reported_table_version <> ?
    """
  static let sqlResultSet = "SELECT id, next_row FROM result_sets WHERE flow = ? AND name = ?"
  static let sqlNewResultSet = "INSERT INTO result_sets (flow, name) VALUES (?, ?)"
  static let sqlRows = "INSERT INTO row_chunks (result_set, first_row, row_count, jsonl) VALUES (?, ?, ?, ?)"
  static let sqlAdvance = """
    UPDATE result_sets SET next_row = ?, row_count = row_count + ?, bytes = bytes + ? WHERE id = ?
    """
  static let sqlSameLog = "SELECT 1 FROM log_chunks WHERE flow = ? AND first_id = ? AND jsonl = ?"
  static let sqlLog = "INSERT INTO log_chunks (flow, first_id, line_count, jsonl, stored_at) VALUES (?, ?, ?, ?, ?)"
  static let sqlUpload = """
    INSERT INTO uploads (
      flow, number, stored_path, accessor, client_path, size, stored_size, complete, sparse_index, stored_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (flow, number, stored_path) DO UPDATE SET
      size = excluded.size,
      stored_size = CASE WHEN excluded.complete THEN excluded.stored_size
        ELSE max(stored_size, excluded.stored_size) END,
      complete = max(complete, excluded.complete), sparse_index = coalesce(excluded.sparse_index, sparse_index)
    """
  static let sqlUploadDone = "SELECT complete FROM uploads WHERE flow = ? AND number = ? AND stored_path = ?"
  static let sqlTransaction = "INSERT INTO upload_transactions (flow, message) VALUES (?, ?)"

  init(db: Database, submission: PreparedSubmission, options: StoreOptions) {
    self.db = db
    self.submission = submission
    self.options = options
  }

  func run() throws -> IngestOutcome {
    var writer = self
    return try writer.apply()
  }

  private mutating func apply() throws -> IngestOutcome {
    guard let key = try db.key(of: submission.client) else {
      return IngestOutcome(result: IngestResult(outcome: .unknownClient), requeued: false)
    }
    client = key
    result.failures = submission.failures
    try db.run(Self.sqlContact, [client, submission.receivedAt.microseconds, submission.address])
    for list in submission.lists { try apply(list) }
    for flow in flows.values { try flow.save(db, at: submission.receivedAt) }
    return IngestOutcome(result: result, requeued: requeued)
  }

  private mutating func apply(_ list: PreparedSubmission.List) throws {
    if list.isDurable {
      try db.run(Self.sqlRemember, [client, list.digest, submission.receivedAt.microseconds])
      if db.changesCount == 0 {
        result.duplicateLists += 1
        for case .checkIn(let version) in list.effects { try checkIn(version) }
        return
      }
    }
    for effect in list.effects { try apply(effect) }
  }

  private mutating func apply(_ effect: JobEffect) throws {
    switch effect {
    case .rows(let part): try store(part)
    case .log(let part): try store(part)
    case .stats(let flow, let stats): try store(stats, of: flow)
    case .answered(let flow, let question): try answered(flow, question)
    case .upload(let piece): try store(piece)
    case .uploadTransaction(let flow, let transaction): try store(transaction, of: flow)
    case .monitoringRows(let part):
      try db.storeMonitoring(part, org: submission.client.org, client: client, at: submission.receivedAt)
      if part.kind == .rows { result.monitoringRows += Int(part.count) } else { result.logs += Int(part.count) }
    case .hostFacts(let facts, let labels):
      try db.storeFacts(facts, labels: labels, of: client, at: submission.receivedAt)
    case .statusUnsupported: try FlowDraft.forgetQuestions(of: client, db, at: submission.receivedAt)
    case .checkIn(let version): try checkIn(version)
    }
  }

  private mutating func checkIn(_ version: UInt64) throws {
    result.eventTableVersion = version
    let stored = Int64(saturating: version)
    try db.run(Self.sqlTableVersion, [stored, client, stored])
  }

  /// The flow's state after the agent has spoken about it; created when nobody knew it (server.md §2).
  private mutating func spoken(_ id: FlowID) throws -> FlowDraft {
    var flow: FlowDraft
    if let known = flows[id] {
      flow = known
    } else if let stored = try FlowDraft.load(id, client, db) {
      flow = stored
    } else {
      flow = try FlowDraft.create(id, client, db, at: submission.receivedAt)
    }
    try flow.heard(db, at: submission.receivedAt)
    flows[id] = flow
    return flow
  }

  private mutating func store(_ part: RowsPart) throws {
    let flow = try spoken(part.flow)
    var set: Int64
    var next: Int64 = 0
    if let row = try db.row(Self.sqlResultSet, [flow.key, part.artifact]) {
      set = row["id"]
      next = row["next_row"]
    } else {
      try db.run(Self.sqlNewResultSet, [flow.key, part.artifact])
      set = db.lastInsertedRowID
    }
    guard case .store(let first) = RowRule.decide(part, next: next) else {
      result.duplicateParts += 1
      return
    }
    try db.run(Self.sqlRows, [set, first, part.count, part.jsonl])
    try db.run(Self.sqlAdvance, [first + part.count, part.count, part.jsonl.count, set])
    result.rows += Int(part.count)
  }

  /// A log that starts below what is stored is stored again only when no stored message is the same.
  private mutating func store(_ part: LogPart) throws {
    var flow = try spoken(part.flow)
    let isBehind = part.firstID < flow.life.nextLog
    if isBehind, !part.isChild, try db.row(Self.sqlSameLog, [flow.key, part.firstID, part.jsonl]) != nil {
      result.duplicateParts += 1
      return
    }
    try db.run(Self.sqlLog, [flow.key, part.firstID, part.count, part.jsonl, submission.receivedAt.microseconds])
    flow.logged(upTo: part.firstID.addingClamped(part.count))
    flows[part.flow] = flow
    result.logs += Int(part.count)
    if let alert = part.alert {
      try event(MonitoringPart(kind: .rows, artifact: ArtifactName.alerts, jsonl: alert, count: 1))
    }
  }

  private mutating func store(_ stats: Proto_FlowStats, of id: FlowID) throws {
    let progress = FlowProgress(stats)
    if progress.isUnknown {
      guard var flow = try flows[id] ?? FlowDraft.load(id, client, db) else { return }
      if try flow.isUnknownToAgent(progress.errorText, db, at: submission.receivedAt) { try announceRequeued() }
      flows[id] = flow
      return
    }
    var flow = try spoken(id)
    let bytes: [UInt8] = (try? stats.serializedBytes()) ?? []
    let ended = try flow.progressed(progress, stats: Data(bytes), db, at: submission.receivedAt)
    flows[id] = flow
    if ended {
      try event(.completion(of: id, flow.life, client: submission.client, at: submission.receivedAt))
    }
  }

  private mutating func answered(_ id: FlowID, _ question: Timestamp) throws {
    guard var flow = try flows[id] ?? FlowDraft.load(id, client, db) else { return }
    if try flow.answered(question: question, db, at: submission.receivedAt) { try announceRequeued() }
    flows[id] = flow
  }

  private mutating func announceRequeued() throws {
    requeued = true
    try db.announce(.tasksQueued(submission.client), at: submission.receivedAt)
  }

  private func event(_ part: MonitoringPart) throws {
    try db.storeMonitoring(part, org: submission.client.org, client: client, at: submission.receivedAt)
  }

  private mutating func store(_ piece: UploadPiece) throws {
    let flow = try spoken(piece.flow)
    let path = UploadFiles.storedPath(piece, of: submission.client)
    let wasDone = try db.number(Self.sqlUploadDone, [flow.key, piece.number, path]) == 1
    let end = piece.offset.addingClamped(Int64(piece.data.count))
    try db.run(
      Self.sqlUpload,
      [
        flow.key, piece.number, path, Data(piece.accessor.utf8), Data(piece.clientPath.utf8), piece.size,
        piece.isLast ? piece.storedSize : end, piece.isLast, piece.index.isEmpty ? nil : piece.index,
        submission.receivedAt.microseconds,
      ])
    guard piece.isLast, !wasDone else { return }
    try event(.completion(of: piece, storedAt: path, client: submission.client, at: submission.receivedAt))
  }

  private mutating func store(_ transaction: Proto_UploadTransaction, of id: FlowID) throws {
    let flow = try spoken(id)
    guard let bytes: [UInt8] = try? transaction.serializedBytes() else { return }
    try db.run(Self.sqlTransaction, [flow.key, Data(bytes)])
  }
}
