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

  /// PEM `PRIVATE KEY` (PKCS#8) or `EC PRIVATE KEY`.
  ///
  /// - Throws: ``PKIError`` `.wrongKey` for anything else, RSA keys too.
  package convenience init(pem: String) throws(PKIError) {
    guard let der = PEM.firstBlock("PRIVATE KEY", in: pem) ?? PEM.firstBlock("EC PRIVATE KEY", in: pem) else {
      throw PKIError(.wrongKey, "expected a PEM block `PRIVATE KEY` or `EC PRIVATE KEY`")
    }
    let parsed: OpaquePointer? = der.withUnsafeBufferPointer { buffer in
      var start = buffer.baseAddress
      return d2i_AutoPrivateKey(nil, &start, buffer.count)
    }
    ERR_clear_error()
    guard let parsed else { throw PKIError(.wrongKey, "not a private key") }
    guard EVP_PKEY_get_base_id(parsed) == EVP_PKEY_EC else {
      EVP_PKEY_free(parsed)
      throw PKIError(.wrongKey, "not an EC key")
    }
    self.init(owning: parsed)
  }

  /// Whether the certificate is of this key.
  package func matches(_ certificate: Certificate) -> Bool {
    guard let x509 = try? X509Handle(der: certificate.der) else { return false }
    defer { ERR_clear_error() }
    return X509_check_private_key(x509.pointer, handle) == 1
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
