/// Where the fields of a serialized ClientCommunication lie (wire.md §1), found without copying or decoding it.
///
/// The last value of a field wins; unknown fields, padding and known fields of another wire type (which protobuf takes for
/// unknown ones) are stepped over, in time linear in the body. This is
/// all that a frontend ever learns of a body: it needs no key, and `encryptedCipher` is what routing hashes.
package struct EnvelopeScan: Equatable, Sendable {
  package var encrypted: Range<Int> = 0..<0
  package var encryptedCipher: Range<Int> = 0..<0
  package var apiVersion: UInt32 = 0
  package var packetIV: Range<Int> = 0..<0
  package var encryptedCipherMetadata: Range<Int> = 0..<0
  package var fullHMAC: Range<Int> = 0..<0

  /// No session in the body: empty, or padding only (crypto.md §6 step 2).
  package var isEmpty: Bool { encryptedCipher.isEmpty }

  package init() {}

  /// - Throws: `WireReader.Malformed` when the bytes are not a protobuf message.
  package init(_ body: UnsafeRawBufferPointer) throws(WireReader.Malformed) {
    var reader = WireReader(body)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .bytes(let range)): encrypted = range
      case (2, .bytes(let range)): encryptedCipher = range
      case (6, .varint(let version)): apiVersion = UInt32(truncatingIfNeeded: version)
      case (8, .bytes(let range)): packetIV = range
      case (9, .bytes(let range)): encryptedCipherMetadata = range
      case (10, .bytes(let range)): fullHMAC = range
      default: break
      }
    }
  }

  package init(_ body: [UInt8]) throws(WireReader.Malformed) {
    let result = body.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in try EnvelopeScan(buffer) }
    }
    self = try result.get()
  }
}

/// Keep-alive filler: a ClientCommunication with `padding = [0]` (wire.md §1).
package let envelopePad: [UInt8] = [0x5a, 0x01, 0x00]
