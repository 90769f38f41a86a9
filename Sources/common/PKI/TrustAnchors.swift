import CLibCrypto
import FoundationEssentials
import Glibc
import PublicIdentity

/// The deployment's CA as the only root: no system roots, no intermediates.
///
/// Sendable although it holds an X509_STORE: the store is filled in `init` and only read afterwards, which libcrypto
/// does under its own lock.
package final class TrustAnchors: @unchecked Sendable {
  private let store: OpaquePointer

  /// - Parameter pem: one or more `CERTIFICATE` blocks, all trusted.
  /// - Throws: ``PKIError`` `.unableToParse`.
  package init(pem: String) throws(PKIError) {
    guard let store = X509_STORE_new() else { throw PKIError(.libraryFailure, "out of memory") }
    self.store = store
    let blocks = PEM.blocks("CERTIFICATE", in: pem)
    guard !blocks.isEmpty else { throw PKIError(.unableToParse, "the CA certificate: Unable to parse PEM") }
    for der in blocks {
      let certificate = try X509Handle(der: der)
      guard X509_STORE_add_cert(store, certificate.pointer) == 1 else {
        throw PKIError(.libraryFailure, OpenSSLError("CA certificate").description)
      }
    }
  }

  deinit { X509_STORE_free(store) }

  /// Whether the CA signed this certificate directly, it is valid at that time, and it may be a TLS server.
  ///
  /// This is rule (a) of http.md §8 for TLS leaves, and step 3 of the server.pem check of crypto.md §4. Names are not
  /// looked at. SHA-1 signatures and keys under 112 bits of strength are refused.
  ///
  /// - Throws: ``PKIError`` `.unableToParse` or `.notTrusted` with libcrypto's reason.
  package func verifyLeaf(_ der: [UInt8], at time: Date) throws(PKIError) {
    let certificate = try X509Handle(der: der)
    let result = mr_X509_verify_server(certificate.pointer, store, Int64(time.timeIntervalSince1970.rounded(.down)))
    ERR_clear_error()
    guard result == X509_V_OK else {
      let reason = X509_verify_cert_error_string(Int(result)).map { String(cString: $0) } ?? "error \(result)"
      throw PKIError(.notTrusted, reason)
    }
  }

  /// As ``verifyLeaf(_:at:)`` for a CA given as PEM text.
  package static func verifyLeaf(_ der: [UInt8], caPEM: String, at time: Date) throws(PKIError) {
    try TrustAnchors(pem: caPEM).verifyLeaf(der, at: time)
  }
}
