import Wire

/// A decrypted PackedMessageList (wire.md §1): the lists are still compressed, and unread.
package struct PackedLists: Sendable, Equatable {
  /// Serialized MessageLists, each compressed on its own when `compressed`.
  package var lists: [[UInt8]]
  package var compressed: Bool
  /// The sender's clock, microseconds since 1970; never to be trusted.
  package var timestamp: UInt64
  package var nonce: String

  package init(lists: [[UInt8]], compressed: Bool, timestamp: UInt64, nonce: String) {
    self.lists = lists
    self.compressed = compressed
    self.timestamp = timestamp
    self.nonce = nonce
  }

  /// Reads the plain text of `encrypted`.
  init(parsing plain: [UInt8]) throws(EnvelopeError) {
    self.init(lists: [], compressed: false, timestamp: 0, nonce: "")
    let parsed = plain.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in try Self.parse(buffer) }
    }
    guard case .success(let value) = parsed else { throw EnvelopeError(.innerMessage, "packed message list") }
    self = value
  }

  private static func parse(_ buffer: UnsafeRawBufferPointer) throws(WireReader.Malformed) -> PackedLists {
    var result = PackedLists(lists: [], compressed: false, timestamp: 0, nonce: "")
    var reader = WireReader(buffer)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .bytes(let range)): result.lists.append(Array(buffer[range]))
      case (4, .varint(let compression)): result.compressed = compression == 1
      case (6, .varint(let timestamp)): result.timestamp = timestamp
      case (7, .bytes(let range)): result.nonce = String(decoding: buffer[range], as: UTF8.self)
      case (1, _), (4, _), (6, _), (7, _): throw WireReader.Malformed()
      default: break
      }
    }
    return result
  }

  /// The serialized form, fields in order of their numbers.
  func serialized() -> [UInt8] {
    var writer = WireWriter(capacity: lists.reduce(64) { $0 + $1.count + 8 })
    // An empty list counts: it is the acknowledgement (http.md §4 step 11).
    for list in lists { writer.field(1, bytes: list, counts: true) }
    writer.field(4, compressed ? 1 : 0)
    writer.field(6, timestamp)
    writer.field(7, nonce)
    return writer.bytes
  }
}
