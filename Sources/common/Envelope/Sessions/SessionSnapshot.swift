import CLibCrypto
import PKI
import PublicIdentity
import Wire

/// The sessions of a worker that stops, sealed for the one that starts after it: with it a rolling restart costs no RSA.
///
/// | offset | size | content |
/// |---|---|---|
/// | 0 | 4 | `MRSS` |
/// | 4 | 1 | format version, 1 |
/// | 5 | 8 | start of the SHA-256 of the server's public key |
/// | 13 | 8 | seconds since 1970, little endian |
/// | 21 | 16 | salt |
/// | 37 | 12 | GCM nonce |
/// | 49 | – | AES-256-GCM of the entries, the bytes before it as associated data; the last 16 bytes are the tag |
package enum SessionSnapshot {
  /// Why a snapshot is not used. It never matters for correctness: without it sessions open by RSA.
  package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case notASnapshot
    case version(UInt8)
    case foreign
    case old
    case corrupt
    case libcrypto

    package var description: String {
      switch self {
      case .notASnapshot: "not a session snapshot"
      case .version(let version): "snapshot format \(version), this version reads 1"
      case .foreign: "the snapshot belongs to another server key"
      case .old: "the snapshot is too old"
      case .corrupt: "the snapshot is damaged or cut short"
      case .libcrypto: "libcrypto failed"
      }
    }
  }

  /// Seconds after which a snapshot is no longer used: agents have made new sessions by then.
  package static let lifetime: UInt64 = 86_400

  private static let magic = Array("MRSS".utf8)
  private static let headerSize = 49
  private static let tagSize = 16

  /// Seals all sessions of a cache.
  /// - Parameter now: seconds since 1970.
  package static func seal(_ cache: SessionCache, key: RSAPrivateKey, now: UInt64) throws(Failure) -> [UInt8] {
    var plain = WireWriter(capacity: cache.count * 1800)
    for (name, entry) in cache.oldestFirst {
      var item = WireWriter(capacity: 1800)
      item.field(1, name.description)
      item.field(2, bytes: entry.publicKey.pkcs1DER)
      if let inbound = entry.inbound { item.field(3, bytes: inbound.record()) }
      if let outbound = entry.outbound { item.field(4, bytes: outbound.record()) }
      plain.field(1, bytes: item.bytes)
    }
    var header = magic + [1] + keyID(key)
    for shift in 0..<8 { header.append(UInt8(truncatingIfNeeded: now >> (8 * UInt64(shift)))) }
    guard let random = try? SecureRandom.bytes(28) else { throw .libcrypto }
    header += random
    let secret = try derive(key, salt: Array(random[0..<16]))
    let sealed = try GCM.seal(plain.bytes, key: secret, nonce: Array(random[16..<28]), header: header)
    return header + sealed
  }

  /// Opens a snapshot into an empty cache of this capacity. Entries that do not parse are left out.
  package static func open(
    _ bytes: [UInt8], key: RSAPrivateKey, capacity: Int, now: UInt64
  ) throws(Failure) -> SessionCache {
    guard bytes.count >= headerSize + tagSize, Array(bytes[0..<4]) == magic else { throw .notASnapshot }
    guard bytes[4] == 1 else { throw .version(bytes[4]) }
    guard Array(bytes[5..<13]) == keyID(key) else { throw .foreign }
    let made = bytes[13..<21].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard made <= now + 300, now < made + lifetime else { throw .old }
    let secret = try derive(key, salt: Array(bytes[21..<37]))
    let plain = try GCM.open(
      Array(bytes[headerSize...]), key: secret, nonce: Array(bytes[37..<49]), header: Array(bytes[0..<headerSize]))
    return try read(plain, capacity: capacity)
  }

  /// Reads the entries of a snapshot that was opened. They are our own, but of another version perhaps.
  package static func read(_ plain: [UInt8], capacity: Int) throws(Failure) -> SessionCache {
    var cache = SessionCache(capacity: capacity)
    let items = plain.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in
        var items: [[UInt8]] = []
        var reader = WireReader(buffer)
        while let (number, value) = try reader.next() {
          if number == 1, case .bytes(let range) = value { items.append(Array(buffer[range])) }
        }
        return items
      }
    }
    guard case .success(let items) = items else { throw .corrupt }
    for item in items { restore(item, into: &cache) }
    return cache
  }

  private static func restore(_ item: [UInt8], into cache: inout SessionCache) {
    guard let fields = try? RecordFields(item), let name = ClientName(String(decoding: fields[1], as: UTF8.self)),
      let key = try? RSAPublicKey(pkcs1DER: fields[2]), key.clientID == name.id
    else { return }
    if !fields[3].isEmpty, let session = try? InboundSession(record: fields[3]) {
      cache.store(inbound: session, of: name, publicKey: key)
    }
    if !fields[4].isEmpty, let session = try? OutboundSession(record: fields[4]) {
      cache.store(outbound: session, of: name, publicKey: key)
    }
  }

  private static func keyID(_ key: RSAPrivateKey) -> [UInt8] {
    Array(Digest.sha256(key.publicKey.pkcs1DER).prefix(8))
  }

  /// HKDF-SHA-256 of the private key: who has the message key may read the sessions, nobody else.
  private static func derive(_ key: RSAPrivateKey, salt: [UInt8]) throws(Failure) -> [UInt8] {
    var secret = Array(key.pkcs1PEM.utf8)
    defer { cleanse(&secret) }
    guard let context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nil) else { throw .libcrypto }
    defer { EVP_PKEY_CTX_free(context) }
    let purpose = Array("microraptor session snapshot".utf8)
    guard EVP_PKEY_derive_init(context) == 1, EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) == 1,
      EVP_PKEY_CTX_set1_hkdf_salt(context, salt, Int32(salt.count)) == 1,
      EVP_PKEY_CTX_set1_hkdf_key(context, secret, Int32(secret.count)) == 1,
      EVP_PKEY_CTX_add1_hkdf_info(context, purpose, Int32(purpose.count)) == 1
    else { throw .libcrypto }
    var length = 32
    var status: Int32 = 0
    let result = [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
      status = EVP_PKEY_derive(context, buffer.baseAddress, &length)
      count = status == 1 ? length : 0
    }
    guard status == 1, result.count == 32 else { throw .libcrypto }
    return result
  }
}

