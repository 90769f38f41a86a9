import CLibCrypto
import PublicIdentity

/// Makes the agent's enrollment request: PKCS#10, subject `CN=<client id>` only, SHA256-RSA (crypto.md §3).
package enum CertificateRequestBuilder {
  /// - Parameter key: the client's key; its id becomes the common name.
  /// - Returns: PEM `CERTIFICATE REQUEST`.
  package static func pem(for key: RSAPrivateKey) throws(PKIError) -> String {
    try pem(for: key, commonName: key.publicKey.clientID.rawValue)
  }

  /// With any name, for tests of the server's checks.
  static func pem(for key: RSAPrivateKey, commonName: String) throws(PKIError) -> String {
    guard let request = X509_REQ_new(), let name = X509_NAME_new() else {
      throw PKIError(.libraryFailure, "out of memory")
    }
    defer {
      X509_REQ_free(request)
      X509_NAME_free(name)
    }
    guard CertificateTemplate.add("CN", commonName, to: name), X509_REQ_set_version(request, 0) == 1,
      X509_REQ_set_subject_name(request, name) == 1, X509_REQ_set_pubkey(request, key.handle) == 1,
      X509_REQ_sign(request, key.handle, EVP_sha256()) > 0
    else { throw PKIError(.libraryFailure, OpenSSLError("certificate request").description) }
    var output: UnsafeMutablePointer<UInt8>?
    let length = i2d_X509_REQ(request, &output)
    guard length > 0, let output else {
      throw PKIError(.libraryFailure, OpenSSLError("certificate request encoding").description)
    }
    defer { mr_OPENSSL_free(output) }
    return PEM.encode("CERTIFICATE REQUEST", Array(UnsafeBufferPointer(start: output, count: Int(length))))
  }
}
