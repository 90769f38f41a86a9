/// The PostgreSQL schema, equal in meaning to the SQLite one. Each step has a number that is never reused; a database
/// with a step unknown here was written by newer software and is refused.
///
/// Times are microseconds since 1970. Clients and flows have integer keys that are never reused, so that a deletion can
/// unlink the name at once and purge the rest in small steps. Texts that agents choose are bytea: PostgreSQL's text
/// takes no NUL. Names are compared as bytes (`COLLATE "C"`), so that every server orders them alike.
enum PGSchema {
  /// Taken while the schema is looked at or changed ("micrrapt" as a number).
  static let lock: Int64 = 0x6d69_6372_7261_7074

  static let steps: [[String]] = [
    clients + tasks + flows + uploads + events, seats, foreman, retention,
  ]

  static let versions = """
    CREATE TABLE IF NOT EXISTS schema_steps (step bigint PRIMARY KEY, applied_at bigint NOT NULL)
    """

  /// What removal by age needs. Records of before count as stored now.
  private static let retention = [
    "ALTER TABLE log_chunks ADD COLUMN stored_at bigint NOT NULL DEFAULT 0",
    "UPDATE log_chunks SET stored_at = (extract(epoch FROM now()) * 1000000)::bigint",
    "CREATE INDEX log_chunks_age ON log_chunks (stored_at)",
    "ALTER TABLE uploads ADD COLUMN stored_at bigint NOT NULL DEFAULT 0",
    "UPDATE uploads SET stored_at = (extract(epoch FROM now()) * 1000000)::bigint",
    "CREATE INDEX flows_ended ON flows (ended_at) WHERE ended_at IS NOT NULL",
  ]

  /// Where each client's reader was seated last.
  private static let seats = [
    """
    CREATE TABLE seats (
      client bigint PRIMARY KEY,
      process text NOT NULL,
      session bigint NOT NULL,
      host text NOT NULL,
      address text NOT NULL,
      agent text NOT NULL,
      relayed boolean NOT NULL
    ) WITH (fillfactor = 80)
    """
  ]

  private static let clients = [
    """
    CREATE TABLE clients (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      org text COLLATE "C" NOT NULL,
      client text COLLATE "C" NOT NULL,
      public_key text NOT NULL,
      enrolled_at bigint NOT NULL,
      first_seen bigint NOT NULL,
      hostname text COLLATE "C" NOT NULL DEFAULT '',
      fqdn text COLLATE "C" NOT NULL DEFAULT '',
      facts bytea,
      labels_changed_at bigint NOT NULL DEFAULT 0,
      interrogation_flow text,
      event_table_version bigint NOT NULL DEFAULT 0,
      hunt_timestamp bigint NOT NULL DEFAULT 0,
      UNIQUE (org, client)
    )
    """,
    "CREATE INDEX clients_hostname ON clients (lower(hostname), org)",
    "CREATE INDEX clients_fqdn ON clients (lower(fqdn), org)",
    // Written with each body, so it is small, apart, without further indexes, and its pages have room. The row is
    // also what a transaction locks that works on the client.
    """
    CREATE TABLE contacts (
      client bigint PRIMARY KEY,
      last_seen bigint NOT NULL,
      address text NOT NULL,
      reported_table_version bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50)
    """,
    "CREATE TABLE labels (client bigint NOT NULL, label text COLLATE \"C\" NOT NULL)",
    "CREATE UNIQUE INDEX labels_client ON labels (client, lower(label))",
    "CREATE INDEX labels_label ON labels (lower(label))",
    // Deleted clients whose data is still to be purged.
    "CREATE TABLE doomed (client bigint PRIMARY KEY, org text NOT NULL, name text NOT NULL)",
    // Digests of stored lists.
    """
    CREATE TABLE seen_lists (
      client bigint NOT NULL,
      digest bytea NOT NULL,
      seen_at bigint NOT NULL,
      PRIMARY KEY (client, digest)
    )
    """,
    "CREATE INDEX seen_lists_age ON seen_lists (seen_at)",
  ]

  private static let tasks = [
    """
    CREATE TABLE tasks (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      client bigint NOT NULL,
      kind bigint NOT NULL,
      flow bigint,
      session text NOT NULL,
      message bytea NOT NULL,
      urgent boolean NOT NULL,
      state bigint NOT NULL DEFAULT 0,
      attempts bigint NOT NULL DEFAULT 0,
      queued_at bigint NOT NULL,
      leased_at bigint,
      expires_at bigint,
      ended_at bigint
    )
    """,
    "CREATE INDEX tasks_open ON tasks (client, id) WHERE state < 3",
    "CREATE INDEX tasks_client ON tasks (client)",
    "CREATE INDEX tasks_flow ON tasks (flow, id)",
    "CREATE INDEX tasks_expiry ON tasks (expires_at) WHERE state = 0 AND expires_at IS NOT NULL",
    // What other processes must hear of (StoreEvent), for those that were not connected.
    """
    CREATE TABLE changes (
      seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      kind bigint NOT NULL,
      org text NOT NULL,
      client text NOT NULL,
      at bigint NOT NULL,
      xid bigint NOT NULL
    )
    """,
    "CREATE INDEX changes_age ON changes (at)",
    """
    CREATE TABLE audit (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at bigint NOT NULL,
      who text NOT NULL,
      origin text NOT NULL,
      action text NOT NULL,
      org text NOT NULL,
      client text NOT NULL,
      detail text NOT NULL
    )
    """,
    // Tokens of committed transactions, to settle a commit whose answer was lost.
    "CREATE TABLE outcomes (token bytea PRIMARY KEY, at bigint NOT NULL, fenced boolean NOT NULL)",
    "CREATE INDEX outcomes_age ON outcomes (at)",
  ]

