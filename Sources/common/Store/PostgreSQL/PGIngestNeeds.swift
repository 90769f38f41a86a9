import Foundation
import PublicIdentity
import Wire

/// What a group has to know of the database before it decides: each thing is asked for once.
struct PGIngestNeeds {
  private(set) var flows: Set<PGFlowRef> = []
  private(set) var resultSets: Set<PGResultSetRef> = []
  private(set) var uploads: Set<PGUploadRef> = []
  private(set) var unknownFlows: Set<PGFlowRef> = []
  private(set) var hosts: Set<Int64> = []
  private(set) var artifacts: Set<PGArtifact> = []

  static let sqlResultSets = """
    SELECT f.client, f.flow, r.name, r.id, r.next_row
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS k(client, flow, name)
    JOIN flows f ON f.client = k.client AND f.flow = k.flow JOIN result_sets r ON r.flow = f.id AND r.name = k.name
    """
  static let sqlUploads = """
    SELECT f.client, f.flow, u.number, u.stored_path, u.size, u.stored_size, u.complete
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[]) AS k(client, flow, number, path)
    JOIN flows f ON f.client = k.client AND f.flow = k.flow
    JOIN uploads u ON u.flow = f.id AND u.number = k.number AND u.stored_path = k.path
    """
  static let sqlFacts = "SELECT id, facts FROM clients WHERE id = ANY ($1::bigint[])"

  mutating func add(_ effect: JobEffect, of submission: PreparedSubmission, client: Int64) {
    let org = submission.client.org
    switch effect {
    case .rows(let part):
      let flow = PGFlowRef(client: client, flow: part.flow)
      flows.insert(flow)
      resultSets.insert(PGResultSetRef(flow: flow, name: part.artifact))
    case .log(let part):
      flows.insert(PGFlowRef(client: client, flow: part.flow))
      if part.alert != nil { artifacts.insert(PGArtifact(org: org, name: ArtifactName.alerts)) }
    case .stats(let id, let stats):
      let flow = PGFlowRef(client: client, flow: id)
      flows.insert(flow)
      if FlowProgress(stats).isUnknown { unknownFlows.insert(flow) }
      if stats.flowComplete { artifacts.insert(PGArtifact(org: org, name: ArtifactName.flowCompletion)) }
    case .answered(let id, _):
      let flow = PGFlowRef(client: client, flow: id)
      flows.insert(flow)
      unknownFlows.insert(flow)
    case .upload(let piece):
      let flow = PGFlowRef(client: client, flow: piece.flow)
      flows.insert(flow)
      let path = UploadFiles.storedPath(piece, of: submission.client)
      uploads.insert(PGUploadRef(flow: flow, number: piece.number, path: path))
      if piece.isLast { artifacts.insert(PGArtifact(org: org, name: ArtifactName.uploadCompletion)) }
    case .uploadTransaction(let id, _): flows.insert(PGFlowRef(client: client, flow: id))
    case .monitoringRows(let part): artifacts.insert(PGArtifact(org: org, name: part.artifact))
    case .hostFacts: hosts.insert(client)
    case .statusUnsupported, .checkIn: break
    }
  }

  /// The questions, in the order in which `PGIngest.take` reads the answers.
  var statements: [PGStatement] {
    var statements: [PGStatement] = []
    if !flows.isEmpty { statements.append(Self.asking(PGFlowDraft.sqlLoad, flows)) }
    if !resultSets.isEmpty {
      let sets = Array(resultSets)
      statements.append(
        PGStatement(
          Self.sqlResultSets,
          [.ints(sets.map(\.flow.client)), .texts(sets.map(\.flow.flow.text)), .texts(sets.map(\.name))]))
    }
    if !uploads.isEmpty {
      let files = Array(uploads)
      statements.append(
        PGStatement(
          Self.sqlUploads,
          [
            .ints(files.map(\.flow.client)), .texts(files.map(\.flow.flow.text)), .ints(files.map(\.number)),
            .texts(files.map(\.path)),
          ]))
    }
    if !unknownFlows.isEmpty { statements.append(Self.asking(PGFlowDraft.sqlOpenTasks, unknownFlows)) }
    if !hosts.isEmpty { statements.append(PGStatement(Self.sqlFacts, [.ints(Array(hosts))])) }
    if !artifacts.isEmpty { statements.append(Self.asking(PGMonitoring.sqlArtifacts, artifacts)) }
    return statements
  }

