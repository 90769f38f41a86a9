import CLibCrypto

/// A client's enrollment request (PKCS#10), checked as crypto.md §3 says.
///
/// Stricter than the reference in one point: the request's own signature must verify, which every client's does and
/// which proves that the sender holds the key it asks to register.
package struct CertificateRequest: Sendable {
  package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case unableToParsePEM
    case unableToParseASN1
    case notRSA
    case keyRefused(RSAPublicKey.Failure)
    case invalidCSR
    case badSignature

    package var description: String {
      switch self {
      case .unableToParsePEM: "Unable to parse PEM"
      case .unableToParseASN1: "CSR is not valid ASN.1"
      case .notRSA: "Not RSA algorithm"
      case .keyRefused(let reason): "CSR key refused: \(reason)"
      case .invalidCSR: "Invalid CSR: the common name is not the id of the key"
      case .badSignature: "Invalid CSR: its signature does not verify"
      }
    }
  }

  package let publicKey: RSAPublicKey
  package let clientID: ClientID

  /// - Parameter pem: the `pem` bytes of the Certificate message.
  package init(pem: [UInt8]) throws(Failure) {
    guard pem.count <= 65_536, let der = PEM.firstBlock("CERTIFICATE REQUEST", in: String(decoding: pem, as: UTF8.self))
    else { throw .unableToParsePEM }
    let parsed: OpaquePointer? = der.withUnsafeBufferPointer { buffer in
      var start = buffer.baseAddress
      return d2i_X509_REQ(nil, &start, buffer.count)
    }
    ERR_clear_error()
    guard let request = parsed else { throw .unableToParseASN1 }
    defer { X509_REQ_free(request) }
    guard let key = X509_REQ_get_pubkey(request) else {
      ERR_clear_error()
      throw .notRSA
    }
    let publicKey: RSAPublicKey
    do throws(RSAPublicKey.Failure) {
      publicKey = try RSAPublicKey(owning: key)
    } catch {
      if error == .notRSA { throw .notRSA }
      throw .keyRefused(error)
    }
    guard let name = Self.commonName(request), name == publicKey.clientID.rawValue,
      let clientID = ClientID(name)
    else { throw .invalidCSR }
    let verified = X509_REQ_verify(request, publicKey.handle)
    ERR_clear_error()
    guard verified == 1 else { throw .badSignature }
    self.publicKey = publicKey
    self.clientID = clientID
  }

  private static func commonName(_ request: OpaquePointer) -> String? {
    guard let subject = X509_REQ_get_subject_name(request) else { return nil }
    let index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    guard index >= 0, let entry = X509_NAME_get_entry(subject, index),
      let value = X509_NAME_ENTRY_get_data(entry)
    else { return nil }
    var text: UnsafeMutablePointer<UInt8>?
    let length = ASN1_STRING_to_UTF8(&text, value)
    guard length >= 0, let text else { return nil }
    defer { mr_OPENSSL_free(text) }
    return String(decoding: UnsafeBufferPointer(start: text, count: Int(length)), as: UTF8.self)
  }
}
