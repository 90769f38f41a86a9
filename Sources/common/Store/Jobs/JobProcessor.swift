import Foundation
import PublicIdentity
import Wire

/// Turns one job of an authenticated body into what is to be stored (server.md §1 to §3 with corrections.md).
///
/// It holds no state and does no I/O. The frontend has overwritten `source`, `org_id` and `auth_state`; nothing here
/// reads them. The order of the tests is the specification's.
package struct JobProcessor: Sendable {
  package var limits: JobLimits
  /// Reads names that agents got from a stock server; nil when there was none.
  package var names: ObfuscatedNames?

  package init(limits: JobLimits = JobLimits(), names: ObfuscatedNames? = nil) {
    self.limits = limits
    self.names = names
  }

  /// - Parameters:
  ///   - received: one element of a `MessageList`.
  ///   - client: whom the envelope proved.
  /// - Returns: the effects; a refused job has none and says why.
  package func process(_ received: Proto_VeloMessage, from client: ClientName) -> JobOutcome {
    let job = names?.restored(received) ?? received
    guard let session = SessionID(job.sessionID) else {
      return .refused(.malformedSession, "session_id of \(job.sessionID.utf8.count) bytes is not well-formed")
    }
    switch session {
    case .monitoring: return monitoring(job, from: client)
    case .status: return .effects(.statusUnsupported)
    case .wellKnown:
      guard job.hasForemanCheckin else { return .ignored }
      return .effects(.checkIn(eventTableVersion: job.foremanCheckin.lastEventTableVersion))
    case .flow(let flow, let child):
      if let time = FlowQuestion.time(ofMark: child), job.hasFlowStats {
        return .effects(.answered(flow, question: time))
      }
      return self.flow(job, flow, isChild: child != nil, from: client)
    }
  }

  private func flow(
    _ job: Proto_VeloMessage, _ flow: FlowID, isChild: Bool, from client: ClientName
  ) -> JobOutcome {
    if job.hasLogMessage { return log(job.logMessage, flow, isChild: isChild, from: client) }
    if job.hasVqlresponse { return rows(job.vqlresponse, flow, isChild: isChild) }
    if job.hasFlowStats { return .effects(.stats(flow, job.flowStats)) }
    if job.hasFileBuffer { return upload(job.fileBuffer, flow) }
    if job.hasUploadTransaction { return .effects(.uploadTransaction(flow, job.uploadTransaction)) }
    return .ignored
  }

  // MARK: rows

  private func rows(_ response: Proto_VQLResponse, _ flow: FlowID, isChild: Bool) -> JobOutcome {
    guard let name = ArtifactName(response.query.name) else { return malformedName(response.query.name) }
    let text: Data
    switch plainRows(response) {
    case .success(let plain): text = plain
    case .failure(let failure): return JobOutcome(effects: [], failure: failure.failure)
    }
    let count = JSONLines.count(text)
    guard count > 0 else { return .refused(.malformedRows, "\(name): a part without rows") }
    guard count <= limits.rowsPerPart else { return .refused(.tooLarge, "\(name): \(count) rows in one part") }
    let part = RowsPart(
      flow: flow, isChild: isChild, artifact: name.text, jsonl: JSONLines.ended(text), count: count,
      startRow: Int64(saturating: response.queryStartRow), part: response.part)
    var outcome = JobOutcome.effects(.rows(part))
    if HostFacts.interrogationSources.contains(name.text), let row = JSONLines.split(text).first,
      let (facts, labels) = HostFacts.interrogation(row: row)
    {
      outcome.effects.append(.hostFacts(facts, labels: labels))
    }
    return outcome
  }

  private struct Refusal: Error {
    var failure: JobFailure
  }

  /// The JSONL of a part, inflated within the limits. Only `JSONLResponse` and `CompressedJsonResponse` are read; the
  /// JSON array of clients before 0.6.8 is not (wire.md §8).
  private func plainRows(_ response: Proto_VQLResponse) -> Result<Data, Refusal> {
    guard response.uncompressedSize > 0 else {
      let text = Data(response.jsonlresponse.utf8)
      guard text.count <= limits.bytesPerPart else {
        return .failure(Refusal(failure: JobFailure(.tooLarge, "\(text.count) bytes of rows in one part")))
      }
      return .success(text)
    }
    do throws(Zlib.Failure) {
      return .success(Data(try Zlib.inflate(response.compressedJsonResponse, limit: limits.bytesPerPart)))
    } catch {
      return .failure(Refusal(failure: Self.inflating(error, .malformedRows, "rows")))
    }
  }

  private static func inflating(
    _ error: Zlib.Failure, _ reason: JobFailure.Reason, _ what: String
  ) -> JobFailure {
    if case .tooLarge = error { return JobFailure(.tooLarge, "compressed \(what): \(error)") }
    return JobFailure(reason, "compressed \(what): \(error)")
  }

  private func malformedName(_ name: String) -> JobOutcome {
    .refused(.malformedArtifact, "an artifact name of \(name.utf8.count) bytes is not well-formed")
  }

  // MARK: logs

  private func log(
    _ message: Proto_LogMessage, _ flow: FlowID, isChild: Bool, from client: ClientName
  ) -> JobOutcome {
    let text = Self.lines(message)
    guard text.count <= limits.bytesPerPart else { return .refused(.tooLarge, "\(text.count) bytes of log") }
    let count = JSONLines.count(text)
    guard count > 0 else { return .refused(.malformedRows, "a log message without lines") }
    var part = LogPart(
      flow: flow, isChild: isChild, firstID: max(0, message.id), count: count, level: message.level, jsonl: text)
    if message.level == "ALERT" {
      let members = "\"ClientId\":\(JSONText.literal(client.id.rawValue)),\"FlowId\":\(JSONText.literal(flow.text))"
      part.alert = Self.alert(in: text, adding: members)
    }
    return .effects(.log(part))
  }

  /// The message's JSONL; a message about a refused request may have its text only in `error_message`.
  private static func lines(_ message: Proto_LogMessage) -> Data {
    if !message.jsonl.isEmpty { return JSONLines.ended(Data(message.jsonl.utf8)) }
    let text = message.errorMessage.isEmpty ? message.message : message.errorMessage
    guard !text.isEmpty else { return Data() }
    let level = message.errorMessage.isEmpty ? "DEFAULT" : "ERROR"
    return JSONText.row([
      ("client_time", String(message.timestamp / 1_000_000)), ("level", JSONText.literal(level)),
      ("message", JSONText.literal(text)),
    ])
  }

  /// The alert in the first line's `message`, which is JSON itself (server.md §2, Logs).
  private static func alert(in text: Data, adding members: String) -> Data? {
    guard let line = JSONLines.split(text).first,
      let row = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any],
      let message = row["message"] as? String
    else { return nil }
    // Only the first object: an alert is one row.
    let lines = JSONLines.split(message.utf8)
    guard lines.count == 1, let only = lines.first else { return nil }
    let (alert, count, _) = JSONLines.adding(members, to: only)
    return count == 1 ? alert : nil
  }

  // MARK: monitoring

  /// Session `F.Monitoring` (server.md §3): rows, logs and uploads; all else is ignored.
  private func monitoring(_ job: Proto_VeloMessage, from client: ClientName) -> JobOutcome {
    let members = "\"ClientId\":\(JSONText.literal(client.id.rawValue))"
    if job.hasVqlresponse { return monitoringRows(job.vqlresponse, adding: members) }
    if job.hasLogMessage { return monitoringLog(job.logMessage, adding: members) }
    if job.hasFileBuffer { return upload(job.fileBuffer, .monitoring) }
    return .ignored
  }

  private func monitoringRows(_ response: Proto_VQLResponse, adding members: String) -> JobOutcome {
    guard let name = ArtifactName(response.query.name) else { return malformedName(response.query.name) }
    guard !name.isReservedForServer else {
      return .refused(.malformedArtifact, "\(name): the server's own events are not taken from agents")
    }
    guard response.jsonlresponse.utf8.count <= limits.bytesPerPart else {
      return .refused(.tooLarge, "\(name): \(response.jsonlresponse.utf8.count) bytes of rows in one part")
    }
    let (text, count, refused) = JSONLines.adding(members, to: response.jsonlresponse.utf8)
    var outcome = JobOutcome()
    if refused > 0 || count == 0 {
      outcome.failure = JobFailure(.malformedRows, "\(name): \(refused) lines are not JSON objects")
    }
    guard count > 0 else { return outcome }
    let part = MonitoringPart(kind: .rows, artifact: name.text, jsonl: text, count: count)
    outcome.effects.append(.monitoringRows(part))
    if name.text == ArtifactName.clientInfo, let row = JSONLines.split(text).last,
      let (facts, labels) = HostFacts.clientInfo(row: row)
    {
      outcome.effects.append(.hostFacts(facts, labels: labels))
    }
    return outcome
  }

  private func monitoringLog(_ message: Proto_LogMessage, adding members: String) -> JobOutcome {
    guard let name = ArtifactName(message.artifact) else { return malformedName(message.artifact) }
    guard !name.isReservedForServer else {
      return .refused(.malformedArtifact, "\(name): the server's own events are not taken from agents")
    }
    let (text, count, refused) = JSONLines.adding(members, to: Self.lines(message))
    var outcome = JobOutcome()
    if refused > 0 || count == 0 {
      outcome.failure = JobFailure(.malformedRows, "log of \(name): \(refused) lines are not JSON objects")
    }
    guard count > 0 else { return outcome }
    let part = MonitoringPart(kind: .log, artifact: name.text, jsonl: text, count: count)
    outcome.effects.append(.monitoringRows(part))
    if message.level == "ALERT", let alert = Self.alert(in: text, adding: members) {
      let part = MonitoringPart(kind: .rows, artifact: ArtifactName.alerts, jsonl: alert, count: 1)
      outcome.effects.append(.monitoringRows(part))
    }
    return outcome
  }

  // MARK: uploads

  private func upload(_ buffer: Proto_FileBuffer, _ flow: FlowID) -> JobOutcome {
    guard buffer.hasPathspec else { return .refused(.malformedUpload, "an upload without a path") }
    var components = buffer.pathspec.components
    if components.isEmpty { components = buffer.pathspec.path.split(separator: "/").map(String.init) }
    guard !components.isEmpty else { return .refused(.malformedUpload, "an upload with an empty path") }
    guard let offset = Int64(exactly: buffer.offset), let stored = Int64(exactly: buffer.storedSize),
      offset <= limits.uploadFileSize, stored <= limits.uploadFileSize
    else { return .refused(.tooLarge, "an upload piece at offset \(buffer.offset)") }
    var data = buffer.data
    if buffer.uncompressedLength > 0 {
      do throws(Zlib.Failure) {
        data = Data(try Zlib.inflate(buffer.data, limit: limits.bytesPerPiece))
      } catch {
        return JobOutcome(effects: [], failure: Self.inflating(error, .malformedUpload, "upload piece"))
      }
    }
    guard data.count <= limits.bytesPerPiece else {
      return .refused(.tooLarge, "an upload piece of \(data.count) bytes")
    }
    let index = buffer.hasIndex ? (try? buffer.index.serializedBytes() as Data) ?? Data() : Data()
    let piece = UploadPiece(
      flow: flow, number: max(0, buffer.uploadNumber), accessor: buffer.pathspec.accessor, components: components,
      offset: offset, data: data, isLast: buffer.eof, size: Int64(saturating: buffer.size), storedSize: stored,
      index: index)
    return .effects(.upload(piece))
  }
}