  private static let flows = [
    """
    CREATE TABLE flows (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      client bigint NOT NULL,
      flow text COLLATE "C" NOT NULL,
      state bigint NOT NULL DEFAULT 0,
      error bytea,
      created_at bigint NOT NULL,
      creator text NOT NULL,
      request bytea,
      stats bytea,
      totals bytea,
      heard_at bigint,
      asked_at bigint,
      ended_at bigint,
      lost boolean NOT NULL DEFAULT false,
      cancel_requested boolean NOT NULL DEFAULT false,
      next_log bigint NOT NULL DEFAULT 0,
      UNIQUE (client, flow)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX flows_created ON flows (client, created_at, id)",
    """
    CREATE TABLE result_sets (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      flow bigint NOT NULL,
      name text COLLATE "C" NOT NULL,
      next_row bigint NOT NULL DEFAULT 0,
      row_count bigint NOT NULL DEFAULT 0,
      bytes bigint NOT NULL DEFAULT 0,
      UNIQUE (flow, name)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE row_chunks (
      result_set bigint NOT NULL,
      first_row bigint NOT NULL,
      row_count bigint NOT NULL,
      jsonl bytea NOT NULL,
      PRIMARY KEY (result_set, first_row)
    )
    """,
    """
    CREATE TABLE log_chunks (
      id bigint GENERATED ALWAYS AS IDENTITY,
      flow bigint NOT NULL,
      first_id bigint NOT NULL,
      line_count bigint NOT NULL,
      jsonl bytea NOT NULL,
      PRIMARY KEY (flow, id)
    )
    """,
    "CREATE TABLE upload_transactions (id bigint GENERATED ALWAYS AS IDENTITY, flow bigint NOT NULL, message bytea)",
    "CREATE INDEX upload_transactions_flow ON upload_transactions (flow)",
  ]

  /// The pieces of uploaded files lie in the database, so that every machine sees them.
  private static let uploads = [
    """
    CREATE TABLE uploads (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      flow bigint NOT NULL,
      number bigint NOT NULL,
      stored_path text COLLATE "C" NOT NULL,
      accessor bytea NOT NULL,
      client_path bytea NOT NULL,
      size bigint NOT NULL,
      stored_size bigint NOT NULL,
      complete boolean NOT NULL DEFAULT false,
      sparse_index bytea,
      UNIQUE (flow, number, stored_path)
    )
    """,
    // `written` orders pieces that overlap: the younger covers the older.
    """
    CREATE TABLE upload_pieces (
      upload bigint NOT NULL,
      start bigint NOT NULL,
      length bigint NOT NULL,
      written bigint NOT NULL,
      data bytea NOT NULL,
      PRIMARY KEY (upload, start)
    )
    """,
    "CREATE SEQUENCE upload_writes",
    "ALTER TABLE upload_pieces ALTER COLUMN data SET STORAGE EXTERNAL",
  ]

  private static let events = [
    """
    CREATE TABLE artifacts (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      org text COLLATE "C" NOT NULL,
      name text COLLATE "C" NOT NULL,
      UNIQUE (org, name)
    )
    """,
    // The id is the number of the transaction times 2^20 and a count, so that rows of one transaction never appear
    // below those of one that a reader has seen to its end (`PGMonitoring`).
    """
    CREATE TABLE monitoring_chunks (
      id bigint NOT NULL,
      artifact bigint NOT NULL,
      client bigint NOT NULL,
      kind bigint NOT NULL,
      day bigint NOT NULL,
      received_at bigint NOT NULL,
      row_count bigint NOT NULL,
      jsonl bytea NOT NULL
    )
    """,
    "CREATE INDEX monitoring_artifact ON monitoring_chunks (artifact, kind, id)",
    "CREATE INDEX monitoring_client ON monitoring_chunks (client, artifact, kind, id)",
    // What is added to transaction numbers: they begin anew in a cluster that a dump was restored into.
    "CREATE TABLE clock (id bigint PRIMARY KEY CHECK (id = 1), base bigint NOT NULL)",
    "INSERT INTO clock (id, base) VALUES (1, 0)",
  ]

  /// What operators want of many clients. The columns of `clients` that belong to it are of the first step.
  private static let foreman = [
    """
    CREATE TABLE event_tables (
      org text COLLATE "C" NOT NULL,
      label text COLLATE "C" NOT NULL,
      changed_at bigint NOT NULL,
      setting bytea NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX event_tables_label ON event_tables (org, lower(label))",
    """
    CREATE TABLE hunts (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      org text COLLATE "C" NOT NULL,
      hunt text COLLATE "C" NOT NULL,
      title text NOT NULL,
      creator text NOT NULL,
      started_at bigint NOT NULL,
      expires_at bigint NOT NULL,
      client_limit bigint NOT NULL,
      label text NOT NULL,
      system text NOT NULL,
      request bytea NOT NULL,
      state bigint NOT NULL DEFAULT 0,
      scheduled bigint NOT NULL DEFAULT 0,
      UNIQUE (org, hunt)
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX hunts_started ON hunts (org, started_at)",
    "CREATE INDEX hunts_running ON hunts (expires_at) WHERE state = 0",
    """
    CREATE TABLE hunt_clients (
      hunt bigint NOT NULL,
      client bigint NOT NULL,
      flow bigint NOT NULL,
      PRIMARY KEY (hunt, client)
    )
    """,
    "CREATE INDEX hunt_clients_client ON hunt_clients (client)",
  ]
}
