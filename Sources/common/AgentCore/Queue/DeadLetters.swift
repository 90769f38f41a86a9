import FoundationEssentials
import Glibc

/// Messages that the server refused for good, kept for people: records as in the queue file, without its header.
///
/// Capped: when the file is full it becomes `.old` and the former `.old` goes.
package final class DeadLetters: Sendable {
  package let path: String
  private let capacity: Int

  /// - Parameter capacity: bytes of one file; two exist at most.
  package init(path: String, capacity: Int = 16 << 20) {
    self.path = path
    self.capacity = capacity
  }

  /// - Throws: when the record cannot be written; it then stays in the queue.
  package func append(_ records: [[UInt8]]) throws(AgentError) {
    var file = try FileDescriptor.open(path)
    for record in records {
      let bytes = QueueFileFormat.encode(record: record)
      if try file.size + bytes.count > capacity, try file.size > 0 {
        guard rename(path, path + ".old") == 0 else { throw FileDescriptor.failure("replace", path + ".old") }
        file = try FileDescriptor.open(path)
      }
      try file.write(bytes, at: try file.size)
    }
    try file.sync()
  }
}
