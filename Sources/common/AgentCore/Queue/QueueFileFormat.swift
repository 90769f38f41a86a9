/// The layout of the queue file: Velociraptor's ring buffer header and length words (client.md §5), with a checksum
/// after each record and one in the header's spare bytes.
///
/// | Offset | Size | Content |
/// |---|---|---|
/// | 0 | 4 | magic `VRB^` |
/// | 4, 12 | 8, 8 | read pointer, write pointer |
/// | 20 | 8 | maximum size |
/// | 28, 36 | 8, 8 | available bytes, leased bytes |
/// | 44 | 2 | 0 in Velociraptor's files, `C1` in ours |
/// | 46 | 4 | CRC-32C of bytes 0 to 45 |
/// | 50 | - | records: 8-byte length, that many bytes, 4-byte mark, 4-byte CRC-32C of length word and bytes |
///
/// All integers are little endian.
enum QueueFileFormat {
  static let magic: [UInt8] = [0x56, 0x52, 0x42, 0x5E]
  static let version: [UInt8] = [0x43, 0x31]
  static let headerSize = 50
  static let lengthSize = 8
  static let trailerSize = 8
  static let trailerMark: [UInt8] = [0xA7, 0x52, 0x45, 0x43]
  /// As in the reference: longer records are taken for damage.
  static let longestRecord = 104_857_600

  struct Header: Equatable {
    var read = headerSize
    var write = headerSize
    var maximum = 0
    var available = 0
    var leased = 0
  }

  enum HeaderForm: Equatable {
    case ours(Header)
    /// Written by Velociraptor: its records have no checksums.
    case foreign(Header)
    case damaged
  }

  static func encode(_ header: Header) -> [UInt8] {
    var bytes = magic
    for value in [header.read, header.write, header.maximum, header.available, header.leased] {
      bytes += littleEndian(UInt64(max(0, value)), count: 8)
    }
    bytes += version
    bytes += littleEndian(UInt64(CRC32C.checksum(bytes)), count: 4)
    return bytes
  }

  static func decodeHeader(_ bytes: [UInt8]) -> HeaderForm {
    guard bytes.count == headerSize, Array(bytes.prefix(4)) == magic else { return .damaged }
    let numbers = stride(from: 4, to: 44, by: 8).map { number(bytes[$0..<$0 + 8]) }
    guard numbers.allSatisfy({ $0 <= UInt64(Int64.max) }) else { return .damaged }
    let values = numbers.map { Int($0) }
    let header = Header(
      read: values[0], write: values[1], maximum: values[2], available: values[3], leased: values[4])
    let spare = Array(bytes[44..<50])
    if spare.allSatisfy({ $0 == 0 }) { return .foreign(header) }
    guard Array(spare.prefix(2)) == version,
      number(spare[2..<6]) == UInt64(CRC32C.checksum(bytes.prefix(46)))
    else { return .damaged }
    return .ours(header)
  }

  static func encode(record: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(record.count + lengthSize + trailerSize)
    bytes += littleEndian(UInt64(record.count), count: lengthSize)
    bytes += record
    let sum = CRC32C.checksum(bytes)
    bytes += trailerMark
    bytes += littleEndian(UInt64(sum), count: 4)
    return bytes
  }

  static func littleEndian(_ value: UInt64, count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
  }

  /// At most eight bytes, little endian.
  static func number(_ bytes: some Collection<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
