import PublicIdentity
import Wire

/// Events that the server itself writes, as rows of its own artifacts.
extension MonitoringPart {
  private static func event(_ artifact: String, _ fields: [(String, String)]) -> MonitoringPart {
    MonitoringPart(kind: .rows, artifact: artifact, jsonl: JSONText.row(fields), count: 1)
  }

  /// Two machines with one identity.
  static func conflict(_ conflict: ClientConflict) -> MonitoringPart {
    event(
      ArtifactName.conflict,
      [
        ("ClientId", JSONText.literal(conflict.client.id.rawValue)),
        ("RemoteAddr", JSONText.literal(conflict.remoteAddress)),
        ("UserAgent", JSONText.literal(conflict.userAgent)), ("Timestamp", String(conflict.at.seconds)),
      ])
  }

  /// `System.Flow.Completion`; belongs into the transaction of the rows it announces (verify.md S-6).
  static func completion(of id: FlowID, _ life: FlowLife, client: ClientName, at: Timestamp) -> MonitoringPart {
    let text = JSONText.literal(id.text)
    let state = JSONText.literal(life.displayed)
    return event(
      ArtifactName.flowCompletion,
      [
        ("Timestamp", String(at.seconds)),
        ("Flow", "{\"session_id\":\(text),\"state\":\(state),\"total_collected_rows\":\(life.totals.rows)}"),
        ("FlowId", text), ("ClientId", JSONText.literal(client.id.rawValue)),
      ])
  }

  /// `System.Upload.Completion`.
  static func completion(
    of piece: UploadPiece, storedAt path: String, client: ClientName, at: Timestamp
  ) -> MonitoringPart {
    event(
      ArtifactName.uploadCompletion,
      [
        ("Timestamp", String(at.seconds)), ("ClientId", JSONText.literal(client.id.rawValue)),
        ("VFSPath", JSONText.literal(path)), ("UploadName", JSONText.literal(piece.clientPath)),
        ("Accessor", JSONText.literal(piece.accessor)), ("Size", String(piece.size)),
        ("UploadedSize", String(piece.storedSize)),
      ])
  }
}
