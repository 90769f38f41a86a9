import CLibCrypto
import PublicIdentity

/// An RSA private key: a client's own, the server's message key, or the CA's.
///
/// Sendable although it holds an EVP_PKEY: the key is never changed after `init`, and each operation makes its own
/// context, so concurrent use is safe in libcrypto.
package final class RSAPrivateKey: @unchecked Sendable {
  package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case noKey
    case encrypted
    case notRSA
    case refused(RSAPublicKey.Failure)
    case generation(String)

    package var description: String {
      switch self {
      case .noKey:
        "failed to parse PEM block containing the key: expected `RSA PRIVATE KEY` (PKCS#1) or `PRIVATE KEY` (PKCS#8)"
      case .encrypted: "the private key is encrypted; store it without a passphrase in a file of mode 0600"
      case .notRSA: "Not RSA algorithm"
      case .refused(let reason): "private key refused: \(reason)"
      case .generation(let reason): "no key could be made: \(reason)"
      }
    }
  }

  /// The EVP_PKEY, owned by `publicKey`, which shares it.
  package var handle: OpaquePointer { publicKey.handle }
  package let publicKey: RSAPublicKey
  private let signers: RSAContexts
  private let decryptors: RSAContexts

  private init(owning key: OpaquePointer) throws(Failure) {
    do throws(RSAPublicKey.Failure) {
      publicKey = try RSAPublicKey(owning: key)
    } catch {
      throw error == .notRSA ? .notRSA : .refused(error)
    }
    signers = RSAContexts(key) { EVP_PKEY_sign_init($0) == 1 && mr_rsa_use_pkcs1_sha256($0) == 1 }
    decryptors = RSAContexts(key) { EVP_PKEY_decrypt_init($0) == 1 && mr_rsa_use_oaep_sha1($0) == 1 }
  }

  /// A new key with e = 65537.
  package static func generate(bits: Int = 2048) throws(Failure) -> RSAPrivateKey {
    guard (2048...8192).contains(bits), let key = mr_EVP_RSA_gen(UInt32(bits)) else {
      throw .generation(OpenSSLError("RSA key generation of \(bits) bits").description)
    }
    return try RSAPrivateKey(owning: key)
  }

  /// PEM `RSA PRIVATE KEY` (PKCS#1) as the protocol stores it, or `PRIVATE KEY` (PKCS#8); other blocks are skipped.
  package convenience init(pem: String) throws(Failure) {
    guard let der = PEM.firstBlock("RSA PRIVATE KEY", in: pem) ?? PEM.firstBlock("PRIVATE KEY", in: pem) else {
      let encrypted = pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED")
      throw encrypted ? .encrypted : .noKey
    }
    let parsed: OpaquePointer? = der.withUnsafeBufferPointer { buffer in
      var start = buffer.baseAddress
      return d2i_AutoPrivateKey(nil, &start, buffer.count)
    }
    ERR_clear_error()
    guard let key = parsed else { throw .noKey }
    try self.init(owning: key)
  }

  /// PKCS#1 RSAPrivateKey, PEM. Empty body only when libcrypto is out of memory.
  package var pkcs1PEM: String {
    var output: UnsafeMutablePointer<UInt8>?
    let length = i2d_PrivateKey(handle, &output)
    guard length > 0, let output else { return "" }
    defer {
      OPENSSL_cleanse(output, Int(length))
      mr_OPENSSL_free(output)
    }
    return PEM.encode("RSA PRIVATE KEY", Array(UnsafeBufferPointer(start: output, count: Int(length))))
  }

  /// RSASSA-PKCS1-v1_5 with SHA-256 (crypto.md §1).
  package func sign(_ message: [UInt8]) throws(OpenSSLError) -> [UInt8] {
    guard let context = signers.take() else { throw OpenSSLError("RSA signature set-up") }
    defer { signers.put(context) }
    let digest = Digest.sha256(message)
    return try run("RSA signature") { output, length in
      EVP_PKEY_sign(context, output, length, digest, digest.count)
    }
  }

  /// RSA-OAEP with SHA-1 (crypto.md §1). Every failure is the same error: the peer must not learn which check failed.
  package func decryptOAEP(_ message: UnsafeBufferPointer<UInt8>) throws(OpenSSLError) -> [UInt8] {
    guard let context = decryptors.take() else { throw OpenSSLError("RSA-OAEP set-up") }
    defer { decryptors.put(context) }
    return try run("RSA decryption error") { output, length in
      EVP_PKEY_decrypt(context, output, length, message.baseAddress, message.count)
    }
  }

  private func run(
    _ step: String, _ operation: (UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<Int>) -> Int32
  ) throws(OpenSSLError) -> [UInt8] {
    var length = Int(EVP_PKEY_get_size(handle))
    var status: Int32 = 0
    let output = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
      status = operation(buffer.baseAddress, &length)
      count = status == 1 ? length : 0
    }
    guard status == 1 else { throw OpenSSLError(step) }
    return output
  }
}
