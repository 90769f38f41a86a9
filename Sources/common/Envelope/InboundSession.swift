import CLibCrypto
import PKI
import PublicIdentity
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// A peer's session after its RSA wrapping was opened once: opens every further body of it without RSA
/// (crypto.md §6 step 3). It is *unauthenticated* until `verify` succeeded with the sender's key.
package final class InboundSession: Sendable {
  /// The sender's name as its metadata gives it.
  package let source: String
  /// The exact bytes of `encrypted_cipher`: the key under which a session is cached.
  package let encryptedCipher: [UInt8]
  /// The plain CipherProperties as decrypted (never re-encoded), which the signature covers.
  private let signedDigestInput: SessionPlain
  private let signature: [UInt8]
  private let cipher: SessionCipher

  private init(
    source: String, encryptedCipher: [UInt8], plain: SessionPlain, signature: [UInt8],
    cipher: SessionCipher
  ) {
    self.source = source
    self.encryptedCipher = encryptedCipher
    self.signedDigestInput = plain
    self.signature = signature
    self.cipher = cipher
  }

  /// Whether these are exactly the session's bytes.
  func hasCipher(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count == encryptedCipher.count, let base = bytes.baseAddress else { return false }
    return encryptedCipher.withUnsafeBytes { own in own.baseAddress.map { memcmp($0, base, bytes.count) == 0 } ?? false
    }
  }

  /// Checks the sender's signature of the session (crypto.md §6 step 10).
  package func verify(with key: RSAPublicKey) -> Bool {
    key.verify(signature: signature, of: signedDigestInput.bytes)
  }

  /// Opens a body of this session: MAC first, then the content. The metadata is not opened again: the MAC covers it.
  package func open(_ body: UnsafeRawBufferPointer, _ scan: EnvelopeScan) throws(EnvelopeError) -> PackedLists {
    try Self.checkShape(scan)
    return try cipher.locked { (cipher) throws(EnvelopeError) in
      try Self.checkMAC(cipher, body, scan)
      return try Self.content(cipher, body, scan)
    }
  }

  /// Opens the first body of a session with the receiver's key (crypto.md §6 steps 5 to 8).
  package static func unwrap(
    _ body: UnsafeRawBufferPointer, _ scan: EnvelopeScan, with key: RSAPrivateKey
  ) throws(EnvelopeError) -> (session: InboundSession, lists: PackedLists) {
    // The shape is free to check and refuses most garbage before any RSA work.
    try checkShape(scan)
    guard !scan.encryptedCipherMetadata.isEmpty,
      scan.encryptedCipherMetadata.count % SessionCipher.blockSize == 0
    else { throw EnvelopeError(.cipherText) }
    let wrapped = UnsafeRawBufferPointer(rebasing: body[scan.encryptedCipher])
    let plain = SessionPlain(try decryptProperties(wrapped, key))
    let properties = try SessionProperties.parse(plain.bytes)
    let cipher = try SessionCipher(key: properties.key, hmacKey: properties.hmacKey)
    try checkMAC(cipher, body, scan)
    let metadataText = try properties.metadataIV.withUnsafeBytes { iv in
      Result { () throws(EnvelopeError) in
        try cipher.decrypt(UnsafeRawBufferPointer(rebasing: body[scan.encryptedCipherMetadata]), iv: iv)
      }
    }.get()
    let metadata = try SessionMetadata(parsing: metadataText)
    let lists = try content(cipher, body, scan)
    let session = InboundSession(
      source: metadata.source, encryptedCipher: Array(wrapped), plain: plain, signature: metadata.signature,
      cipher: cipher)
    return (session, lists)
  }

  /// All that is needed to make the session again; secret.
  func record() -> [UInt8] {
    var writer = WireWriter(capacity: 700)
    writer.field(1, source)
    writer.field(2, bytes: encryptedCipher)
    writer.field(3, bytes: signedDigestInput.bytes)
    writer.field(4, bytes: signature)
    return writer.bytes
  }

  /// Makes a session again from its record.
  init(record: [UInt8]) throws(EnvelopeError) {
    let fields = try RecordFields(record)
    let plain = SessionPlain(fields[3])
    let properties = try SessionProperties.parse(plain.bytes)
    source = String(decoding: fields[1], as: UTF8.self)
    encryptedCipher = fields[2]
    signedDigestInput = plain
    signature = fields[4]
    cipher = try SessionCipher(key: properties.key, hmacKey: properties.hmacKey)
  }

  private static func decryptProperties(
    _ wrapped: UnsafeRawBufferPointer, _ key: RSAPrivateKey
  ) throws(EnvelopeError) -> [UInt8] {
    guard wrapped.count == (key.publicKey.bits + 7) / 8 else { throw EnvelopeError(.decryption) }
    do throws(OpenSSLError) {
      return try key.decryptOAEP(wrapped.bindMemory(to: UInt8.self))
    } catch {
      throw EnvelopeError(.decryption)
    }
  }

  private static func checkShape(_ scan: EnvelopeScan) throws(EnvelopeError) {
    guard !scan.isEmpty else { throw EnvelopeError(.noSession) }
    guard scan.fullHMAC.count == SessionCipher.macSize else { throw EnvelopeError(.hmac) }
    guard scan.packetIV.count == SessionCipher.blockSize, !scan.encrypted.isEmpty,
      scan.encrypted.count % SessionCipher.blockSize == 0
    else { throw EnvelopeError(.cipherText) }
  }

  private static func checkMAC(
    _ cipher: SessionCipher, _ body: UnsafeRawBufferPointer, _ scan: EnvelopeScan
  ) throws(EnvelopeError) {
    func piece(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: body[range]) }
    let expected = try cipher.authenticate(
      piece(scan.encrypted), piece(scan.encryptedCipher), piece(scan.encryptedCipherMetadata), piece(scan.packetIV),
      version: scan.apiVersion)
    let sent = piece(scan.fullHMAC)
    let isRight = withUnsafeBytes(of: expected) { expected in
      sent.count == SessionCipher.macSize
        && CRYPTO_memcmp(expected.baseAddress, sent.baseAddress, SessionCipher.macSize) == 0
    }
    guard isRight else { throw EnvelopeError(.hmac) }
  }

  private static func content(
    _ cipher: SessionCipher, _ body: UnsafeRawBufferPointer, _ scan: EnvelopeScan
  ) throws(EnvelopeError) -> PackedLists {
    let plain = try cipher.decrypt(
      UnsafeRawBufferPointer(rebasing: body[scan.encrypted]),
      iv: UnsafeRawBufferPointer(rebasing: body[scan.packetIV]))
    return try PackedLists(parsing: plain)
  }
}

/// The decrypted session properties, overwritten when the session goes.
private final class SessionPlain: Sendable {
  let bytes: [UInt8]
  init(_ bytes: [UInt8]) { self.bytes = bytes }
  deinit {
    bytes.withUnsafeBytes { buffer in
      if let base = buffer.baseAddress { OPENSSL_cleanse(UnsafeMutableRawPointer(mutating: base), buffer.count) }
    }
  }
}
