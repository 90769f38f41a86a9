import CLibCrypto
import PublicIdentity

/// An ECDSA P-256 key: the TLS leaf's. It can never open an envelope.
///
/// Sendable although it holds an EVP_PKEY: the key is never changed after `init`.
package final class ECPrivateKey: @unchecked Sendable {
  /// The EVP_PKEY, owned by this object.
  let handle: OpaquePointer

  private init(owning handle: OpaquePointer) {
    self.handle = handle
  }

  deinit { EVP_PKEY_free(handle) }

  /// A new P-256 key.
  package static func generate() throws(PKIError) -> ECPrivateKey {
    guard let key = mr_EVP_EC_gen("P-256") else {
      throw PKIError(.libraryFailure, OpenSSLError("P-256 key generation").description)
    }
    return ECPrivateKey(owning: key)
  }

  /// PEM `PRIVATE KEY` (PKCS#8).
  ///
  /// - Throws: ``PKIError`` when libcrypto is out of memory.
  package func pkcs8PEM() throws(PKIError) -> String {
    var der: UnsafeMutablePointer<UInt8>?
    let length = mr_EVP_PKEY_pkcs8(handle, &der)
    guard length > 0, let der else { throw PKIError(.libraryFailure, OpenSSLError("PKCS#8 encoding").description) }
    defer {
      OPENSSL_cleanse(der, Int(length))
      mr_OPENSSL_free(der)
    }
    return PEM.encode("PRIVATE KEY", Array(UnsafeBufferPointer(start: der, count: Int(length))))
  }
}
