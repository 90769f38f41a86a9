import Foundation
import PublicIdentity

/// What a group writes, collected by table: one statement each.
struct PGIngestWrites {
  /// Chunks of JSONL with their owner, first number and count.
  struct Chunks {
    private var owners: [Int64] = []
    private var firsts: [Int64] = []
    private var counts: [Int64] = []
    private var texts: [Data] = []
    private var times: [Int64] = []

    mutating func append(_ owner: Int64, _ first: Int64, _ count: Int64, _ text: Data, at time: Timestamp) {
      owners.append(owner)
      firsts.append(first)
      counts.append(count)
      texts.append(text)
      times.append(time.microseconds)
    }

    /// - Parameter timed: whether the times are the last parameter.
    func statements(_ sql: String, timed: Bool = false) -> [PGStatement] {
      PGBatch.ranges(texts).map { range in
        PGStatement(
          sql,
          [
            .ints(Array(owners[range])), .ints(Array(firsts[range])), .ints(Array(counts[range])),
            .blobs(Array(texts[range])),
          ] + (timed ? [.ints(Array(times[range]))] : []))
      }
    }
  }

  private struct Contact {
    var at: Timestamp
    var address: String
    var tableVersion: Int64?
  }

  private struct FileKey: Hashable {
    var flow: Int64
    var number: Int64
    var path: String
  }

  private struct PieceKey: Hashable {
    var file: FileKey
    var start: Int64
  }

  private var contacts: [Int64: Contact] = [:]
  var rows = Chunks()
  var logs = Chunks()
  var events = PGMonitoringRows()
  var transactions: [(flow: Int64, message: Data)] = []
  var facts: [Int64: HostFacts] = [:]
  /// Clients whose system is another than was known; hunts may go by it.
  var moved: Set<Int64> = []
  var labels: [(client: Int64, labels: [String], at: Timestamp)] = []
  /// Clients whose tasks wait again.
  var requeued: [StoreEvent] = []
  private var files: [FileKey: PGUpload] = [:]
  private var ended: [FileKey: Int64] = [:]
  private var pieces: [PieceKey: Data] = [:]

  static let sqlContacts = """
    UPDATE contacts SET last_seen = k.at, address = k.address,
      reported_table_version = coalesce(k.version, contacts.reported_table_version)
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) AS k(client, at, address, version)
    WHERE contacts.client = k.client
    """
  static let sqlRows = """
    INSERT INTO row_chunks (result_set, first_row, row_count, jsonl)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])
    """
  static let sqlAdvance = """
    UPDATE result_sets SET next_row = k.next, row_count = row_count + k.rows, bytes = bytes + k.added
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS k(id, next, rows, added)
    WHERE result_sets.id = k.id
    """
  static let sqlLogs = """
    INSERT INTO log_chunks (flow, first_id, line_count, jsonl, stored_at)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[])
    """
  static let sqlFiles = """
    INSERT INTO uploads (
      flow, number, stored_path, accessor, client_path, size, stored_size, complete, sparse_index, stored_at)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::bytea[], $6::bigint[],
      $7::bigint[], $8::boolean[], $9::bytea[], $10::bigint[])
    ON CONFLICT (flow, number, stored_path) DO UPDATE SET size = excluded.size, stored_size = excluded.stored_size,
      complete = excluded.complete, sparse_index = coalesce(excluded.sparse_index, uploads.sparse_index)
    """
  static let sqlPieces = """
    INSERT INTO upload_pieces (upload, start, length, written, data)
    SELECT u.id, k.start, length(k.data), nextval('upload_writes'), k.data
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[])
      AS k(flow, number, path, start, data)
    JOIN uploads u ON u.flow = k.flow AND u.number = k.number AND u.stored_path = k.path
    ON CONFLICT (upload, start) DO UPDATE SET length = excluded.length, written = excluded.written, data = excluded.data
    """
  static let sqlTrim = """
    DELETE FROM upload_pieces USING
      unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) AS k(flow, number, path, size)
      JOIN uploads u ON u.flow = k.flow AND u.number = k.number AND u.stored_path = k.path
    WHERE upload_pieces.upload = u.id AND upload_pieces.start >= k.size
    """
  static let sqlTransactions = """
    INSERT INTO upload_transactions (flow, message) SELECT * FROM unnest($1::bigint[], $2::bytea[])
    """
  static let sqlFacts = """
    UPDATE clients SET hostname = k.hostname, fqdn = k.fqdn, facts = k.facts,
      hunt_timestamp = CASE WHEN k.moved THEN 0 ELSE clients.hunt_timestamp END
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::boolean[]) AS k(id, hostname, fqdn, facts, moved)
    WHERE clients.id = k.id
    """
  static let sqlLabels = """
    WITH new AS (
      INSERT INTO labels (client, label)
      SELECT $1::bigint, k.label FROM unnest($2::text[]) AS k(label)
      ON CONFLICT (client, lower(label)) DO NOTHING RETURNING client
    )
    UPDATE clients SET labels_changed_at = greatest($3::bigint, event_table_version / 1000 + 1), hunt_timestamp = 0
    WHERE id IN (SELECT client FROM new)
    """

