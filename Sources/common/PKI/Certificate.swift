import CLibCrypto
import FoundationEssentials
import Glibc
import PublicIdentity

/// An X.509 certificate, read once into plain values.
package struct Certificate: Sendable, Equatable {
  /// What a certificate may be used for (extended key usage).
  package enum Usage: Sendable, Hashable {
    case serverAuth, clientAuth
  }

  package let der: [UInt8]
  /// RFC 2253, for example `CN=VelociraptorServer,O=Velociraptor`.
  package let subject: String
  package let issuer: String
  package let commonName: String?
  package let dnsNames: [String]
  /// Textual addresses.
  package let ipAddresses: [String]
  package let notBefore: Date
  package let notAfter: Date
  package let isCA: Bool
  /// nil when the extension is absent: any use.
  package let extendedUsage: Set<Usage>?
  /// Lower-case hexadecimal.
  package let serial: String

  /// The first `CERTIFICATE` block of a text (crypto.md §4).
  ///
  /// - Throws: ``PKIError`` `.unableToParse`.
  package init(pem: String) throws(PKIError) {
    guard let der = PEM.firstBlock("CERTIFICATE", in: pem) else {
      throw PKIError(.unableToParse, "Unable to parse PEM")
    }
    try self.init(der: der)
  }

  package init(der: [UInt8]) throws(PKIError) {
    try self.init(try X509Handle(der: der))
  }

  init(_ handle: X509Handle) throws(PKIError) {
    let x509 = handle.pointer
    guard let from = X509Handle.seconds(X509_get0_notBefore(x509)),
      let until = X509Handle.seconds(X509_get0_notAfter(x509))
    else { throw PKIError(.unableToParse, "the certificate's validity is not a time") }
    der = handle.der
    subject = X509Handle.text(of: X509_get_subject_name(x509))
    issuer = X509Handle.text(of: X509_get_issuer_name(x509))
    commonName = handle.commonName
    let names = handle.alternativeNames
    dnsNames = names.filter(\.isDNS).map { String(decoding: $0.bytes, as: UTF8.self) }
    ipAddresses = names.filter { !$0.isDNS }.compactMap { IPAddressText.text(of: $0.bytes) }
    notBefore = Date(timeIntervalSince1970: TimeInterval(from))
    notAfter = Date(timeIntervalSince1970: TimeInterval(until))
    // libcrypto fills the flags in at the first look at the extensions.
    isCA = X509_check_ca(x509) == 1
    if X509_get_extension_flags(x509) & UInt32(EXFLAG_XKUSAGE) == 0 {
      extendedUsage = nil
    } else {
      let bits = X509_get_extended_key_usage(x509)
      let server: Set<Usage> = bits & UInt32(XKU_SSL_SERVER) != 0 ? [.serverAuth] : []
      extendedUsage = bits & UInt32(XKU_SSL_CLIENT) != 0 ? server.union([.clientAuth]) : server
    }
    serial = Self.serial(x509)
    ERR_clear_error()
  }

  private static func serial(_ x509: OpaquePointer) -> String {
    guard let number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), nil) else { return "" }
    defer { BN_free(number) }
    guard let text = BN_bn2hex(number) else { return "" }
    defer { mr_OPENSSL_free(text) }
    return String(cString: text).lowercased()
  }

  /// The name by the protocol's rule: the common name, else the first DNS name, else the first address (crypto.md §4).
  package var name: String {
    if let commonName, !commonName.isEmpty { return commonName }
    return dnsNames.first ?? ipAddresses.first ?? ""
  }

  package var pem: String { PEM.encode("CERTIFICATE", der) }

  /// SHA-256 of the DER bytes, lower-case hexadecimal.
  package var thumbprint: String {
    Digest.sha256(der).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// The RSA key inside.
  ///
  /// - Throws: `RSAPublicKey.Failure`, `.notRSA` for other kinds of keys.
  package func rsaPublicKey() throws(RSAPublicKey.Failure) -> RSAPublicKey {
    guard let handle = try? X509Handle(der: der), let key = X509_get_pubkey(handle.pointer) else {
      ERR_clear_error()
      throw .unableToParse
    }
    return try RSAPublicKey(owning: key)
  }

  /// Whether now lies inside the validity.
  package func isValid(at now: Date) -> Bool {
    notBefore <= now && now <= notAfter
  }
}

/// Addresses in certificates.
enum IPAddressText {
  /// 4 or 16 bytes as text.
  static func text(of bytes: [UInt8]) -> String? {
    let family: Int32 = bytes.count == 4 ? AF_INET : AF_INET6
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    guard inet_ntop(family, bytes, &buffer, socklen_t(buffer.count)) != nil else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Whether the text is an IPv4 or IPv6 address.
  static func isAddress(_ text: String) -> Bool {
    var bytes = in6_addr()
    return inet_pton(AF_INET, text, &bytes) == 1 || inet_pton(AF_INET6, text, &bytes) == 1
  }
}
