/// One binary journal file of systemd, read entry by entry.
///
/// Files are hostile input: every offset is checked, every chain has a bound.
final class JournalFile {
  struct Entry {
    let number: Int64
    /// Microseconds since the epoch.
    let realtime: Int64
    let monotonic: Int64
    let boot: [UInt8]
    /// Names and values, in the order of the file.
    let fields: [(name: String, value: [UInt8])]
  }
  private static let maximumObject = 64 << 20
  private static let maximumFields = 1024

  private let source: ByteSource
  private let isCompact: Bool
  private var unpacker = JournalUnpacker()

  init(_ source: ByteSource) throws {
    self.source = source
    guard let head = try source.bytes(at: 0, count: 240), head.count >= 208, head.starts(with: "LPKSHHRH".utf8) else {
      throw CallError("not a journal file")
    }
    let incompatible = UInt32(truncatingIfNeeded: Self.number(head, 12, 4))
    guard incompatible & ~UInt32(31) == 0 else {
      throw CallError("the journal file uses features that are not known (\(incompatible))")
    }
    isCompact = incompatible & 16 != 0
  }

  static func number(_ bytes: [UInt8], _ place: Int, _ count: Int) -> Int64 {
    guard place >= 0, place + count <= bytes.count else { return 0 }
    var value: UInt64 = 0
    for offset in 0..<count { value |= UInt64(bytes[place + offset]) << UInt64(8 * offset) }
    return Int64(bitPattern: value)
  }

  private func object(_ offset: Int64, kind: UInt8) throws -> [UInt8] {
    guard offset > 0, let head = try source.bytes(at: offset, count: 16), head.count == 16, head[0] == kind else {
      throw CallError("damaged journal file at offset \(offset)")
    }
    let size = Self.number(head, 8, 8)
    guard size >= 16, size <= Int64(Self.maximumObject), let bytes = try source.bytes(at: offset, count: Int(size)),
      bytes.count == Int(size)
    else { throw CallError("damaged journal file at offset \(offset)") }
    return bytes
  }

  /// How many entries the header counts; the file may be growing.
  var entryCount: Int64 {
    guard let head = try? source.bytes(at: 152, count: 8) else { return 0 }
    return Self.number(head, 0, 8)
  }

  /// Calls the body with each entry from a number on (counted from 0), in order, until it answers false.
  ///
  /// - Returns: how many entries the file holds now.
  func read(from first: Int64, _ body: (Entry) -> Bool) throws -> Int64 {
    guard let head = try source.bytes(at: 176, count: 8), head.count == 8 else { return 0 }
    let total = entryCount
    var array = Self.number(head, 0, 8)
    var index: Int64 = 0
    let width = isCompact ? 4 : 8
    while array != 0, index < total {
      let bytes = try object(array, kind: 6)
      let capacity = Int64((bytes.count - 24) / width)
      for place in max(0, first - index)..<max(0, first - index, min(capacity, total - index)) {
        let offset = Self.number(bytes, 24 + Int(place) * width, width)
        guard offset != 0 else { return index + place }
        // A single damaged entry does not end the file.
        guard let entry = try? entry(offset) else { continue }
        guard body(entry) else { return index + place + 1 }
      }
      index += capacity
      let next = Self.number(bytes, 16, 8)
      // Arrays are only ever appended, so a chain that goes back is damaged.
      guard next == 0 || next > array else { throw CallError("damaged journal file at offset \(array)") }
      array = next
    }
    return total
  }

  private func entry(_ offset: Int64) throws -> Entry {
    let bytes = try object(offset, kind: 3)
    guard bytes.count >= 64 else { throw CallError("damaged journal entry") }
    let width = isCompact ? 4 : 16
    var fields: [(name: String, value: [UInt8])] = []
    for item in 0..<min((bytes.count - 64) / width, Self.maximumFields) {
      let data = Self.number(bytes, 64 + item * width, isCompact ? 4 : 8)
      guard let field = try? field(data) else { continue }
      fields.append(field)
    }
    return Entry(
      number: Self.number(bytes, 16, 8), realtime: Self.number(bytes, 24, 8), monotonic: Self.number(bytes, 32, 8),
      boot: Array(bytes[40..<56]), fields: fields)
  }

  private func field(_ offset: Int64) throws -> (name: String, value: [UInt8]) {
    let bytes = try object(offset, kind: 1)
    let start = isCompact ? 72 : 64
    guard bytes.count >= start else { throw CallError("damaged journal data") }
    let payload = try unpacker.unpack(Array(bytes[start...]), flags: bytes[1])
    guard let equals = payload.firstIndex(of: UInt8(ascii: "=")) else { throw CallError("damaged journal data") }
    return (String(decoding: payload[..<equals], as: UTF8.self), Array(payload[(equals + 1)...]))
  }
}
