import FoundationEssentials
import Glibc

/// The durable queue: records survive a kill at any instant, and damage costs the damaged record only.
///
/// A second agent is kept out by a lock on a file beside it, because compaction replaces the queue file itself.
final class QueueFile: QueueStorage {
  /// What was found when the file was opened, for the log.
  struct Recovery: Equatable {
    var records = 0
    var liveBytes = 0
    /// Places where bytes had to be skipped.
    var damaged = 0
    var headerWasDamaged = false
    var importedFromVelociraptor = false
  }

  private typealias Format = QueueFileFormat

  /// Consumed space above this is given back by rewriting the file, once it is more than what is live.
  private let compactionThreshold: Int
  private var file: FileDescriptor
  private let lock: FileDescriptor
  private var header = Format.Header()
  /// Where the next record to lease begins.
  private var cursor = Format.headerSize
  private var cursorBytes = 0
  /// End of the portion that was leased before a restart; 0 when there is none.
  private var boundary = 0
  private(set) var liveBytes = 0
  private(set) var recovery = Recovery()

  /// - Parameter maximum: `disk_size`, written to the header for other readers.
  init(path: String, maximum: Int, compactionThreshold: Int = 4 << 20) throws(AgentError) {
    self.compactionThreshold = compactionThreshold
    lock = try FileDescriptor.open(path + ".lock")
    guard lock.lock() else {
      throw AgentError(
        .state, "the queue file \(path) is in use by another agent; give each its own with --buffer")
    }
    unlink(path + ".new")
    file = try FileDescriptor.open(path)
    header.maximum = maximum + Format.headerSize
    try recover()
  }

  // MARK: opening

  private func recover() throws(AgentError) {
    let size = try file.size
    let bytes = try file.read(at: 0, count: Format.headerSize)
    let maximum = header.maximum
    guard size > 0 else { return try reset() }
    switch Format.decodeHeader(bytes) {
    case .ours(let found):
      header = found
    case .foreign(let found): return try importForeign(found, size: size)
    case .damaged:
      recovery.headerWasDamaged = true
      header = Format.Header()
    }
    header.maximum = maximum
    if header.read < Format.headerSize || header.read > size { header.read = Format.headerSize }
    let leased = header.leased
    try scan(from: header.read, size: size)
    boundary = leased > 0 ? header.read + leased : 0
    header.leased = leased
    try finishRecovery()
  }

  /// Finds all whole records from `offset` on; what lies behind the last of them is cut off.
  private func scan(from offset: Int, size: Int) throws(AgentError) {
    var position = offset
    var end = offset
    while position < size {
      switch try record(at: position, size: size) {
      case .found(let range, _):
        recovery.records += 1
        liveBytes += range.count
        position = range.upperBound + Format.trailerSize
        end = position
      case .damaged:
        recovery.damaged += 1
        guard let resumed = try resynchronize(after: position, size: size) else {
          position = size
          break
        }
        position = resumed
      }
    }
    header.write = end
    if end < size { try file.truncate(to: end) }
  }

  private func finishRecovery() throws(AgentError) {
    recovery.liveBytes = liveBytes
    header.available = liveBytes
    cursor = header.read
    if recovery.records == 0 { return try reset() }
    try writeHeader()
  }

  private func reset() throws(AgentError) {
    let maximum = header.maximum
    header = Format.Header()
    header.maximum = maximum
    liveBytes = 0
    cursor = Format.headerSize
    cursorBytes = 0
    boundary = 0
    try file.truncate(to: 0)
    try writeHeader()
  }

  private enum Found {
    /// Range of the record's own bytes, and the bytes.
    case found(Range<Int>, [UInt8])
    case damaged
  }

  private func record(at offset: Int, size: Int) throws(AgentError) -> Found {
    let start = offset + Format.lengthSize
    guard start + Format.trailerSize <= size else { return .damaged }
    let word = try file.read(at: offset, count: Format.lengthSize)
    let length = Format.number(word)
    guard word.count == Format.lengthSize, length > 0, length <= UInt64(Format.longestRecord) else { return .damaged }
    let end = start + Int(length)
    guard end + Format.trailerSize <= size else { return .damaged }
    // The trailer first: it refuses most false starts without reading the record.
    let trailer = try file.read(at: end, count: Format.trailerSize)
    guard trailer.count == Format.trailerSize, Array(trailer.prefix(4)) == Format.trailerMark else { return .damaged }
    let bytes = try file.read(at: start, count: Int(length))
    let sum = CRC32C.checksum(bytes, seed: CRC32C.checksum(word))
    guard Format.number(trailer.suffix(4)) == UInt64(sum) else { return .damaged }
    return .found(start..<end, bytes)
  }

