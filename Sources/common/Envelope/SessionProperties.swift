import CLibCrypto
import Wire

/// CipherProperties: the secrets of a session, as they travel inside the RSA wrapping (wire.md §1).
///
/// A class so that the secrets are overwritten once, when the last user lets go.
final class SessionProperties: Sendable {
  static let cipherName = "aes_128_cbc"

  let key: [UInt8]
  let metadataIV: [UInt8]
  let hmacKey: [UInt8]

  init(key: [UInt8], metadataIV: [UInt8], hmacKey: [UInt8]) {
    self.key = key
    self.metadataIV = metadataIV
    self.hmacKey = hmacKey
  }

  deinit {
    // The arrays are never shared outside this module, so this object owns the only copies.
    for secret in [key, metadataIV, hmacKey] {
      secret.withUnsafeBytes { buffer in
        if let base = buffer.baseAddress {
          OPENSSL_cleanse(UnsafeMutableRawPointer(mutating: base), buffer.count)
        }
      }
    }
  }

  /// Fresh random secrets.
  static func random() throws(EnvelopeError) -> SessionProperties {
    SessionProperties(
      key: try SecureRandom.bytes(16), metadataIV: try SecureRandom.bytes(16), hmacKey: try SecureRandom.bytes(16))
  }

  func serialized() -> [UInt8] {
    var writer = WireWriter(capacity: 80)
    writer.field(1, Self.cipherName)
    writer.field(2, bytes: key)
    writer.field(3, bytes: metadataIV)
    writer.field(5, bytes: hmacKey)
    writer.field(6, 1)
    return writer.bytes
  }

  /// Reads decrypted properties; only the one form that every current peer sends is accepted (crypto.md §5).
  static func parse(_ plain: [UInt8]) throws(EnvelopeError) -> SessionProperties {
    let parsed = plain.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in try read(buffer) }
    }
    guard case .success(let fields) = parsed else { throw EnvelopeError(.innerMessage, "session properties") }
    guard fields.name == cipherName, fields.hmacType == 1, fields.key.count == 16, fields.metadataIV.count == 16,
      fields.hmacKey.count == 16
    else { throw EnvelopeError(.cipherProperties) }
    return SessionProperties(key: fields.key, metadataIV: fields.metadataIV, hmacKey: fields.hmacKey)
  }

  private struct Fields {
    var name = ""
    var key: [UInt8] = []
    var metadataIV: [UInt8] = []
    var hmacKey: [UInt8] = []
    var hmacType: UInt64 = 0
  }

  private static func read(_ buffer: UnsafeRawBufferPointer) throws(WireReader.Malformed) -> Fields {
    var fields = Fields()
    var reader = WireReader(buffer)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .bytes(let range)): fields.name = String(decoding: buffer[range], as: UTF8.self)
      case (2, .bytes(let range)): fields.key = Array(buffer[range])
      case (3, .bytes(let range)): fields.metadataIV = Array(buffer[range])
      case (5, .bytes(let range)): fields.hmacKey = Array(buffer[range])
      case (6, .varint(let type)): fields.hmacType = type
      case (1, _), (2, _), (3, _), (5, _), (6, _): throw WireReader.Malformed()
      default: break
      }
    }
    return fields
  }
}

/// CipherMetadata: who made the session, and its proof (wire.md §1).
struct SessionMetadata {
  var source: String
  var signature: [UInt8]

  init(source: String, signature: [UInt8]) {
    self.source = source
    self.signature = signature
  }

  init(parsing plain: [UInt8]) throws(EnvelopeError) {
    self.init(source: "", signature: [])
    let parsed = plain.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in
        var result = SessionMetadata(source: "", signature: [])
        var reader = WireReader(buffer)
        while let (number, value) = try reader.next() {
          switch (number, value) {
          case (1, .bytes(let range)): result.source = String(decoding: buffer[range], as: UTF8.self)
          case (2, .bytes(let range)): result.signature = Array(buffer[range])
          case (1, _), (2, _): throw WireReader.Malformed()
          default: break
          }
        }
        return result
      }
    }
    guard case .success(let value) = parsed else { throw EnvelopeError(.innerMessage, "session metadata") }
    self = value
  }

  func serialized() -> [UInt8] {
    var writer = WireWriter(capacity: source.utf8.count + signature.count + 8)
    writer.field(1, source)
    writer.field(2, bytes: signature)
    return writer.bytes
  }
}
