import Foundation
import PublicIdentity

/// Event rows and their cursor.
///
/// Several processes store event rows at once, and numbers from a sequence become visible out of their order: who
/// follows by such a number misses rows. So the id is `(transaction number + base) << 20 | count`, and a reader takes
/// only rows of transactions older than all that still run; nothing can appear below them any more.
enum PGMonitoring {
  private static let base = "(SELECT base FROM clock WHERE id = 1)"
  static let sqlInsert = """
    INSERT INTO monitoring_chunks (id, artifact, client, kind, day, received_at, row_count, jsonl)
    SELECT ((pg_current_xact_id()::text::bigint + \(base)) << 20) + $8::bigint + k.n, k.artifact, k.client, k.kind,
      k.day, k.received_at, k.row_count, k.jsonl
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
      WITH ORDINALITY AS k(artifact, client, kind, day, received_at, row_count, jsonl, n)
    """
  /// The first id that may still be given to a row.
  static let sqlBound = """
    SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + \(base)) << 20
    """
  private static let columns = """
    SELECT m.id, c.org, c.client, m.received_at, m.jsonl
    FROM monitoring_chunks m JOIN clients c ON c.id = m.client
    """
  static let sqlAll =
    columns + """
       WHERE m.artifact = $1::bigint AND m.kind = 0 AND m.id > $2::bigint ORDER BY m.id LIMIT $3::bigint
      """
  static let sqlOfClient =
    columns + """
       WHERE m.client = $4::bigint AND m.artifact = $1::bigint AND m.kind = 0 AND m.id > $2::bigint
      ORDER BY m.id LIMIT $3::bigint
      """
  static let sqlEnd = """
    SELECT max(m.id) FROM artifacts a CROSS JOIN LATERAL (
      SELECT id FROM monitoring_chunks WHERE artifact = a.id AND kind = 0 AND id < $1::bigint ORDER BY id DESC LIMIT 1
    ) m
    """
  /// After a restore into a cluster with lower transaction numbers, ids go on above those that are there.
  static let sqlAlign = """
    UPDATE clock SET base = greatest(base, (
      SELECT (max(m.id) >> 20) + 1 FROM artifacts a CROSS JOIN generate_series(0, 1) AS k(kind) CROSS JOIN LATERAL (
        SELECT id FROM monitoring_chunks WHERE artifact = a.id AND monitoring_chunks.kind = k.kind
        ORDER BY id DESC LIMIT 1
      ) m
    ) - pg_current_xact_id()::text::bigint) WHERE id = 1
    """
  static let sqlArtifact = "SELECT id FROM artifacts WHERE org = $1::text AND name = $2::text"
  static let sqlNewArtifacts = """
    INSERT INTO artifacts (org, name) SELECT k.org, k.name FROM unnest($1::text[], $2::text[]) AS k(org, name)
    ON CONFLICT (org, name) DO NOTHING
    """
  static let sqlArtifacts = """
    SELECT a.org, a.name, a.id FROM unnest($1::text[], $2::text[]) AS k(org, name)
    JOIN artifacts a ON a.org = k.org AND a.name = k.name
    """
}

/// An artifact of an org, as event rows name it.
struct PGArtifact: Hashable, Comparable, Sendable {
  var org: String
  var name: String

  static func < (left: PGArtifact, right: PGArtifact) -> Bool { (left.org, left.name) < (right.org, right.name) }
}

/// Event rows collected for one statement.
struct PGMonitoringRows {
  private var artifacts: [Int64] = []
  private var clients: [Int64] = []
  private var kinds: [Int64] = []
  private var days: [Int64] = []
  private var times: [Int64] = []
  private var counts: [Int64] = []
  private var texts: [Data] = []

  mutating func append(_ part: MonitoringPart, artifact: Int64, client: Int64, at: Timestamp) {
    artifacts.append(artifact)
    clients.append(client)
    kinds.append(part.kind.rawValue)
    days.append(at.day)
    times.append(at.microseconds)
    counts.append(part.count)
    texts.append(part.jsonl)
  }

  var statements: [PGStatement] {
    PGBatch.ranges(texts).map { range in
      PGStatement(
        PGMonitoring.sqlInsert,
        [
          .ints(Array(artifacts[range])), .ints(Array(clients[range])), .ints(Array(kinds[range])),
          .ints(Array(days[range])), .ints(Array(times[range])), .ints(Array(counts[range])),
          .blobs(Array(texts[range])), .int(Int64(range.lowerBound)),
        ])
    }
  }
}

/// Statements of many rows stay far below the size of a message that PostgreSQL takes (1 GiB).
enum PGBatch {
  static let bytes = 64 << 20

  /// Cuts rows into runs of at most `bytes` (or one row).
  static func ranges(_ blobs: [Data]) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var start = 0
    var size = 0
    for (index, blob) in blobs.enumerated() {
      if index > start, size + blob.count > bytes {
        ranges.append(start..<index)
        start = index
        size = 0
      }
      size += blob.count
    }
    if start < blobs.count { ranges.append(start..<blobs.count) }
    return ranges
  }
}
