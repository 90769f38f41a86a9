/// Where unsent records lie, oldest first. Not thread-safe: `OutboundQueue` guards it.
protocol QueueStorage: AnyObject {
  /// Bytes of records that are not committed.
  var liveBytes: Int { get }
  /// A record at the end.
  func append(_ record: [UInt8]) throws(AgentError)
  /// The record behind the cursor, which moves over it. Nil at the end.
  func next() throws(AgentError) -> [UInt8]?
  /// Puts the cursor back to the oldest record.
  func rewind()
  /// Remembers durably that what lies before the cursor is being sent, so that a restart sends the same portion.
  func markLeased() throws(AgentError)
  /// Whether a portion marked before a restart still begins at the oldest record; its end is where `next` must stop.
  var isAtLeaseBoundary: Bool { get }
  /// Forgets all records before the cursor.
  func commit() throws(AgentError)
  /// Makes what was written survive a power failure.
  func sync() throws(AgentError)
  /// Lets another process have it. Nothing else is called afterwards.
  func release()
}

/// Records in memory, for agents without a queue file. A restart loses them.
final class MemoryQueue: QueueStorage {
  private var records: [[UInt8]] = []
  private var start = 0
  private var cursor = 0
  private(set) var liveBytes = 0

  func append(_ record: [UInt8]) {
    records.append(record)
    liveBytes += record.count
  }

  func next() -> [UInt8]? {
    guard cursor < records.count else { return nil }
    defer { cursor += 1 }
    return records[cursor]
  }

  func rewind() { cursor = start }
  func markLeased() {}
  var isAtLeaseBoundary: Bool { false }
  func sync() {}
  func release() {}

  func commit() {
    for index in start..<cursor {
      liveBytes -= records[index].count
      records[index] = []
    }
    start = cursor
    // Moving the rest is paid for by what was committed.
    guard start > 1024, start * 2 > records.count else { return }
    records.removeFirst(start)
    start = 0
    cursor = 0
  }
}
