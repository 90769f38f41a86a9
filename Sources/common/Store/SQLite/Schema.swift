import GRDB

/// The SQLite schema. Each step has a name that is never reused; a file with a step unknown here was written by newer
/// software and is refused.
///
/// Times are microseconds since 1970. Clients and flows have integer keys that are never reused, so that a deletion can
/// unlink the name at once and purge the rest in small steps. Texts that agents choose are BLOBs: SQLite's text binding
/// would end at a NUL.
enum Schema {
  static func migrator() -> DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1-foundation") { db in
      for statement in clients + tasks + flows + events { try db.execute(sql: statement) }
    }
    migrator.registerMigration("2-seats") { db in
      for statement in seats { try db.execute(sql: statement) }
    }
    migrator.registerMigration("3-foreman") { db in
      for statement in foreman { try db.execute(sql: statement) }
    }
    migrator.registerMigration("4-retention") { db in
      for statement in retention { try db.execute(sql: statement) }
    }
    return migrator
  }

  /// What removal by age needs. Records of before count as stored now.
  private static let retention = [
    "ALTER TABLE log_chunks ADD COLUMN stored_at INTEGER NOT NULL DEFAULT 0",
    "UPDATE log_chunks SET stored_at = unixepoch() * 1000000",
    "ALTER TABLE uploads ADD COLUMN stored_at INTEGER NOT NULL DEFAULT 0",
    "UPDATE uploads SET stored_at = unixepoch() * 1000000",
    "CREATE INDEX flows_ended ON flows (ended_at) WHERE ended_at IS NOT NULL",
  ]

  /// Where each client's reader was seated last.
  private static let seats = [
    """
    CREATE TABLE seats (
      client INTEGER PRIMARY KEY,
      process TEXT NOT NULL,
      session INTEGER NOT NULL,
      host TEXT NOT NULL,
      address TEXT NOT NULL,
      agent TEXT NOT NULL,
      relayed INTEGER NOT NULL
    )
    """
  ]

  private static let clients = [
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE clients (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      org TEXT NOT NULL,
      client TEXT NOT NULL,
      public_key TEXT NOT NULL,
      enrolled_at INTEGER NOT NULL,
      first_seen INTEGER NOT NULL,
      hostname TEXT NOT NULL DEFAULT '' COLLATE NOCASE,
      fqdn TEXT NOT NULL DEFAULT '' COLLATE NOCASE,
      facts BLOB,
      labels_changed_at INTEGER NOT NULL DEFAULT 0,
      interrogation_flow TEXT,
      event_table_version INTEGER NOT NULL DEFAULT 0,
      hunt_timestamp INTEGER NOT NULL DEFAULT 0,
      UNIQUE (org, client)
    )
    """,
    "CREATE INDEX clients_hostname ON clients (hostname, org)",
    "CREATE INDEX clients_fqdn ON clients (fqdn, org)",
    // Written with each body, so it is small and apart.
    """
    CREATE TABLE contacts (
      client INTEGER PRIMARY KEY,
      last_seen INTEGER NOT NULL,
      address TEXT NOT NULL,
      reported_table_version INTEGER NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE labels (
      client INTEGER NOT NULL,
      label TEXT NOT NULL COLLATE NOCASE,
      PRIMARY KEY (client, label)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX labels_label ON labels (label)",
    // Deleted clients whose data is still to be purged.
    """
    CREATE TABLE doomed (
      client INTEGER PRIMARY KEY,
      org TEXT NOT NULL,
      name TEXT NOT NULL,
      directory TEXT NOT NULL
    )
    """,
    // Digests of stored lists; the key grows with time, so that the oldest are forgotten without an index on time.
    """
    CREATE TABLE seen_lists (
      id INTEGER PRIMARY KEY,
      client INTEGER NOT NULL,
      digest BLOB NOT NULL,
      seen_at INTEGER NOT NULL,
      UNIQUE (client, digest)
    )
    """,
  ]

  private static let tasks = [
    """
    CREATE TABLE tasks (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      client INTEGER NOT NULL,
      kind INTEGER NOT NULL,
      flow INTEGER,
      session TEXT NOT NULL,
      message BLOB NOT NULL,
      urgent INTEGER NOT NULL,
      state INTEGER NOT NULL DEFAULT 0,
      attempts INTEGER NOT NULL DEFAULT 0,
      queued_at INTEGER NOT NULL,
      leased_at INTEGER,
      expires_at INTEGER,
      ended_at INTEGER
    )
    """,
    "CREATE INDEX tasks_open ON tasks (client) WHERE state < 3",
    "CREATE INDEX tasks_client ON tasks (client)",
    "CREATE INDEX tasks_flow ON tasks (flow)",
    "CREATE INDEX tasks_expiry ON tasks (expires_at) WHERE state = 0 AND expires_at IS NOT NULL",
    // What other processes must hear of (StoreEvent).
    """
    CREATE TABLE changes (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      kind INTEGER NOT NULL,
      org TEXT NOT NULL,
      client TEXT NOT NULL,
      at INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE audit (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      at INTEGER NOT NULL,
      who TEXT NOT NULL,
      origin TEXT NOT NULL,
      action TEXT NOT NULL,
      org TEXT NOT NULL,
      client TEXT NOT NULL,
      detail TEXT NOT NULL
    )
    """,
  ]

  private static let flows = [
    """
    CREATE TABLE flows (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      client INTEGER NOT NULL,
      flow TEXT NOT NULL,
      state INTEGER NOT NULL DEFAULT 0,
      error BLOB,
      created_at INTEGER NOT NULL,
      creator TEXT NOT NULL,
      request BLOB,
      stats BLOB,
      totals BLOB,
      heard_at INTEGER,
      asked_at INTEGER,
      ended_at INTEGER,
      lost INTEGER NOT NULL DEFAULT 0,
      cancel_requested INTEGER NOT NULL DEFAULT 0,
      next_log INTEGER NOT NULL DEFAULT 0,
      UNIQUE (client, flow)
    )
    """,
    "CREATE INDEX flows_created ON flows (client, created_at)",
    """
    CREATE TABLE result_sets (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      flow INTEGER NOT NULL,
      name TEXT NOT NULL,
      next_row INTEGER NOT NULL DEFAULT 0,
      row_count INTEGER NOT NULL DEFAULT 0,
      bytes INTEGER NOT NULL DEFAULT 0,
      UNIQUE (flow, name)
    )
    """,
    """
    CREATE TABLE row_chunks (
      id INTEGER PRIMARY KEY,
      result_set INTEGER NOT NULL,
      first_row INTEGER NOT NULL,
      row_count INTEGER NOT NULL,
      jsonl BLOB NOT NULL
    )
    """,
    "CREATE INDEX row_chunks_position ON row_chunks (result_set, first_row)",
    """
    CREATE TABLE log_chunks (
      id INTEGER PRIMARY KEY,
      flow INTEGER NOT NULL,
      first_id INTEGER NOT NULL,
      line_count INTEGER NOT NULL,
      jsonl BLOB NOT NULL
    )
    """,
    "CREATE INDEX log_chunks_flow ON log_chunks (flow)",
    """
    CREATE TABLE uploads (
      id INTEGER PRIMARY KEY,
      flow INTEGER NOT NULL,
      number INTEGER NOT NULL,
      stored_path TEXT NOT NULL,
      accessor BLOB NOT NULL,
      client_path BLOB NOT NULL,
      size INTEGER NOT NULL,
      stored_size INTEGER NOT NULL,
      complete INTEGER NOT NULL DEFAULT 0,
      sparse_index BLOB,
      UNIQUE (flow, number, stored_path)
    )
    """,
    """
    CREATE TABLE upload_transactions (
      id INTEGER PRIMARY KEY,
      flow INTEGER NOT NULL,
      message BLOB NOT NULL
    )
    """,
    "CREATE INDEX upload_transactions_flow ON upload_transactions (flow)",
  ]

  private static let events = [
    "CREATE TABLE artifacts (id INTEGER PRIMARY KEY, org TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (org, name))",
    """
    CREATE TABLE monitoring_chunks (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      artifact INTEGER NOT NULL,
      client INTEGER NOT NULL,
      kind INTEGER NOT NULL,
      day INTEGER NOT NULL,
      received_at INTEGER NOT NULL,
      row_count INTEGER NOT NULL,
      jsonl BLOB NOT NULL
    )
    """,
    // The row id follows in each index: an artifact is followed in the order of storing.
    "CREATE INDEX monitoring_artifact ON monitoring_chunks (artifact, kind)",
    "CREATE INDEX monitoring_client ON monitoring_chunks (client, artifact, kind)",
  ]

  /// What operators want of many clients. The columns of `clients` that belong to it are of the first step.
  private static let foreman = [
    """
    CREATE TABLE event_tables (
      org TEXT NOT NULL,
      label TEXT NOT NULL COLLATE NOCASE,
      changed_at INTEGER NOT NULL,
      setting BLOB NOT NULL,
      PRIMARY KEY (org, label)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE hunts (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      org TEXT NOT NULL,
      hunt TEXT NOT NULL,
      title TEXT NOT NULL,
      creator TEXT NOT NULL,
      started_at INTEGER NOT NULL,
      expires_at INTEGER NOT NULL,
      client_limit INTEGER NOT NULL,
      label TEXT NOT NULL,
      system TEXT NOT NULL,
      request BLOB NOT NULL,
      state INTEGER NOT NULL DEFAULT 0,
      scheduled INTEGER NOT NULL DEFAULT 0,
      UNIQUE (org, hunt)
    )
    """,
    "CREATE INDEX hunts_started ON hunts (org, started_at)",
    "CREATE INDEX hunts_running ON hunts (expires_at) WHERE state = 0",
    """
    CREATE TABLE hunt_clients (
      hunt INTEGER NOT NULL,
      client INTEGER NOT NULL,
      flow INTEGER NOT NULL,
      PRIMARY KEY (hunt, client)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX hunt_clients_client ON hunt_clients (client)",
  ]
}