  mutating func contact(_ client: Int64, at: Timestamp, address: String, tableVersion: Int64?) {
    let version = tableVersion ?? contacts[client]?.tableVersion
    contacts[client] = Contact(at: at, address: address.withoutNUL, tableVersion: version)
  }

  mutating func add(_ piece: UploadPiece, _ upload: PGUpload, flow: Int64, path: String) {
    let file = FileKey(flow: flow, number: piece.number, path: path)
    files[file] = upload
    if !piece.data.isEmpty { pieces[PieceKey(file: file, start: piece.offset)] = piece.data }
    ended[file] = piece.isLast ? piece.storedSize : nil
  }

  /// All writes in order.
  func statements(
    flows: some Collection<PGFlowDraft>, resultSets: some Collection<PGResultSet>
  ) throws -> [PGStatement] {
    var statements: [PGStatement] = []
    if !contacts.isEmpty { statements.append(contactStatement) }
    statements += rows.statements(Self.sqlRows)
    let grown = resultSets.filter { $0.addedRows > 0 }
    if !grown.isEmpty {
      statements.append(
        PGStatement(
          Self.sqlAdvance,
          [
            .ints(grown.map(\.key)), .ints(grown.map(\.next)), .ints(grown.map(\.addedRows)),
            .ints(grown.map(\.addedBytes)),
          ]))
    }
    statements += logs.statements(Self.sqlLogs, timed: true)
    statements += uploadStatements
    if !transactions.isEmpty {
      let values: [PGValue] = [.ints(transactions.map(\.flow)), .blobs(transactions.map(\.message))]
      statements.append(PGStatement(Self.sqlTransactions, values))
    }
    statements += events.statements
    statements += try hostStatements
    return statements + PGFlowDraft.saving(flows.filter(\.isChanged))
  }

  private var contactStatement: PGStatement {
    let all = Array(contacts)
    return PGStatement(
      Self.sqlContacts,
      [
        .ints(all.map(\.key)), .ints(all.map(\.value.at.microseconds)), .texts(all.map(\.value.address)),
        .optionalInts(all.map(\.value.tableVersion)),
      ])
  }

  private var hostStatements: [PGStatement] {
    get throws {
      var statements: [PGStatement] = []
      if !facts.isEmpty {
        let all = Array(facts)
        statements.append(
          PGStatement(
            Self.sqlFacts,
            [
              .ints(all.map(\.key)), .texts(all.map(\.value.hostname.withoutNUL)),
              .texts(all.map(\.value.fqdn.withoutNUL)), .blobs(try all.map { try JSONEncoder().encode($0.value) }),
              .bools(all.map { moved.contains($0.key) }),
            ]))
      }
      for entry in labels {
        let values: [PGValue] = [.int(entry.client), .texts(entry.labels.map(\.withoutNUL)), .time(entry.at)]
        statements.append(PGStatement(Self.sqlLabels, values))
      }
      return statements
    }
  }

  private var uploadStatements: [PGStatement] {
    guard !files.isEmpty else { return [] }
    let all = Array(files)
    let parts = Array(pieces)
    let ends = Array(ended)
    let upsert = PGStatement(
      Self.sqlFiles,
      [
        .ints(all.map(\.key.flow)), .ints(all.map(\.key.number)), .texts(all.map(\.key.path)),
        .blobs(all.map(\.value.accessor)), .blobs(all.map(\.value.clientPath)), .ints(all.map(\.value.size)),
        .ints(all.map(\.value.storedSize)), .bools(all.map(\.value.complete)), .optionalBlobs(all.map(\.value.index)),
        .ints(all.map(\.value.storedAt.microseconds)),
      ])
    let written = PGBatch.ranges(parts.map(\.value)).map { range in
      let some = parts[range]
      return PGStatement(
        Self.sqlPieces,
        [
          .ints(some.map(\.key.file.flow)), .ints(some.map(\.key.file.number)), .texts(some.map(\.key.file.path)),
          .ints(some.map(\.key.start)), .blobs(some.map(\.value)),
        ])
    }
    guard !ends.isEmpty else { return [upsert] + written }
    let trim = PGStatement(
      Self.sqlTrim,
      [
        .ints(ends.map(\.key.flow)), .ints(ends.map(\.key.number)), .texts(ends.map(\.key.path)),
        .ints(ends.map(\.value)),
      ])
    return [upsert] + written + [trim]
  }
}
