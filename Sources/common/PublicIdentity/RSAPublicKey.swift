import CLibCrypto

/// An RSA public key: all that is needed to name a client, to check its signature and to wrap a session for it.
///
/// Sendable although it holds an EVP_PKEY: the key is never changed after `init`, and libcrypto's reference counts
/// and read-only use of an EVP_PKEY are safe across threads.
package final class RSAPublicKey: @unchecked Sendable, Equatable {
  /// Why a key was refused.
  package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case unableToParse
    case notRSA
    case tooSmall(bits: Int)
    case tooLarge(bits: Int)

    package var description: String {
      switch self {
      case .unableToParse: "Unable to parse PEM"
      case .notRSA: "Not RSA algorithm"
      case .tooSmall(let bits): "RSA key of \(bits) bits is too small, at least 2048 are needed"
      case .tooLarge(let bits): "RSA key of \(bits) bits is too large, at most 8192 are accepted"
      }
    }
  }

  /// The EVP_PKEY, owned by this object.
  package let handle: OpaquePointer
  /// Big endian, without leading zero bytes.
  package let modulus: [UInt8]
  package let bits: Int

  /// Takes ownership of `handle`; checks that it is an RSA key of an accepted size.
  package init(owning handle: OpaquePointer) throws(Failure) {
    self.handle = handle
    let bits = Int(EVP_PKEY_get_bits(handle))
    self.bits = bits
    guard EVP_PKEY_get_base_id(handle) == EVP_PKEY_RSA else {
      modulus = []
      throw .notRSA
    }
    var number: OpaquePointer?
    guard EVP_PKEY_get_bn_param(handle, OSSL_PKEY_PARAM_RSA_N, &number) == 1, let number else {
      modulus = []
      throw .unableToParse
    }
    defer { BN_free(number) }
    modulus = [UInt8](unsafeUninitializedCapacity: (Int(BN_num_bits(number)) + 7) / 8) { buffer, count in
      count = max(0, Int(BN_bn2bin(number, buffer.baseAddress)))
    }
    if bits < 2048 { throw .tooSmall(bits: bits) }
    if bits > 8192 { throw .tooLarge(bits: bits) }
  }

  deinit { EVP_PKEY_free(handle) }

  /// The stored form of client keys: PEM `RSA PUBLIC KEY` (PKCS#1); `PUBLIC KEY` (SPKI) is accepted too.
  package convenience init(pem: String) throws(Failure) {
    if let der = PEM.firstBlock("RSA PUBLIC KEY", in: pem) {
      try self.init(pkcs1DER: der)
    } else if let der = PEM.firstBlock("PUBLIC KEY", in: pem) {
      guard let key = Self.parse(der, d2i_PUBKEY) else { throw .unableToParse }
      try self.init(owning: key)
    } else {
      throw .unableToParse
    }
  }

  /// PKCS#1 RSAPublicKey.
  package convenience init(pkcs1DER der: [UInt8]) throws(Failure) {
    let key = Self.parse(der) { d2i_PublicKey(EVP_PKEY_RSA, $0, $1, $2) }
    guard let key else { throw .unableToParse }
    try self.init(owning: key)
  }

  private static func parse(
    _ der: [UInt8],
    _ decode: (
      UnsafeMutablePointer<OpaquePointer?>?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?, Int
    ) -> OpaquePointer?
  ) -> OpaquePointer? {
    der.withUnsafeBufferPointer { buffer in
      guard var start = buffer.baseAddress.map({ Optional($0) }) else { return nil }
      let key = decode(nil, &start, buffer.count)
      ERR_clear_error()
      // Trailing bytes mean that this is not the encoding of one key.
      guard let key else { return nil }
      if start != buffer.baseAddress.map({ $0 + buffer.count }) {
        EVP_PKEY_free(key)
        return nil
      }
      return key
    }
  }

  package var clientID: ClientID { ClientID(modulus: modulus) }

  /// PKCS#1 RSAPublicKey, DER. Empty only when libcrypto is out of memory.
  package var pkcs1DER: [UInt8] {
    var output: UnsafeMutablePointer<UInt8>?
    let length = i2d_PublicKey(handle, &output)
    guard length > 0, let output else { return [] }
    defer { mr_OPENSSL_free(output) }
    return Array(UnsafeBufferPointer(start: output, count: Int(length)))
  }

  /// PEM `RSA PUBLIC KEY`.
  package var pkcs1PEM: String { PEM.encode("RSA PUBLIC KEY", pkcs1DER) }

  package static func == (left: RSAPublicKey, right: RSAPublicKey) -> Bool {
    EVP_PKEY_eq(left.handle, right.handle) == 1
  }

  /// RSASSA-PKCS1-v1_5 with SHA-256 (crypto.md §1).
  package func verify(signature: [UInt8], of message: [UInt8]) -> Bool {
    guard signature.count == (bits + 7) / 8 else { return false }
    guard let context = EVP_PKEY_CTX_new(handle, nil) else { return false }
    defer { EVP_PKEY_CTX_free(context) }
    guard EVP_PKEY_verify_init(context) == 1, mr_rsa_use_pkcs1_sha256(context) == 1 else { return false }
    let digest = Digest.sha256(message)
    guard digest.count == 32 else { return false }
    let result = EVP_PKEY_verify(context, signature, signature.count, digest, digest.count)
    ERR_clear_error()
    return result == 1
  }

  /// RSA-OAEP with SHA-1, MGF1-SHA-1 and an empty label (crypto.md §1).
  /// - Parameter message: at most `bits/8 - 42` bytes.
  package func encryptOAEP(_ message: [UInt8]) throws(OpenSSLError) -> [UInt8] {
    guard let context = EVP_PKEY_CTX_new(handle, nil) else { throw OpenSSLError("RSA context") }
    defer { EVP_PKEY_CTX_free(context) }
    guard EVP_PKEY_encrypt_init(context) == 1, mr_rsa_use_oaep_sha1(context) == 1 else {
      throw OpenSSLError("RSA-OAEP set-up")
    }
    var length = Int(EVP_PKEY_get_size(handle))
    var status: Int32 = 0
    let output = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
      status = EVP_PKEY_encrypt(context, buffer.baseAddress, &length, message, message.count)
      count = status == 1 ? length : 0
    }
    guard status == 1 else { throw OpenSSLError("RSA-OAEP encryption") }
    return output
  }
}
