import CLibCrypto
import FoundationEssentials
import Glibc
import PublicIdentity

/// The deployment's own CA: makes itself, and signs message certificates and TLS leaves (crypto.md §4).
package struct CertificateAuthority: Sendable {
  /// Days that a new CA lives.
  package static let validityDays = 3650
  /// Days that a leaf lives unless told otherwise.
  package static let leafValidityDays = 365
  /// The name that every server certificate carries unless the deployment pins another.
  package static let defaultServerName = "VelociraptorServer"

  package let certificate: Certificate
  package let key: RSAPrivateKey

  /// A CA from its certificate and key.
  ///
  /// - Throws: ``PKIError`` when one of them cannot be read or they do not belong together.
  package init(certificatePEM: String, keyPEM: String) throws(PKIError) {
    let certificate = try Certificate(pem: certificatePEM)
    let key: RSAPrivateKey
    let publicKey: RSAPublicKey
    do {
      key = try RSAPrivateKey(pem: keyPEM)
      publicKey = try certificate.rsaPublicKey()
    } catch {
      throw PKIError(.wrongKey, "\(error)")
    }
    guard certificate.isCA, publicKey == key.publicKey else {
      throw PKIError(.wrongKey, "the CA key does not belong to the CA certificate")
    }
    self.certificate = certificate
    self.key = key
  }

  private init(certificate: Certificate, key: RSAPrivateKey) {
    self.certificate = certificate
    self.key = key
  }

  /// A new self-signed CA with an RSA-2048 key: O=`Velociraptor CA`, no CN.
  package static func create(now: Date, validityDays: Int = validityDays) throws(PKIError) -> CertificateAuthority {
    let key: RSAPrivateKey
    do throws(RSAPrivateKey.Failure) {
      key = try RSAPrivateKey.generate()
    } catch {
      throw PKIError(.libraryFailure, "\(error)")
    }
    var template = CertificateTemplate(organization: "Velociraptor CA", commonName: nil)
    template.dnsNames = ["Velociraptor_ca.velocidex.com"]
    template.isCA = true
    template.keyUsage = ["digitalSignature", "keyEncipherment", "keyCertSign"]
    let certificate = try template.sign(
      publicKey: key.handle, issuer: nil, signingKey: key.handle, now: now, validityDays: validityDays)
    return CertificateAuthority(certificate: certificate, key: key)
  }

  /// The message certificate that `/server.pem` serves: O=`Velociraptor`, CN and SAN = the pinned name.
  ///
  /// - Parameter key: the server's RSA message key; only its public half goes in.
  package func issueMessageCertificate(
    for key: RSAPublicKey, name: String = defaultServerName, now: Date, validityDays: Int = leafValidityDays
  ) throws(PKIError) -> Certificate {
    var template = CertificateTemplate(organization: "Velociraptor", commonName: name)
    try template.addName(name)
    template.keyUsage = ["digitalSignature", "keyEncipherment"]
    return try sign(template, key.handle, now, validityDays)
  }

  /// The TLS certificate of a frontend: ECDSA P-256, SAN = the pinned name and the public names and addresses.
  ///
  /// It has no keyEncipherment, which means nothing for an EC key, and no clientAuth, which a frontend does not need.
  package func issueTLSLeaf(
    for key: ECPrivateKey, name: String = defaultServerName, hostNames: [String], now: Date,
    validityDays: Int = leafValidityDays
  ) throws(PKIError) -> Certificate {
    var template = CertificateTemplate(organization: "Velociraptor", commonName: name)
    try template.addName(name)
    for host in hostNames where host != name {
      try template.addName(host)
    }
    template.keyUsage = ["digitalSignature"]
    template.extendedKeyUsage = ["serverAuth"]
    return try sign(template, key.handle, now, validityDays)
  }

  func sign(
    _ template: CertificateTemplate, _ publicKey: OpaquePointer, _ now: Date, _ validityDays: Int
  ) throws(PKIError) -> Certificate {
    try template.sign(
      publicKey: publicKey, issuer: try X509Handle(der: certificate.der), signingKey: key.handle, now: now,
      validityDays: validityDays)
  }
}

/// What goes into a certificate. Internal, so that tests can make wrong ones.
struct CertificateTemplate {
  var organization: String
  var commonName: String?
  var dnsNames: [String] = []
  var ipAddresses: [String] = []
  var isCA = false
  var keyUsage: [String] = []
  var extendedKeyUsage = ["serverAuth", "clientAuth"]