  /// The next offset behind damage at which a whole record begins.
  private func resynchronize(after offset: Int, size: Int) throws(AgentError) -> Int? {
    let window = 64 << 10
    var base = offset + 1
    while base + Format.lengthSize + Format.trailerSize < size {
      let bytes = try file.read(at: base, count: window + Format.lengthSize)
      guard bytes.count >= Format.lengthSize else { return nil }
      for index in 0...(bytes.count - Format.lengthSize) where index < window {
        // A length of at most 100 MiB has zeros in its upper half.
        guard bytes[index + 7] == 0, bytes[index + 6] == 0, bytes[index + 5] == 0, bytes[index + 4] == 0 else {
          continue
        }
        let length = Format.number(bytes[index..<index + Format.lengthSize])
        guard length > 0, length <= UInt64(Format.longestRecord) else { continue }
        if case .found = try record(at: base + index, size: size) { return base + index }
      }
      base += window
    }
    return nil
  }

  /// A file of Velociraptor's: its records are taken over once, in our form.
  private func importForeign(_ found: Format.Header, size: Int) throws(AgentError) {
    var records: [[UInt8]] = []
    var position = min(max(found.read, Format.headerSize), size)
    while position + Format.lengthSize <= size {
      let length = Format.number(try file.read(at: position, count: Format.lengthSize))
      let start = position + Format.lengthSize
      guard length > 0, length <= UInt64(Format.longestRecord), start + Int(length) <= size else { break }
      records.append(try file.read(at: start, count: Int(length)))
      position = start + Int(length)
    }
    try reset()
    for record in records { try append(record) }
    recovery = Recovery(
      records: records.count, liveBytes: liveBytes, damaged: 0, headerWasDamaged: false,
      importedFromVelociraptor: true)
  }

  // MARK: use

  private func writeHeader() throws(AgentError) {
    try file.write(Format.encode(header), at: 0)
  }

  func append(_ record: [UInt8]) throws(AgentError) {
    guard !record.isEmpty, record.count <= Format.longestRecord else {
      throw AgentError(.state, "a message of \(record.count) bytes does not fit into the queue")
    }
    let bytes = Format.encode(record: record)
    do {
      try file.write(bytes, at: header.write)
    } catch {
      // A half-written record must not lie before the next one.
      try? file.truncate(to: header.write)
      throw error
    }
    header.write += bytes.count
    liveBytes += record.count
    header.available = liveBytes - cursorBytes
    try writeHeader()
  }

  func next() throws(AgentError) -> [UInt8]? {
    while cursor < header.write {
      switch try record(at: cursor, size: header.write) {
      case .found(let range, let bytes):
        cursor = range.upperBound + Format.trailerSize
        cursorBytes += bytes.count
        return bytes
      case .damaged:
        recovery.damaged += 1
        cursor = try resynchronize(after: cursor, size: header.write) ?? header.write
      }
    }
    return nil
  }

  var isAtLeaseBoundary: Bool { boundary > 0 && cursor >= boundary }

  func rewind() {
    cursor = header.read
    cursorBytes = 0
  }

  func markLeased() throws(AgentError) {
    header.leased = cursor - header.read
    header.available = max(0, liveBytes - cursorBytes)
    try writeHeader()
  }

  func commit() throws(AgentError) {
    liveBytes = max(0, liveBytes - cursorBytes)
    cursorBytes = 0
    header.read = cursor
    header.leased = 0
    boundary = 0
    header.available = liveBytes
    if header.read >= header.write { return try reset() }
    if header.read - Format.headerSize > max(compactionThreshold, header.write - header.read) {
      return try compact()
    }
    try writeHeader()
  }

  func sync() throws(AgentError) { try file.sync() }

  func release() { lock.unlock() }

  /// Moves what is live to a new file. Costs no more than what was consumed since the last time.
  private func compact() throws(AgentError) {
    let temporary = file.path + ".new"
    unlink(temporary)
    let fresh = try FileDescriptor.open(temporary, flags: O_RDWR | O_CREAT | O_EXCL)
    var target = Format.headerSize
    var source = header.read
    while source < header.write {
      let bytes = try file.read(at: source, count: min(1 << 20, header.write - source))
      guard !bytes.isEmpty else { break }
      try fresh.write(bytes, at: target)
      target += bytes.count
      source += bytes.count
    }
    var moved = header
    moved.read = Format.headerSize
    moved.write = target
    try fresh.write(Format.encode(moved), at: 0)
    try fresh.sync()
    guard rename(temporary, file.path) == 0 else { throw FileDescriptor.failure("replace", file.path) }
    AtomicFile.syncDirectory(of: file.path)
    // The descriptor still carries the temporary name.
    file = try FileDescriptor.open(file.path, flags: O_RDWR)
    header = moved
    cursor = header.read
  }
}
