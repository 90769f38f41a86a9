import Logging
import Wire

/// Unsent messages: an urgent queue in memory and the bulk queue on disk (client.md §4 and §5).
///
/// Threads that run queries append and are blocked while the bulk queue is full, which stops the queries; the sender
/// leases, and commits or puts back.
///
/// `@unchecked Sendable`: all mutable state is used under `condition` only.
package final class OutboundQueue: @unchecked Sendable {
  /// What a message means for its delivery.
  package enum Kind: Sendable { case ordinary, enrolment }

  /// Message lists of one body, to be sent again unchanged until they are acknowledged.
  package struct Lease: Sendable {
    package let lists: [[UInt8]]
    /// Records inside; those of cancelled flows are not counted.
    package let records: Int
    package let isEnrolment: Bool
    package let isUrgent: Bool
  }

  private struct UrgentRecord {
    var bytes: [UInt8]
    var kind: Kind
  }

  private let condition = ThreadCondition()
  private let storage: any QueueStorage
  private let capacity: Int
  private let bodySize: Int
  private let compress: Bool
  private let deadLetters: DeadLetters?
  private let log: Logger
  private var urgent: [UrgentRecord] = []
  private var urgentBytes = 0
  private var urgentLeased = 0
  private var cancelledFlows: [String] = []
  private var closed = false
  private var unsynced = 0
  let doorbell = Doorbell()

  /// The most cancelled flows whose rows are still filtered.
  static let cancelledLimit = 1000
  /// Written bytes after which the disk is told to keep them.
  static let syncEvery = 4 << 20

  init(
    storage: any QueueStorage, capacity: Int, bodySize: Int, compress: Bool, deadLetters: DeadLetters?, log: Logger
  ) {
    self.storage = storage
    self.capacity = capacity
    self.bodySize = max(bodySize, 4096)
    self.compress = compress
    self.deadLetters = deadLetters
    self.log = log
  }

  /// The queue of the settings: on disk, or in memory with a warning when the file cannot be used.
  ///
  /// - Throws: when another agent has the file.
  package static func open(_ settings: AgentSettings, log: Logger) throws(AgentError) -> OutboundQueue {
    guard let path = settings.queuePath, settings.queueDiskSize > 0 else {
      log.notice("Unsent results are kept in memory: no local_buffer on disk is configured")
      return memory(settings, log: log)
    }
    do {
      let file = try QueueFile(path: path, maximum: settings.queueDiskSize)
      report(file.recovery, path, log)
      return OutboundQueue(
        storage: file, capacity: settings.queueDiskSize, bodySize: settings.maxUploadSize, compress: settings.compress,
        deadLetters: DeadLetters(path: path + ".dead-letters"), log: log)
    } catch  where error.message.contains("in use by another agent") {
      throw error
    } catch {
      log.warning(
        "Unsent results are kept in memory and are lost by a restart: \(error). Name a writable file with --buffer")
      return memory(settings, log: log)
    }
  }

  private static func memory(_ settings: AgentSettings, log: Logger) -> OutboundQueue {
    OutboundQueue(
      storage: MemoryQueue(), capacity: settings.queueMemorySize, bodySize: settings.maxUploadSize,
      compress: settings.compress, deadLetters: nil, log: log)
  }

  private static func report(_ recovery: QueueFile.Recovery, _ path: String, _ log: Logger) {
    if recovery.records > 0 {
      log.info("Found \(recovery.records) unsent messages (\(recovery.liveBytes) bytes) in \(path)")
    }
    if recovery.damaged > 0 || recovery.headerWasDamaged {
      log.warning(
        "The queue file \(path) was damaged in \(recovery.damaged) places; all whole messages were recovered",
        metadata: ["header": "\(recovery.headerWasDamaged ? "damaged" : "good")"])
    }
  }

  private func locked<R>(_ body: () throws -> R) rethrows -> R {
    condition.lock()
    defer { condition.unlock() }
    return try body()
  }

  // MARK: appending

  /// Appends one message and then blocks while the queue is over its capacity. Never call it from a task.
  ///
  /// - Parameter isAbandoned: asked while blocked; true ends the blocking (the message is kept all the same).
  package func append(_ message: Proto_VeloMessage, isAbandoned: () -> Bool = { false }) throws {
    let record = try MessageListCodec.serialize([message])
    try locked {
      guard !closed else { throw AgentError(.stopping, "the agent has stopped") }
      try storage.append(record)
      unsynced += record.count
      if unsynced >= Self.syncEvery { syncNow() }
    }
    doorbell.ring()
    locked {
      while storage.liveBytes > capacity, !closed, !isAbandoned() {
        _ = condition.wait(until: ThreadCondition.Deadline(after: 0.2))
      }
    }
  }

  /// Appends to the urgent queue, which overtakes the bulk queue and is bounded by 2 x max_upload_size.
  package func appendUrgent(_ message: Proto_VeloMessage, kind: Kind = .ordinary) throws {
    let record = try MessageListCodec.serialize([message])
    let fits = locked {
      guard kind == .enrolment || urgentBytes + record.count <= 2 * bodySize else { return false }
      let entry = UrgentRecord(bytes: record, kind: kind)
      // A certificate request goes before all else that nobody could read without it.
      if kind == .enrolment { urgent.insert(entry, at: urgentLeased) } else { urgent.append(entry) }
      urgentBytes += record.count
      return true
    }
    if fits { doorbell.ring() } else { try append(message, isAbandoned: { true }) }
  }

  /// Rows of this flow that were not sent yet are dropped; its logs and stats are kept (client.md §6.5).
  package func dropRows(ofFlow id: String) {
    locked {
      cancelledFlows.append(id)
      if cancelledFlows.count > Self.cancelledLimit { cancelledFlows.removeFirst() }
    }
  }

  /// The flow goes on (client.md §6.4): its rows are sent again.
  package func keepRows(ofFlow id: String) {
    locked { cancelledFlows.removeAll { $0 == id } }
  }

  /// The executor has nowhere else to put a message: the disk is full or broken.
  func reportLoss(_ error: any Error) {
    log.error("A message could not be queued and is lost: \(error)")
  }

  // MARK: leasing

  var urgentState: SenderLoop.Urgent {
    locked { urgent.first.map { $0.kind == .enrolment ? .enrolment : .ordinary } ?? .none }
  }

  package var bulkBytes: Int { locked { storage.liveBytes } }

  package var isEmpty: Bool { locked { urgent.isEmpty && storage.liveBytes == 0 } }

  /// The oldest urgent messages; a certificate request goes alone, because its 406 says nothing about others.
  func leaseUrgent(recordLimit: Int? = nil) throws -> Lease? {
    let (records, isEnrolment) = locked { () -> ([[UInt8]], Bool) in
      guard let first = urgent.first else { return ([], false) }
      let ordinary = urgent.prefix(recordLimit ?? .max).prefix { $0.kind == .ordinary }.count
      let count = first.kind == .enrolment ? 1 : ordinary
      urgentLeased = count
      return (urgent.prefix(count).map(\.bytes), first.kind == .enrolment)
    }
    guard !records.isEmpty else { return nil }
    return Lease(
      lists: [try pack(records)], records: records.count, isEnrolment: isEnrolment, isUrgent: true)
  }

  /// The oldest messages of the bulk queue: lists of a quarter of `max_upload_size` before compression, until the
  /// compressed total reaches it. Nil when there is nothing.
  func leaseBulk(recordLimit: Int?) throws -> Lease? {
    try locked {
      guard !closed else { return nil }
      storage.rewind()
      var lists: [[UInt8]] = []
      var total = 0
      var records = 0
      var isMore = true
      while isMore, total < bodySize {
        var chunk: [[UInt8]] = []
        var size = 0
        while size <= bodySize / 4 {
          guard records < recordLimit ?? .max, !storage.isAtLeaseBoundary, let record = try storage.next() else {
            isMore = false
            break
          }
          if isDropped(record) { continue }
          chunk.append(record)
          size += record.count
          records += 1
        }
        guard !chunk.isEmpty else { break }
        let packed = try pack(chunk)
        lists.append(packed)
        total += packed.count
      }
      if lists.isEmpty {
        // Nothing but rows of cancelled flows, or damage.
        try storage.commit()
        condition.broadcast()
        return nil
      }
      try storage.markLeased()
      if unsynced > 0 { syncNow() }
      return Lease(lists: lists, records: records, isEnrolment: false, isUrgent: false)
    }
  }

  /// Serialized MessageLists concatenate to one (wire.md).
  private func pack(_ records: [[UInt8]]) throws -> [UInt8] {
    let joined = records.count == 1 ? records[0] : Array(records.joined())
    return compress ? try Zlib.deflate(joined) : joined
  }

  private func isDropped(_ record: [UInt8]) -> Bool {
    guard !cancelledFlows.isEmpty, let jobs = try? MessageListCodec.jobs(record), let job = jobs.first else {
      return false
    }
    return cancelledFlows.contains(job.sessionID) && !job.hasLogMessage && !job.hasFlowStats
  }

  private func syncNow() {
    unsynced = 0
    do {
      try storage.sync()
    } catch {
      log.error("The queue file could not be synced to disk: \(error)")
    }
  }

  // MARK: ending a lease

  func commit(_ lease: Lease) throws {
    try locked {
      if lease.isUrgent {
        urgentBytes -= urgent.prefix(lease.records).reduce(0) { $0 + $1.bytes.count }
        urgent.removeFirst(min(lease.records, urgent.count))
        urgentLeased = 0
      } else if !closed {
        try storage.commit()
        condition.broadcast()
      }
    }
  }

  func rollback(_ lease: Lease) {
    locked {
      if lease.isUrgent {
        urgentLeased = 0
      } else if !closed {
        storage.rewind()
      }
    }
  }

  /// Moves what was refused for good to the dead-letter file.
  func setAside(_ lease: Lease, reason: String) throws {
    let plain = try lease.lists.map { compress ? try Zlib.inflate($0, limit: MessageListCodec.inflateLimit) : $0 }
    if let deadLetters {
      try deadLetters.append(plain)
      log.error("The server \(reason): the message was set aside in \(deadLetters.path)")
    } else {
      log.error("The server \(reason): the message is dropped, as there is no queue file to set it aside beside")
    }
    try commit(lease)
  }

  /// Ends all blocking; what was appended stays for the next start.
  package func close() {
    locked {
      guard !closed else { return }
      closed = true
      storage.rewind()
      syncNow()
      storage.release()
      condition.broadcast()
    }
  }
}
