import Foundation
import PublicIdentity

extension PostgreSQLStore {
  package func ingest(_ submission: Submission) async throws -> IngestResult {
    try await committer.submit(PreparedSubmission(submission, processor: processor))
  }

  package func recordConflict(_ conflict: ClientConflict) async throws {
    let part = MonitoringPart.conflict(conflict)
    let artifact = PGIngestNeeds.asking(
      PGMonitoring.sqlArtifacts, [PGArtifact(org: conflict.client.org, name: part.artifact)])
    let newArtifact = PGIngestNeeds.asking(
      PGMonitoring.sqlNewArtifacts, [PGArtifact(org: conflict.client.org, name: part.artifact)])
    try await transact(on: conflict.client) { transaction, key in
      guard let key else { return }
      let found = try await transaction.change([newArtifact, artifact])
      guard let number = found.last?.first?.int(2) else { return }
      var rows = PGMonitoringRows()
      rows.append(part, artifact: number, client: key, at: conflict.at)
      transaction.write(rows.statements)
    }
  }

  /// Some bytes of an uploaded file, from the pieces that were stored; holes are zero.
  /// - Parameters:
  ///   - flow: the flow that `upload` belongs to.
  ///   - offset: where to begin.
  ///   - limit: how many bytes at most.
  /// - Returns: fewer bytes than `limit` at the end of the file, none beyond it.
  package func uploadContent(
    of flow: FlowName, _ upload: UploadRecord, from offset: Int64, limit: Int
  ) async throws -> [UInt8] {
    let end = min(upload.storedSize, offset.addingClamped(Int64(limit)))
    guard offset >= 0, offset < end, let key = try await flowKey(flow) else { return [] }
    var content = [UInt8](repeating: 0, count: Int(end - offset))
    let pieces = try await rows(
      Self.sqlPieces,
      [.int(key), .int(upload.number), .text(upload.storedPath), .int(offset), .int(end), .int(Self.longestPiece)])
    // Younger pieces cover older ones.
    for piece in pieces {
      let data = piece.bytes(1)
      let start = piece.int(0)
      let (from, to) = (max(start, offset), min(start.addingClamped(Int64(data.count)), end))
      guard from < to else { continue }
      content.replaceSubrange(
        Int(from - offset)..<Int(to - offset), with: data[Int(from - start)..<Int(to - start)])
    }
    return content
  }

  /// No piece is longer (`JobLimits.bytesPerPiece` may have been set higher in its time).
  private static let longestPiece: Int64 = 1 << 30

  /// The parts that lie in the range; the start is bounded from below so that the index serves.
  static let sqlPieces = """
    SELECT greatest(p.start, $4::bigint),
      substring(p.data FROM greatest(1, $4::bigint - p.start + 1)::integer FOR ($5::bigint - $4::bigint)::integer)
    FROM uploads u JOIN upload_pieces p ON p.upload = u.id
    WHERE u.flow = $1::bigint AND u.number = $2::bigint AND u.stored_path = $3::text
      AND p.start > $4::bigint - $6::bigint AND p.start < $5::bigint AND p.start + p.length > $4::bigint
    ORDER BY p.written
    """
}