  static func asking(_ sql: String, _ flows: Set<PGFlowRef>) -> PGStatement {
    let flows = Array(flows)
    return PGStatement(sql, [.ints(flows.map(\.client)), .texts(flows.map(\.flow.text))])
  }

  /// In their order, so that two transactions that add the same names never wait for each other.
  static func asking(_ sql: String, _ artifacts: Set<PGArtifact>) -> PGStatement {
    let artifacts = artifacts.sorted()
    return PGStatement(sql, [.texts(artifacts.map(\.org)), .texts(artifacts.map(\.name))])
  }
}

extension PGIngest {
  /// Takes up the answers to `needs.statements`.
  mutating func take(_ results: [PGResult], _ needs: PGIngestNeeds) {
    var results = results[...]
    if !needs.flows.isEmpty { takeFlows(results.popFirst()) }
    if !needs.resultSets.isEmpty { takeResultSets(results.popFirst()) }
    if !needs.uploads.isEmpty { takeUploads(results.popFirst()) }
    if !needs.unknownFlows.isEmpty {
      for row in results.popFirst()?.rows ?? [] {
        guard let flow = Self.flow(row) else { continue }
        flows[flow]?.openTask = row.optionalInt(2).flatMap(TaskState.init)
      }
    }
    if !needs.hosts.isEmpty {
      for row in results.popFirst()?.rows ?? [] {
        let stored = row.optionalData(1).flatMap { try? JSONDecoder().decode(HostFacts.self, from: $0) }
        facts[row.int(0)] = stored ?? HostFacts()
      }
    }
    if !needs.artifacts.isEmpty { takeArtifacts(results.popFirst()) }
  }

  private static func flow(_ row: PGRow) -> PGFlowRef? {
    let text = row.text(1)
    let id = text == FlowID.monitoring.text ? FlowID.monitoring : FlowID(text)
    return id.map { PGFlowRef(client: row.int(0), flow: $0) }
  }

  private mutating func takeFlows(_ result: PGResult?) {
    for row in result?.rows ?? [] {
      guard let flow = Self.flow(row) else { continue }
      let task = flows[flow]?.openTask
      flows[flow] = PGFlowDraft(row, flow.flow)
      flows[flow]?.openTask = task
    }
  }

  private mutating func takeResultSets(_ result: PGResult?) {
    for row in result?.rows ?? [] {
      guard let flow = Self.flow(row) else { continue }
      resultSets[PGResultSetRef(flow: flow, name: row.text(2))] = PGResultSet(key: row.int(3), next: row.int(4))
    }
  }

  private mutating func takeUploads(_ result: PGResult?) {
    for row in result?.rows ?? [] {
      guard let flow = Self.flow(row) else { continue }
      uploads[PGUploadRef(flow: flow, number: row.int(2), path: row.text(3))] = PGUpload(
        size: row.int(4), storedSize: row.int(5), complete: row.bool(6))
    }
  }

  private mutating func takeArtifacts(_ result: PGResult?) {
    for row in result?.rows ?? [] { artifacts[PGArtifact(org: row.text(0), name: row.text(1))] = row.int(2) }
  }

  // MARK: what is not there yet

  static let sqlNewResultSets = """
    INSERT INTO result_sets (flow, name)
    SELECT f.id, k.name FROM unnest($1::bigint[], $2::text[], $3::text[]) AS k(client, flow, name)
    JOIN flows f ON f.client = k.client AND f.flow = k.flow
    ON CONFLICT (flow, name) DO NOTHING
    """
  static let sqlSameLogs = """
    SELECT k.n FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) WITH ORDINALITY AS k(flow, first_id, jsonl, n)
    WHERE EXISTS (
      SELECT 1 FROM log_chunks l WHERE l.flow = k.flow AND l.first_id = k.first_id AND l.jsonl = k.jsonl)
    """

