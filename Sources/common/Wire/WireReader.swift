/// A bounds-checked reader of protobuf fields in a contiguous buffer: the few fields of the envelope are read with
/// it instead of a general decoder, so that the process that holds the server key parses as little as possible.
package struct WireReader {
  /// The value of one field.
  package enum Value {
    case varint(UInt64)
    case bytes(Range<Int>)
    case fixed32(UInt32)
    case fixed64(UInt64)
  }

  /// A message that breaks the wire format.
  package struct Malformed: Error, Equatable, Sendable {
    package init() {}
  }

  private let base: UnsafeRawBufferPointer
  private var offset: Int
  private let end: Int

  package init(_ base: UnsafeRawBufferPointer) {
    self.base = base
    self.offset = 0
    self.end = base.count
  }

  /// Reads only `range` of `base`; offsets in the results stay relative to `base`.
  package init(_ base: UnsafeRawBufferPointer, range: Range<Int>) {
    self.base = base
    self.offset = min(max(0, range.lowerBound), base.count)
    self.end = min(max(0, range.upperBound), base.count)
  }

  /// The next field, or nil at the end.
  package mutating func next() throws(Malformed) -> (number: UInt64, value: Value)? {
    guard offset < end else { return nil }
    let tag = try varint()
    let number = tag >> 3
    guard number > 0, number < 1 << 29 else { throw Malformed() }
    switch tag & 7 {
    case 0: return (number, .varint(try varint()))
    case 1: return (number, .fixed64(try fixed(8)))
    case 2:
      let length = try varint()
      guard length <= UInt64(end - offset) else { throw Malformed() }
      let start = offset
      offset += Int(length)
      return (number, .bytes(start..<offset))
    case 3:
      // A group: nothing on this wire uses one, but a parser must be able to step over it.
      try skipGroup(number)
      return (number, .bytes(offset..<offset))
    case 5: return (number, .fixed32(UInt32(truncatingIfNeeded: try fixed(4))))
    default: throw Malformed()
    }
  }

  private mutating func varint() throws(Malformed) -> UInt64 {
    var result: UInt64 = 0
    var shift: UInt64 = 0
    while offset < end {
      let byte = base[offset]
      offset += 1
      if shift == 63, byte > 1 { throw Malformed() }
      result |= UInt64(byte & 0x7f) << shift
      if byte & 0x80 == 0 { return result }
      shift += 7
      if shift > 63 { throw Malformed() }
    }
    throw Malformed()
  }

  private mutating func fixed(_ width: Int) throws(Malformed) -> UInt64 {
    guard end - offset >= width else { throw Malformed() }
    var result: UInt64 = 0
    for index in 0..<width { result |= UInt64(base[offset + index]) << UInt64(8 * index) }
    offset += width
    return result
  }

  private mutating func skipGroup(_ number: UInt64) throws(Malformed) {
    var open = [number]
    while let current = open.last {
      guard offset < end else { throw Malformed() }
      let tag = try varint()
      let field = tag >> 3
      guard field > 0, field < 1 << 29 else { throw Malformed() }
      switch tag & 7 {
      case 0: _ = try varint()
      case 1: _ = try fixed(8)
      case 2:
        let length = try varint()
        guard length <= UInt64(end - offset) else { throw Malformed() }
        offset += Int(length)
      case 3:
        guard open.count < 64 else { throw Malformed() }
        open.append(field)
      case 4:
        guard field == current else { throw Malformed() }
        open.removeLast()
      case 5: _ = try fixed(4)
      default: throw Malformed()
      }
    }
  }
}

/// Writes protobuf fields in the order of the calls.
package struct WireWriter {
  package private(set) var bytes: [UInt8] = []

  package init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  package mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  /// The bytes of a number, little endian, without a tag.
  package mutating func raw(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  /// A varint field; zero is left out, as proto3 does.
  package mutating func field(_ number: UInt64, _ value: UInt64) {
    guard value != 0 else { return }
    varint(number << 3)
    varint(value)
  }

  /// A length-delimited field; empty is left out unless it `counts`.
  package mutating func field(_ number: UInt64, bytes value: some Collection<UInt8>, counts: Bool = false) {
    guard counts || !value.isEmpty else { return }
    varint(number << 3 | 2)
    varint(UInt64(value.count))
    bytes.append(contentsOf: value)
  }

  package mutating func field(_ number: UInt64, _ value: String) {
    field(number, bytes: value.utf8)
  }
}
