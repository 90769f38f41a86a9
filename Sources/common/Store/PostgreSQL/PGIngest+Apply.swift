import Foundation
import PublicIdentity
import Wire

/// One submission's effects, decided in memory. The rules are `IngestWriter`'s.
extension PGIngest {
  mutating func apply(
    _ submission: PreparedSubmission, _ client: Int64, _ isFresh: [Bool]
  ) throws -> IngestResult {
    var result = IngestResult(outcome: .stored)
    result.failures = submission.failures
    var scope = Scope(submission: submission, client: client)
    for (list, isFresh) in zip(submission.lists, isFresh) {
      if !isFresh { result.duplicateLists += 1 }
      for effect in list.effects {
        if case .checkIn(let version) = effect {
          result.eventTableVersion = version
          scope.tableVersion = Int64(saturating: version)
        } else if isFresh {
          try apply(effect, scope, &result)
        }
      }
    }
    writes.contact(
      client, at: submission.receivedAt, address: submission.address, tableVersion: scope.tableVersion)
    return result
  }

  private struct Scope {
    var submission: PreparedSubmission
    var client: Int64
    var tableVersion: Int64?
    var at: Timestamp { submission.receivedAt }
    var org: String { submission.client.org }
  }

  private mutating func apply(_ effect: JobEffect, _ scope: Scope, _ result: inout IngestResult) throws {
    switch effect {
    case .rows(let part): try store(part, scope, &result)
    case .log(let part): try store(part, scope, &result)
    case .stats(let flow, let stats): try store(stats, of: flow, scope)
    case .answered(let id, let question):
      if flows[PGFlowRef(client: scope.client, flow: id)]?.answered(question: question, at: scope.at) == true {
        writes.requeued.append(.tasksQueued(scope.submission.client))
      }
    case .upload(let piece): try store(piece, scope)
    case .uploadTransaction(let id, let transaction):
      let flow = try spoken(id, scope)
      if let bytes: [UInt8] = try? transaction.serializedBytes() {
        writes.transactions.append((flow.key, Data(bytes)))
      }
    case .monitoringRows(let part):
      try event(part, scope)
      if part.kind == .rows { result.monitoringRows += Int(part.count) } else { result.logs += Int(part.count) }
    case .hostFacts(let news, let labels):
      let older = facts[scope.client] ?? HostFacts()
      let merged = news.merged(over: older)
      if merged != older {
        facts[scope.client] = merged
        writes.facts[scope.client] = merged
        if merged.system != older.system { writes.moved.insert(scope.client) }
      }
      if !labels.isEmpty { writes.labels.append((scope.client, labels, scope.at)) }
    case .statusUnsupported, .checkIn: break
    }
  }

  /// The flow after the agent has spoken about it.
  private func spoken(_ id: FlowID, _ scope: Scope) throws -> PGFlowDraft {
    guard let flow = flows[PGFlowRef(client: scope.client, flow: id)] else {
      throw StoreError(.internalError, "a flow of the group was not made")
    }
    flow.heard(at: scope.at)
    return flow
  }

  private mutating func store(_ part: RowsPart, _ scope: Scope, _ result: inout IngestResult) throws {
    let flow = try spoken(part.flow, scope)
    let ref = PGResultSetRef(flow: PGFlowRef(client: scope.client, flow: flow.id), name: part.artifact)
    guard var set = resultSets[ref] else {
      throw StoreError(.internalError, "a result set of the group was not made")
    }
    guard case .store(let first) = RowRule.decide(part, next: set.next) else {
      result.duplicateParts += 1
      return
    }
    writes.rows.append(set.key, first, part.count, part.jsonl, at: scope.at)
    set.next = first + part.count
    set.addedRows += part.count
    set.addedBytes += Int64(part.jsonl.count)
    resultSets[ref] = set
    result.rows += Int(part.count)
  }

  /// A log that starts below what is stored is stored again only when no stored message is the same.
  private mutating func store(_ part: LogPart, _ scope: Scope, _ result: inout IngestResult) throws {
    let flow = try spoken(part.flow, scope)
    let ref = PGLogRef(flow: flow.key, firstID: part.firstID, jsonl: part.jsonl)
    if part.firstID < flow.life.nextLog, !part.isChild, knownLogs.contains(ref) {
      result.duplicateParts += 1
      return
    }
    knownLogs.insert(ref)
    writes.logs.append(flow.key, part.firstID, part.count, part.jsonl, at: scope.at)
    flow.logged(upTo: part.firstID.addingClamped(part.count))
    result.logs += Int(part.count)
    if let alert = part.alert {
      try event(MonitoringPart(kind: .rows, artifact: ArtifactName.alerts, jsonl: alert, count: 1), scope)
    }
  }

  private mutating func store(_ stats: Proto_FlowStats, of id: FlowID, _ scope: Scope) throws {
    let progress = FlowProgress(stats)
    if progress.isUnknown {
      guard let flow = flows[PGFlowRef(client: scope.client, flow: id)] else { return }
      if flow.isUnknownToAgent(progress.errorText, at: scope.at) {
        writes.requeued.append(.tasksQueued(scope.submission.client))
      }
      return
    }
    let flow = try spoken(id, scope)
    let bytes: [UInt8] = (try? stats.serializedBytes()) ?? []
    guard flow.progressed(progress, stats: Data(bytes), at: scope.at) else { return }
    try event(.completion(of: id, flow.life, client: scope.submission.client, at: scope.at), scope)
  }

  private mutating func event(_ part: MonitoringPart, _ scope: Scope) throws {
    guard let artifact = artifacts[PGArtifact(org: scope.org, name: part.artifact)] else {
      throw StoreError(.internalError, "an artifact of the group was not made")
    }
    writes.events.append(part, artifact: artifact, client: scope.client, at: scope.at)
  }

  private mutating func store(_ piece: UploadPiece, _ scope: Scope) throws {
    let flow = try spoken(piece.flow, scope)
    let path = UploadFiles.storedPath(piece, of: scope.submission.client)
    let ref = PGUploadRef(
      flow: PGFlowRef(client: scope.client, flow: flow.id), number: piece.number, path: path)
    var upload = uploads[ref] ?? PGUpload()
    let wasDone = upload.complete
    let end = piece.offset.addingClamped(Int64(piece.data.count))
    upload.size = piece.size
    upload.storedAt = scope.at
    upload.storedSize = piece.isLast ? piece.storedSize : max(upload.storedSize, end)
    upload.complete = upload.complete || piece.isLast
    upload.accessor = Data(piece.accessor.utf8)
    upload.clientPath = Data(piece.clientPath.utf8)
    if !piece.index.isEmpty { upload.index = piece.index }
    uploads[ref] = upload
    writes.add(piece, upload, flow: flow.key, path: path)
    guard piece.isLast, !wasDone else { return }
    try event(.completion(of: piece, storedAt: path, client: scope.submission.client, at: scope.at), scope)
  }
}
