import Foundation
import GRDBSQLite

/// SQLite without anything of ours: one prepared insert in transactions of a fixed size, WAL and synchronous=FULL.
final class RawSQLite {
  private var handle: OpaquePointer?
  private var insert: OpaquePointer?
  private let row: [UInt8]

  init(path: String, rowBytes: Int) throws {
    row = [UInt8](repeating: 65, count: rowBytes)
    guard sqlite3_open(path, &handle) == SQLITE_OK else { throw Trouble("SQLite cannot open \(path)") }
    for statement in [
      "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA wal_autocheckpoint = 4000",
      """
      CREATE TABLE chunks (
        id INTEGER PRIMARY KEY, result_set INTEGER, first_row INTEGER, row_count INTEGER, jsonl BLOB)
      """,
    ] { try run(statement) }
    let text = "INSERT INTO chunks (result_set, first_row, row_count, jsonl) VALUES (?, ?, ?, ?)"
    guard sqlite3_prepare_v2(handle, text, -1, &insert, nil) == SQLITE_OK else { throw Trouble("SQLite: prepare") }
  }

  deinit {
    sqlite3_finalize(insert)
    sqlite3_close(handle)
  }

  private func run(_ statement: String) throws {
    guard sqlite3_exec(handle, statement, nil, nil, nil) == SQLITE_OK else { throw Trouble("SQLite: \(statement)") }
  }

  /// One durable transaction.
  func commit(rows: Int) throws {
    try run("BEGIN IMMEDIATE")
    for number in 0..<rows {
      sqlite3_bind_int64(insert, 1, Int64(number))
      sqlite3_bind_int64(insert, 2, 0)
      sqlite3_bind_int64(insert, 3, 1)
      // The buffer lives as long as this object: no copy.
      let status = row.withUnsafeBytes { buffer in
        sqlite3_bind_blob(insert, 4, buffer.baseAddress, Int32(buffer.count), nil)
        return sqlite3_step(insert)
      }
      guard status == SQLITE_DONE, sqlite3_reset(insert) == SQLITE_OK else { throw Trouble("SQLite: insert") }
    }
    try run("COMMIT")
  }
}