  /// Makes the flows, result sets and artifacts that fresh lists need, and asks which logs are stored already. Most
  /// groups need none of it.
  mutating func fetch(_ transaction: inout PGTransaction) async throws {
    try await forgetQuestions(&transaction)
    var missing = PGIngestNeeds()
    var created: [PGFlowRef: Timestamp] = [:]
    eachFreshEffect { effect, submission, client in
      if case .answered = effect { return }
      if case .stats(_, let stats) = effect, FlowProgress(stats).isUnknown { return }
      var needs = PGIngestNeeds()
      needs.add(effect, of: submission, client: client)
      for flow in needs.flows where flows[flow] == nil && created[flow] == nil {
        created[flow] = submission.receivedAt
      }
      missing.addMissing(needs, in: self)
    }
    let logs = suspectLogs()
    let making = Self.making(created, missing)
    var statements = making.flows + making.resultSets + making.artifacts
    if !logs.isEmpty {
      let values: [PGValue] = [.ints(logs.map(\.flow)), .ints(logs.map(\.firstID)), .blobs(logs.map(\.jsonl))]
      statements.append(PGStatement(Self.sqlSameLogs, values))
    }
    guard !statements.isEmpty else { return }
    var results = try await transaction.change(statements)[...]
    // Each pair makes and then asks.
    if !making.flows.isEmpty { takeFlows(results.prefix(2).last) }
    results = results.dropFirst(making.flows.count)
    if !making.resultSets.isEmpty { takeResultSets(results.prefix(2).last) }
    results = results.dropFirst(making.resultSets.count)
    if !making.artifacts.isEmpty { takeArtifacts(results.prefix(2).last) }
    if !logs.isEmpty { takeLogs(results.last, logs) }
  }

  private struct Making {
    var flows: [PGStatement] = []
    var resultSets: [PGStatement] = []
    var artifacts: [PGStatement] = []
  }

  /// The statements that make what is missing and ask for it, in pairs.
  private static func making(_ created: [PGFlowRef: Timestamp], _ missing: PGIngestNeeds) -> Making {
    var making = Making()
    if !created.isEmpty {
      let new = Array(created)
      let values: [PGValue] = [
        .ints(new.map(\.key.client)), .texts(new.map(\.key.flow.text)), .ints(new.map(\.value.microseconds)),
      ]
      making.flows = [
        PGStatement(PGFlowDraft.sqlCreate, values),
        PGIngestNeeds.asking(PGFlowDraft.sqlLoad, Set(created.keys)),
      ]
    }
    if !missing.resultSets.isEmpty {
      let sets = Array(missing.resultSets)
      let names: [PGValue] = [
        .ints(sets.map(\.flow.client)), .texts(sets.map(\.flow.flow.text)), .texts(sets.map(\.name)),
      ]
      making.resultSets = [PGStatement(sqlNewResultSets, names), PGStatement(PGIngestNeeds.sqlResultSets, names)]
    }
    if !missing.artifacts.isEmpty {
      making.artifacts = [
        PGIngestNeeds.asking(PGMonitoring.sqlNewArtifacts, missing.artifacts),
        PGIngestNeeds.asking(PGMonitoring.sqlArtifacts, missing.artifacts),
      ]
    }
    return making
  }

  private mutating func takeLogs(_ result: PGResult?, _ logs: [PGLogRef]) {
    for row in result?.rows ?? [] {
      let index = Int(row.int(0)) - 1
      if logs.indices.contains(index) { knownLogs.insert(logs[index]) }
    }
  }

  /// Logs that begin below what is stored.
  private func suspectLogs() -> [PGLogRef] {
    var logs: [PGLogRef] = []
    eachFreshEffect { effect, _, client in
      guard case .log(let part) = effect, !part.isChild,
        let flow = flows[PGFlowRef(client: client, flow: part.flow)], part.firstID < flow.life.nextLog
      else { return }
      logs.append(PGLogRef(flow: flow.key, firstID: part.firstID, jsonl: part.jsonl))
    }
    return logs
  }

  /// An agent that does not answer status questions is not asked any more; this may end flows.
  private mutating func forgetQuestions(_ transaction: inout PGTransaction) async throws {
    var clients: [Int64: Timestamp] = [:]
    eachFreshEffect { effect, submission, client in
      if case .statusUnsupported = effect { clients[client] = submission.receivedAt }
    }
    guard !clients.isEmpty else { return }
    for (client, at) in clients {
      transaction.write(
        PGFlowDraft.sqlForgetQuestions, [.int(client), .time(at), .bytes(Data(FlowLife.noStatusText.utf8))])
    }
    let known = Set(flows.keys)
    guard !known.isEmpty else { return }
    takeFlows(try await transaction.read([PGIngestNeeds.asking(PGFlowDraft.sqlLoad, known)]).first)
  }
}

extension PGIngestNeeds {
  /// Adds those of `needs` that the group does not have.
  mutating func addMissing(_ needs: PGIngestNeeds, in group: PGIngest) {
    for set in needs.resultSets where group.resultSets[set] == nil { resultSets.insert(set) }
    for artifact in needs.artifacts where group.artifacts[artifact] == nil { artifacts.insert(artifact) }
  }
}
