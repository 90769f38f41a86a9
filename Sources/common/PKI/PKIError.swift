/// A certificate operation that failed.
package struct PKIError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: Sendable, Hashable {
    /// No `CERTIFICATE` block, or one that is not X.509.
    case unableToParse
    /// A key of another kind than the one needed.
    case wrongKey
    /// A name that cannot stand in a certificate.
    case invalidName
    /// The certificate is not signed by the CA, not valid now, or not for TLS servers.
    case notTrusted
    /// libcrypto refused.
    case libraryFailure
  }

  package let code: Code
  /// For people; no secret.
  package let description: String

  package init(_ code: Code, _ description: String) {
    self.code = code
    self.description = description
  }
}
