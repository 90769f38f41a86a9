import Foundation

/// One process's `/metrics`, as read at one moment.
struct MetricsPage: Equatable {
  /// When it was read, in seconds of a monotonic clock.
  var at: Double
  /// Values by name and labels as written, `name{label="value"}`.
  private var values: [String: Double] = [:]

  /// - Parameter text: Prometheus text format; lines that are none are left out.
  init(_ text: String, at: Double) {
    self.at = at
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      guard let space = line.lastIndex(of: " "), let value = Double(line[line.index(after: space)...]) else { continue }
      values[String(line[..<space])] = value
    }
  }

  /// The value without labels, or the sum over all labels.
  func value(_ name: String) -> Double? {
    if let value = values[name] { return value }
    let series = values.filter { $0.key.hasPrefix(name + "{") }
    return series.isEmpty ? nil : series.values.reduce(0, +)
  }

  /// The mean of a histogram's values since `before`, in its own unit; nil when there were none.
  func mean(_ name: String, since before: MetricsPage?) -> Double? {
    guard let sum = value(name + "_sum"), let count = value(name + "_count") else { return nil }
    let (oldSum, oldCount) = (before?.value(name + "_sum") ?? 0, before?.value(name + "_count") ?? 0)
    // A process that was started anew counts from zero.
    guard count > oldCount else { return nil }
    return (sum - oldSum) / (count - oldCount)
  }

  /// The growth of a counter each second since `before`; nil without an earlier page.
  func rate(_ name: String, since before: MetricsPage?) -> Double? {
    guard let before, at > before.at, let now = value(name), let then = before.value(name) else { return nil }
    return max(0, now - then) / (at - before.at)
  }
}

/// A process as one look at its metrics shows it. Numbers that it does not have are nil.
struct WatchedProcess: Encodable, Equatable {
  enum Role: String, Encodable { case frontend, worker, unknown }

  var target: String
  var role: Role
  /// Why it could not be read.
  var problem: String?
  var connections: Double?
  var readers: Double?
  /// Bodies each second.
  var bodiesPerSecond: Double?
  var acknowledgedPerSecond: Double?
  var tasksPerSecond: Double?
  /// Answers 403 and 503 and cut answers each second.
  var refusedPerSecond: Double?
  var unavailablePerSecond: Double?
  /// From the opened body to its commit, in milliseconds.
  var commitMilliseconds: Double?
  var workers: Double?
  var inFlight: Double?
  /// Sessions in a worker's cache.
  var sessions: Double?
  /// Bodies whose session was in the cache, of all, between 0 and 1.
  var hitRatio: Double?
  var coldDepth: Double?
  var openedPerSecond: Double?
  var rsaPerSecond: Double?
  var overloadedPerSecond: Double?

  init(target: String, problem: String) {
    self.target = target
    role = .unknown
    self.problem = problem
  }

  /// - Parameter before: an earlier page of the same process, for rates.
  init(target: String, _ page: MetricsPage, since before: MetricsPage?) {
    self.target = target
    if page.value("client_comms_current_connections") != nil {
      role = .frontend
      connections = page.value("frontend_connections")
      readers = page.value("client_comms_current_connections")
      bodiesPerSecond = page.rate("frontend_received_count", since: before)
      acknowledgedPerSecond = page.rate("frontend_acknowledged_count", since: before)
      tasksPerSecond = page.rate("frontend_tasks_sent", since: before)
      refusedPerSecond = page.rate("frontend_decryption_errors", since: before)
      let (busy, cut) = (
        page.rate("frontend_unavailable_count", since: before), page.rate("frontend_aborted_count", since: before)
      )
      unavailablePerSecond = busy.map { $0 + (cut ?? 0) }
      commitMilliseconds = page.mean("frontend_commit_seconds", since: before).map { $0 * 1_000 }
      workers = page.value("worker_usable")
      inFlight = page.value("worker_requests_in_flight")
    } else if page.value("cipher_lru_total_size") != nil {
      role = .worker
      sessions = page.value("cipher_lru_total_size")
      coldDepth = page.value("worker_cold_depth")
      openedPerSecond = page.rate("worker_opened_count", since: before)
      overloadedPerSecond = page.rate("worker_overloaded_count", since: before)
      let (decrypted, signed) = (
        page.rate("rsa_decrypt_op", since: before), page.rate("rsa_sign_op", since: before)
      )
      rsaPerSecond = decrypted.map { $0 + (signed ?? 0) }
      let hits = (page.value("cipher_lru_hit") ?? 0) - (before?.value("cipher_lru_hit") ?? 0)
      let misses = (page.value("cipher_lru_miss") ?? 0) - (before?.value("cipher_lru_miss") ?? 0)
      if hits >= 0, misses >= 0, hits + misses > 0 { hitRatio = hits / (hits + misses) }
    } else {
      role = .unknown
      problem = "these are not the metrics of a frontend or crypto-worker"
    }
  }
}