  init(organization: String, commonName: String?) {
    self.organization = organization
    self.commonName = commonName
  }

  /// Adds a subject alternative name of the right kind.
  ///
  /// - Throws: ``PKIError`` `.invalidName` for anything that is neither an address nor a DNS name.
  mutating func addName(_ name: String) throws(PKIError) {
    if IPAddressText.isAddress(name) {
      if !ipAddresses.contains(name) { ipAddresses.append(name) }
      return
    }
    let isLegal = (1...253).contains(name.utf8.count) && name.utf8.allSatisfy(Self.isNameByte)
    guard isLegal else {
      throw PKIError(.invalidName, "“\(name)” is neither a host name nor an IP address")
    }
    if !dnsNames.contains(name) { dnsNames.append(name) }
  }

  /// Letters, digits, `-`, `.`, `_` and `*`. A comma or colon would be read as the start of another name.
  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
      UInt8(ascii: "*"):
      return true
    default:
      return false
    }
  }

  /// - Parameters:
  ///   - publicKey: an EVP_PKEY.
  ///   - issuer: nil for a self-signed certificate.
  ///   - signingKey: the issuer's EVP_PKEY.
  func sign(
    publicKey: OpaquePointer, issuer: X509Handle?, signingKey: OpaquePointer, now: Date, validityDays: Int
  ) throws(PKIError) -> Certificate {
    let certificate = try X509Handle()
    let x509 = certificate.pointer
    let from = Int64(now.timeIntervalSince1970.rounded(.down))
    let until = from + Int64(validityDays) * 86_400
    let name = try subject()
    defer { X509_NAME_free(name) }
    let issuerName = issuer.flatMap { X509_get_subject_name($0.pointer) } ?? name
    guard mr_X509_set_random_serial(x509) == 1, mr_X509_set_validity(x509, from, until) == 1,
      X509_set_subject_name(x509, name) == 1, X509_set_issuer_name(x509, issuerName) == 1,
      X509_set_pubkey(x509, publicKey) == 1
    else { throw PKIError(.libraryFailure, OpenSSLError("certificate fields").description) }
    for (number, value) in extensions(isSelfSigned: issuer == nil) {
      guard mr_X509_add_extension(x509, issuer?.pointer ?? x509, number, value) == 1 else {
        throw PKIError(.libraryFailure, OpenSSLError("certificate extension").description)
      }
    }
    guard X509_sign(x509, signingKey, EVP_sha256()) > 0 else {
      throw PKIError(.libraryFailure, OpenSSLError("certificate signature").description)
    }
    return try Certificate(der: certificate.der)
  }

  private func extensions(isSelfSigned: Bool) -> [(Int32, String)] {
    var list: [(Int32, String)] = [
      (NID_key_usage, "critical," + keyUsage.joined(separator: ",")),
      (NID_ext_key_usage, extendedKeyUsage.joined(separator: ",")),
      (NID_basic_constraints, isCA ? "critical,CA:TRUE" : "critical,CA:FALSE"),
    ]
    if isSelfSigned {
      list.append((NID_subject_key_identifier, "hash"))
    } else {
      list.append((NID_authority_key_identifier, "keyid,issuer"))
    }
    let names = dnsNames.map { "DNS:\($0)" } + ipAddresses.map { "IP:\($0)" }
    if !names.isEmpty {
      list.append((NID_subject_alt_name, names.joined(separator: ",")))
    }
    return list.filter { !$0.1.isEmpty && $0.1 != "critical," }
  }

  private func subject() throws(PKIError) -> OpaquePointer {
    guard let name = X509_NAME_new() else { throw PKIError(.libraryFailure, "out of memory") }
    var isWritten = Self.add("O", organization, to: name)
    if let commonName {
      isWritten = isWritten && Self.add("CN", commonName, to: name)
    }
    guard isWritten else {
      X509_NAME_free(name)
      throw PKIError(.invalidName, OpenSSLError("a name that cannot stand in a certificate").description)
    }
    return name
  }

  static func add(_ field: String, _ value: String, to name: OpaquePointer) -> Bool {
    let bytes = Array(value.utf8)
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, bytes, Int32(bytes.count), -1, 0) == 1
  }
}
