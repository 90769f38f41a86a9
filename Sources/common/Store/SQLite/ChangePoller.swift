import GRDB
import PublicIdentity

/// Finds changes that any process announced in the table `changes`.
///
/// SQLite does not notify other processes: a `ChangeBell` says when to look, and a slow timer in case a ring was lost.
/// `PRAGMA data_version` on a connection of its own tells cheaply whether anybody committed; only then the table is
/// looked at, from the last number seen.
actor ChangePoller {
  private let path: String
  private let bell: ChangeBell
  private let options: StoreOptions
  private var listener: ChangeBell.Listener?
  private var connection: DatabaseQueue?
  private var lastVersion: Int64 = -1
  private var lastNumber: Int64 = 0
  private var subscribers: [Int: AsyncStream<StoreEvent>.Continuation] = [:]
  private var nextSubscriber = 0
  private var loop: Task<Void, Never>?

  static let after = "SELECT seq, kind, org, client FROM changes WHERE seq > ? ORDER BY seq LIMIT 1000"

  init(path: String, bell: ChangeBell, options: StoreOptions) {
    self.path = path
    self.bell = bell
    self.options = options
  }

  func events() throws -> AsyncStream<StoreEvent> {
    if connection == nil { try connect() }
    let number = nextSubscriber
    nextSubscriber += 1
    let (stream, continuation) = AsyncStream.makeStream(of: StoreEvent.self)
    continuation.onTermination = { [weak self] _ in
      Task { await self?.unsubscribe(number) }
    }
    subscribers[number] = continuation
    if loop == nil {
      listener = bell.listen { [weak self] in
        Task { await self?.poll() }
      }
      let interval = listener == nil ? options.pollInterval : options.lostRingInterval
      loop = Task { await run(every: interval) }
    }
    return stream
  }

  /// This process announced something: the others are told, and it looks itself.
  func announced() {
    bell.ring()
    poll()
  }

  /// Looks now.
  func poll() {
    guard let connection, !subscribers.isEmpty else { return }
    do {
      while try pollOnce(connection) {}
    } catch {
      // The next look may succeed; a store that stays unreadable is reported by `health`.
      lastVersion = -1
    }
  }

  func close() {
    loop?.cancel()
    loop = nil
    listener = nil
    for subscriber in subscribers.values { subscriber.finish() }
    subscribers = [:]
    connection = nil
  }

  private func connect() throws {
    var configuration = Configuration()
    configuration.readonly = true
    configuration.busyMode = .timeout(1)
    let queue = try DatabaseQueue(path: path, configuration: configuration)
    lastNumber = try queue.unsafeRead { try $0.number("SELECT max(seq) FROM changes") ?? 0 }
    connection = queue
  }

  private func unsubscribe(_ number: Int) {
    subscribers[number] = nil
  }

  private func run(every interval: Duration) async {
    while !Task.isCancelled {
      try? await Task.sleep(for: interval)
      poll()
    }
  }

  /// - Returns: whether there may be more.
  private func pollOnce(_ connection: DatabaseQueue) throws -> Bool {
    let (version, rows) = try connection.unsafeRead { [lastVersion, lastNumber] db -> (Int64, [Row]) in
      let version = try db.number("PRAGMA data_version") ?? 0
      guard version != lastVersion else { return (version, []) }
      return (version, try db.rows(Self.after, [lastNumber]))
    }
    lastVersion = rows.count == 1_000 ? -1 : version
    var seen: Set<StoreEvent> = []
    for row in rows {
      lastNumber = max(lastNumber, row["seq"])
      guard let event = StoreEvent(kind: row["kind"], org: row["org"], client: row["client"]),
        seen.insert(event).inserted
      else { continue }
      for subscriber in subscribers.values { subscriber.yield(event) }
    }
    return rows.count == 1_000
  }
}
