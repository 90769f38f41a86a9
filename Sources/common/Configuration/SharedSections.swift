/// `Datastore`: where the deployment's data lies.
package struct DatastoreSection: Sendable, Equatable {
  package enum Implementation: String, Sendable, CaseIterable {
    /// One directory on one machine, shared by its frontends.
    case sqlite = "SQLite"
    /// A server, for many machines.
    case postgresql = "PostgreSQL"
  }

  /// `implementation`: `SQLite` (default) or `PostgreSQL`.
  package var implementation = Implementation.sqlite
  /// `location`: an absolute directory for SQLite, a `postgresql://` URL for PostgreSQL (may hold a password: secret).
  package var location = ""
  /// `retention`: how long things are kept; without it for ever.
  package var retention = RetentionSection()

  package init(implementation: Implementation = .sqlite, location: String) {
    self.implementation = implementation
    self.location = location
  }

  init(_ section: SectionReader) throws(ConfigurationError) {
    let name = try section.string("implementation") ?? Implementation.sqlite.rawValue
    guard let implementation = Implementation.allCases.first(where: { $0.rawValue.lowercased() == name.lowercased() })
    else {
      throw section.wrong("implementation", "SQLite or PostgreSQL", SectionReader.shown(name))
    }
    self.implementation = implementation
    location = try section.requiredString("location", "a directory, or a postgresql:// URL")
    switch implementation {
    case .sqlite where !location.hasPrefix("/"):
      throw section.wrong("location", "an absolute directory", "another text")
    case .postgresql where !location.hasPrefix("postgresql://") && !location.hasPrefix("postgres://"):
      throw section.wrong("location", "a postgresql:// URL", "another text")
    default: break
    }
    if let section = try section.section("retention") { retention = try RetentionSection(section) }
    if implementation == .postgresql, retention.maxSizeMB > 0 {
      throw section.wrong("retention.max_size_mb", "no size with PostgreSQL, which does not say what it uses", "one")
    }
    _ = section.keep(["filestore_directory", "compression"])
    try section.finish()
  }
}

/// `Datastore.retention`: after how long frontends remove things, in small steps. 0 (default) keeps them for ever.
package struct RetentionSection: Sendable, Equatable {
  /// `monitoring_days`: days; rows and logs of event queries.
  package var monitoringDays = 0
  /// `flows_days`: days after their end; flows with rows, logs and uploads.
  package var flowsDays = 0
  /// `uploads_days`: days; uploaded files, also of flows that are kept.
  package var uploadsDays = 0
  /// `logs_days`: days; logs of flows that are kept.
  package var logsDays = 0
  /// `audit_days`: days; what operators did.
  package var auditDays = 0
  /// `max_size_mb`: MiB that SQLite's file may use; beyond them the oldest event rows and ended flows go first.
  package var maxSizeMB = 0

  package init() {}

  init(_ section: SectionReader) throws(ConfigurationError) {
    func days(_ key: String) throws(ConfigurationError) -> Int { try section.integer(key, in: 0...36_500) ?? 0 }
    monitoringDays = try days("monitoring_days")
    flowsDays = try days("flows_days")
    uploadsDays = try days("uploads_days")
    logsDays = try days("logs_days")
    auditDays = try days("audit_days")
    maxSizeMB = try section.integer("max_size_mb", in: 0...1_000_000_000) ?? 0
    try section.finish()
  }
}

/// `Monitoring`: the port with `/metrics` and `/healthz`.
package struct MonitoringSection: Sendable, Equatable {
  /// `bind_address`: default `127.0.0.1`. The port has no TLS: keep it on loopback or a management network.
  package var bindAddress = "127.0.0.1"
  /// `bind_port`: default 0 = off.
  package var bindPort = 0

  package init() {}

  init(_ section: SectionReader) throws(ConfigurationError) {
    if let address = try section.string("bind_address"), !address.isEmpty { bindAddress = address }
    bindPort = try section.port("bind_port") ?? 0
    _ = section.keep(["metrics_url"])
    try section.finish()
  }
}

/// `Logging`. Our processes write to standard error; keys about files of a stock server are accepted and not used.
package struct LoggingSection: Sendable, Equatable {
  /// `format`: `text` (default) or `json`; `--log-format` wins.
  package var format: String?
  /// `level`: `trace`, `debug`, `info` (default), `warning` or `error`; `-v` wins.
  package var level: String?

  package init() {}

  init(_ section: SectionReader) throws(ConfigurationError) {
    format = try section.choice("format", ["text", "json"])
    level = try section.choice("level", ["trace", "debug", "info", "warning", "error"])
    _ = section.keep([
      "output_directory", "separate_logs_per_component", "debug", "info", "error", "rotation_time", "max_age",
    ])
    try section.finish()
  }
}