/// AES-256-GCM.
private enum GCM {
  static func seal(
    _ plain: [UInt8], key: [UInt8], nonce: [UInt8], header: [UInt8]
  ) throws(SessionSnapshot.Failure) -> [UInt8] {
    guard let context = EVP_CIPHER_CTX_new(), plain.count < Int(Int32.max) else { throw .libcrypto }
    defer { EVP_CIPHER_CTX_free(context) }
    var length: Int32 = 0
    guard EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1,
      EVP_EncryptUpdate(context, nil, &length, header, Int32(header.count)) == 1
    else { throw .libcrypto }
    var ok = false
    var output = [UInt8](unsafeUninitializedCapacity: plain.count) { buffer, count in
      var last: Int32 = 0
      ok =
        EVP_EncryptUpdate(context, buffer.baseAddress, &length, plain, Int32(plain.count)) == 1
        && EVP_EncryptFinal_ex(context, buffer.baseAddress.map { $0 + Int(length) }, &last) == 1
      count = ok ? Int(length) + Int(last) : 0
    }
    var tag = [UInt8](repeating: 0, count: 16)
    guard ok, EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, &tag) == 1 else { throw .libcrypto }
    output += tag
    return output
  }

  static func open(
    _ sealed: [UInt8], key: [UInt8], nonce: [UInt8], header: [UInt8]
  ) throws(SessionSnapshot.Failure) -> [UInt8] {
    guard sealed.count >= 16, sealed.count < Int(Int32.max) else { throw .corrupt }
    guard let context = EVP_CIPHER_CTX_new() else { throw .libcrypto }
    defer { EVP_CIPHER_CTX_free(context) }
    var tag = Array(sealed.suffix(16))
    let size = sealed.count - 16
    var length: Int32 = 0
    guard EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1,
      EVP_DecryptUpdate(context, nil, &length, header, Int32(header.count)) == 1,
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, &tag) == 1
    else { throw .libcrypto }
    var ok = false
    let output = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      var last: Int32 = 0
      ok =
        EVP_DecryptUpdate(context, buffer.baseAddress, &length, sealed, Int32(size)) == 1
        && EVP_DecryptFinal_ex(context, buffer.baseAddress.map { $0 + Int(length) }, &last) == 1
      count = ok ? Int(length) + Int(last) : 0
    }
    ERR_clear_error()
    guard ok else { throw .corrupt }
    return output
  }
}

/// Length-delimited fields 1 to 7 of a small record; absent ones are empty.
struct RecordFields {
  private var values: [[UInt8]] = Array(repeating: [], count: 8)

  init(_ bytes: [UInt8]) throws(EnvelopeError) {
    let read = bytes.withUnsafeBytes { buffer in
      Result { () throws(WireReader.Malformed) in
        var values: [[UInt8]] = Array(repeating: [], count: 8)
        var reader = WireReader(buffer)
        while let (number, value) = try reader.next() {
          if number < 8, case .bytes(let range) = value { values[Int(number)] = Array(buffer[range]) }
        }
        return values
      }
    }
    guard case .success(let values) = read else { throw EnvelopeError(.innerMessage, "session record") }
    self.values = values
  }

  subscript(_ number: Int) -> [UInt8] { values.indices.contains(number) ? values[number] : [] }
}
