import FoundationEssentials
import Glibc
import PublicIdentity

/// The client's check of `/server.pem` (crypto.md §4, "server.pem verification by the client").
package struct ServerCertificateCheck: Sendable {
  /// The step that refused.
  package enum Failure: Error, Sendable, Equatable, CustomStringConvertible {
    /// Step 1: no `CERTIFICATE` block, as in the page of a captive portal.
    case unableToParsePEM
    /// Step 1: a block that is not a certificate.
    case unableToParseCertificate(String)
    /// Step 2.
    case notRSA
    /// Step 2: an RSA key of a size that is not accepted.
    case keyRefused(String)
    /// Step 3: not signed by the CA, not valid now, not for servers.
    case notTrusted(String)
    /// Step 5.
    case invalidCommonName(found: String, expected: String)

    package var description: String {
      switch self {
      case .unableToParsePEM: return "Unable to parse PEM"
      case .unableToParseCertificate(let reason): return "Unable to parse the server certificate: \(reason)"
      case .notRSA: return "Not RSA algorithm"
      case .keyRefused(let reason): return "server certificate's key refused: \(reason)"
      case .notTrusted(let reason): return "server certificate not trusted: \(reason)"
      case .invalidCommonName(let found, let expected):
        return "Invalid server certificate common name! Expected \(expected), found \(found)"
      }
    }
  }

  /// A certificate that passed.
  package struct Accepted: Sendable {
    package let certificate: Certificate
    /// Opens what the server signs; seals what goes to it.
    package let publicKey: RSAPublicKey
    /// The pinned name.
    package var name: String { certificate.name }
  }

  private let anchors: TrustAnchors
  private let pinnedName: String

  /// - Parameters:
  ///   - caPEM: `Client.ca_certificate`.
  ///   - pinnedName: `Client.pinned_server_name`.
  /// - Throws: ``PKIError`` when the CA certificate cannot be read.
  package init(caPEM: String, pinnedName: String = CertificateAuthority.defaultServerName) throws(PKIError) {
    anchors = try TrustAnchors(pem: caPEM)
    self.pinnedName = pinnedName
  }

  /// Runs the steps in their order. Nothing may be stored and no session dropped unless all of them pass.
  ///
  /// - Parameters:
  ///   - body: the answer's body.
  ///   - now: the time for the validity.
  package func verify(_ body: String, now: Date) throws(Failure) -> Accepted {
    guard let der = PEM.firstBlock("CERTIFICATE", in: body) else { throw .unableToParsePEM }
    let certificate: Certificate
    do throws(PKIError) {
      certificate = try Certificate(der: der)
    } catch {
      throw .unableToParseCertificate(error.description)
    }
    let publicKey: RSAPublicKey
    do throws(RSAPublicKey.Failure) {
      publicKey = try certificate.rsaPublicKey()
    } catch {
      throw error == .notRSA ? .notRSA : .keyRefused(error.description)
    }
    do throws(PKIError) {
      try anchors.verifyLeaf(der, at: now)
    } catch {
      throw .notTrusted(error.description)
    }
    guard certificate.name == pinnedName else {
      throw .invalidCommonName(found: certificate.name, expected: pinnedName)
    }
    return Accepted(certificate: certificate, publicKey: publicKey)
  }
}