/// `defaults`: the few keys that matter to frontends and workers.
package struct DefaultsSection: Sendable, Equatable {
  /// `unauthenticated_lru_timeout_sec`: seconds, default 10; how long a failed key look-up is remembered.
  package var unauthenticatedLRUTimeout = 10
  /// `certificate_validity_days`: days, default 365.
  package var certificateValidityDays = 365
  /// `hunt_expiry_hours`: hours, default 168.
  package var huntExpiryHours = 168
  /// `inflight_check_time`: seconds, default 60; how long a handed-out flow may be silent before the agent is asked.
  package var inflightCheckTime = 60
  /// `event_max_wait`: seconds, default 120; how long agents hold back event rows when the artifact does not say.
  package var eventMaxWait = 120
  /// `event_max_wait_jitter`: seconds, default 20; up to so many less one are added at random.
  package var eventMaxWaitJitter = 20
  /// `event_change_notify_all_clients`: default true, unlike the reference's; whether a changed event table or a new
  /// hunt wakes waiting readers, at most `notifications_per_second` of them.
  package var eventChangeNotifyAllClients = true

  package init() {}

  init(_ section: SectionReader) throws(ConfigurationError) {
    unauthenticatedLRUTimeout = try section.positive("unauthenticated_lru_timeout_sec", in: 0...86_400) ?? 10
    certificateValidityDays = try section.positive("certificate_validity_days", in: 0...36_500) ?? 365
    huntExpiryHours = try section.positive("hunt_expiry_hours", in: 0...876_000) ?? 168
    inflightCheckTime = try section.positive("inflight_check_time", in: 0...86_400) ?? 60
    eventMaxWait = try section.positive("event_max_wait", in: 0...86_400) ?? 120
    eventMaxWaitJitter = try section.positive("event_max_wait_jitter", in: 0...86_400) ?? 20
    eventChangeNotifyAllClients = try section.boolean("event_change_notify_all_clients") ?? true
    _ = section.keep([
      "notebook_cell_timeout_min", "disable_active_inflight_checks", "client_info_housekeeping_period",
    ])
    try section.finish()
  }
}

/// `Frontend.resources`: limits that protect the processes. 0 means the default.
package struct ResourcesSection: Sendable, Equatable {
  /// `expected_clients`: default 10000; sources in a worker's session cache; should exceed the active clients.
  package var expectedClients = 10_000
  /// `connections_per_second`: default 100, at most 1000 (larger values count as 1000); accepted TLS connections.
  package var connectionsPerSecond = 100
  /// `max_upload_size`: bytes, default 10485760; bodies up to twice this are accepted.
  package var maxUploadSize = 10_485_760
  /// `concurrency`: default 2 × CPUs (0 here); bodies worked on at a time.
  package var concurrency = 0
  /// `concurrency_timeout`: seconds, default 600; how long a body waits for its turn.
  package var concurrencyTimeout = 600
  /// `per_client_upload_rate`: bytes per second, default 0 = unlimited.
  package var perClientUploadRate = 0
  /// `global_upload_rate`: bytes per second, default 0 = unlimited.
  package var globalUploadRate = 0
  /// `enrollments_per_second`: default 0 = 100; new clients that one frontend asks who they are. Negative: none is
  /// asked.
  package var enrollmentsPerSecond = 0
  /// `notifications_per_second`: default 30; readers woken by changes that concern many clients.
  package var notificationsPerSecond = 30

  package init() {}

  init(_ section: SectionReader) throws(ConfigurationError) {
    expectedClients = try section.positive("expected_clients", in: 0...100_000_000) ?? 10_000
    connectionsPerSecond = min(try section.positive("connections_per_second", in: 0...Int.max) ?? 100, 1000)
    maxUploadSize = try section.positive("max_upload_size", in: 0...1_073_741_824) ?? 10_485_760
    concurrency = try section.integer("concurrency", in: 0...100_000) ?? 0
    concurrencyTimeout = try section.positive("concurrency_timeout", in: 0...86_400) ?? 600
    perClientUploadRate = try section.integer("per_client_upload_rate", in: 0...Int.max) ?? 0
    globalUploadRate = try section.integer("global_upload_rate", in: 0...Int.max) ?? 0
    enrollmentsPerSecond = try section.integer("enrollments_per_second", in: -1...1_000_000) ?? 0
    notificationsPerSecond = try section.positive("notifications_per_second", in: 0...1_000_000) ?? 30
    try section.finish()
  }
}

extension SectionReader {
  /// One of some words, in any case; nil when the key is missing.
  func choice(_ key: String, _ words: [String]) throws(ConfigurationError) -> String? {
    guard let text = try string(key), !text.isEmpty else { return nil }
    guard words.contains(text.lowercased()) else {
      throw wrong(key, "one of \(words.joined(separator: ", "))", Self.shown(text))
    }
    return text.lowercased()
  }
}
