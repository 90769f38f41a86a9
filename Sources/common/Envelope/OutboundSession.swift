import PKI
import PublicIdentity
import Wire

/// A session of our own towards one peer: wrapped and signed once, then used for every body (crypto.md §5).
package final class OutboundSession: Sendable {
  /// Constant in the session.
  package let encryptedCipher: [UInt8]
  private let encryptedMetadata: [UInt8]
  private let cipher: SessionCipher
  private let properties: SessionProperties

  /// The version every current peer speaks; covered by the MAC.
  package static let apiVersion: UInt32 = 4

  /// Makes a session: one RSA signature and one RSA encryption.
  /// - Parameters:
  ///   - sender: our name, a client id without org suffix or the server's common name.
  ///   - key: our private key.
  ///   - receiver: the peer's public key.
  package init(sender: String, key: RSAPrivateKey, receiver: RSAPublicKey) throws(EnvelopeError) {
    let properties = try SessionProperties.random()
    var plain = properties.serialized()
    defer { cleanse(&plain) }
    let signature: [UInt8]
    do throws(OpenSSLError) {
      signature = try key.sign(plain)
      encryptedCipher = try receiver.encryptOAEP(plain)
    } catch {
      throw EnvelopeError(.libcrypto, error.description)
    }
    self.properties = properties
    let cipher = try SessionCipher(key: properties.key, hmacKey: properties.hmacKey)
    let metadata = SessionMetadata(source: sender, signature: signature)
    encryptedMetadata = try cipher.encrypt(metadata.serialized(), iv: properties.metadataIV)
    self.cipher = cipher
  }

  /// All that is needed to make the session again; secret.
  func record() -> [UInt8] {
    var writer = WireWriter(capacity: 700)
    writer.field(1, bytes: encryptedCipher)
    writer.field(2, bytes: encryptedMetadata)
    writer.field(3, bytes: properties.serialized())
    return writer.bytes
  }

  /// Makes a session again from its record.
  init(record: [UInt8]) throws(EnvelopeError) {
    let fields = try RecordFields(record)
    encryptedCipher = fields[1]
    encryptedMetadata = fields[2]
    properties = try SessionProperties.parse(fields[3])
    cipher = try SessionCipher(key: properties.key, hmacKey: properties.hmacKey)
  }

  /// Builds one body.
  /// - Parameter lists: the content; its timestamp is microseconds since 1970.
  package func seal(_ lists: PackedLists) throws(EnvelopeError) -> [UInt8] {
    let iv = try SecureRandom.bytes(SessionCipher.blockSize)
    let plain = lists.serialized()
    let (encrypted, mac) = try cipher.locked { (cipher) throws(EnvelopeError) in
      let encrypted = try cipher.encrypt(plain, iv: iv)
      return (encrypted, try authenticate(cipher, encrypted, iv))
    }
    var writer = WireWriter(capacity: encrypted.count + encryptedCipher.count + encryptedMetadata.count + 80)
    writer.field(1, bytes: encrypted)
    writer.field(2, bytes: encryptedCipher)
    writer.field(6, UInt64(Self.apiVersion))
    writer.field(8, bytes: iv)
    writer.field(9, bytes: encryptedMetadata)
    writer.field(10, bytes: mac)
    return writer.bytes
  }

  private func authenticate(
    _ cipher: SessionCipher, _ encrypted: [UInt8], _ iv: [UInt8]
  ) throws(EnvelopeError) -> [UInt8] {
    let mac = encrypted.withUnsafeBytes { first in
      encryptedCipher.withUnsafeBytes { second in
        encryptedMetadata.withUnsafeBytes { third in
          iv.withUnsafeBytes { fourth in
            Result { () throws(EnvelopeError) in
              try cipher.authenticate(first, second, third, fourth, version: Self.apiVersion)
            }
          }
        }
      }
    }
    return withUnsafeBytes(of: try mac.get()) { Array($0.prefix(SessionCipher.macSize)) }
  }
}
