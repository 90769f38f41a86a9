import Configuration
import Foundation
import PKI
import PublicIdentity

/// New message keys and new dates for a deployment's certificates (server.md §11). The CA and the nonce stay, so that
/// no agent needs a new file and none has to enroll again.
struct KeyRotation {
  /// What was done, for the operator.
  struct Report: Equatable {
    var lines: [String] = []
  }

  private var folder: DeploymentFolder
  private let authority: CertificateAuthority
  /// Whole seconds, as certificates and files have them.
  private let now: Date

  /// - Parameter caKey: path of the CA key when it is kept elsewhere.
  init(directory: String, caKey: String?, now: Date) throws {
    folder = try DeploymentFolder(directory)
    authority = try folder.authority(caKey: caKey)
    self.now = Date(timeIntervalSince1970: now.timeIntervalSince1970.rounded(.down))
  }

  /// Replaces the message key. The former one is accepted for some days, by workers only.
  ///
  /// - Parameter acceptDays: 0 ends the former key at once: for a key that has leaked.
  mutating func rotate(acceptDays: Int, validityDays: Int) throws -> Report {
    guard (0...3650).contains(acceptDays) else { throw ConfigFailure("--accept-old: expected 0 to 3650 days") }
    try Self.check(validityDays)
    let key = try RSAPrivateKey.generate()
    let certificate = try authority.issueMessageCertificate(
      for: key.publicKey, name: folder.workerConfig.pinnedServerName, now: now, validityDays: validityDays)
    let end = now.addingTimeInterval(Double(acceptDays) * 86_400)
    var expected = folder.workerConfig
    expected.previousKeys = stillAccepted
    if acceptDays > 0 {
      expected.previousKeys.insert(
        PreviousKey(privateKey: expected.privateKey, certificate: expected.certificate, acceptUntil: end), at: 0)
    }
    expected.privateKey = key.pkcs1PEM
    expected.certificate = certificate.pem
    try write(expected, tls: nil)
    let acceptance =
      acceptDays > 0
      ? "  the former key is accepted until \(end.formatted(.iso8601))"
      : "  the former key is not accepted any more: agents get one error and fetch the new certificate"
    return finish([
      "New message key and certificate (valid until \(certificate.notAfter.formatted(.iso8601))):",
      "  \(folder.worker.path)", "  \(folder.frontend.path)", acceptance,
      "Copy the files to their machines, to those of crypto-workers first. Running processes take them up within "
        + "seconds, without a restart. No agent has to be touched.",
    ])
  }

  /// Makes the certificates anew for the keys that are there.
  ///
  /// - Parameter hostNames: names and addresses to add to the TLS certificate.
  mutating func reissue(validityDays: Int, hostNames: [String]) throws -> Report {
    try Self.check(validityDays)
    let key = try RSAPrivateKey(pem: folder.workerConfig.privateKey)
    let certificate = try authority.issueMessageCertificate(
      for: key.publicKey, name: folder.workerConfig.pinnedServerName, now: now, validityDays: validityDays)
    var expected = folder.workerConfig
    expected.certificate = certificate.pem
    let dropped = expected.previousKeys.count - stillAccepted.count
    expected.previousKeys = stillAccepted
    let (tls, tlsLine) = try leaf(validityDays, hostNames)
    try write(expected, tls: tls)
    var lines = [
      "New certificates, valid until \(certificate.notAfter.formatted(.iso8601)), for the same keys:",
      "  \(folder.worker.path)", "  \(folder.frontend.path)", "  TLS: \(tlsLine)",
    ]
    if dropped > 0 { lines.append("  \(dropped) previous key(s) whose time is over were removed") }
    lines.append("Copy the files to their machines, in any order: running processes take them up within seconds.")
    return finish(lines)
  }

  private static func check(_ validityDays: Int) throws {
    guard (1...36_500).contains(validityDays) else {
      throw ConfigFailure("--validity-days: expected 1 to 36500, found \(validityDays)")
    }
  }

  private var stillAccepted: [PreviousKey] { folder.workerConfig.previousKeys.filter { $0.acceptUntil > now } }

  private func finish(_ lines: [String]) -> Report {
    Report(lines: lines + [folder.commentNote].compactMap { $0 })
  }

  private mutating func write(_ worker: WorkerConfig, tls: FrontendSection.TLS?) throws {
    folder.worker.value.set(["Frontend", "private_key"], .text(worker.privateKey))
    folder.worker.value.set(["Frontend", "certificate"], .text(worker.certificate))
    folder.worker.value.set(
      ["Frontend", "previous_private_keys"],
      worker.previousKeys.isEmpty ? nil : .list(worker.previousKeys.map(\.value)))
    var frontend = folder.frontendConfig
    frontend.frontend.certificate = worker.certificate
    folder.frontend.value.set(["Frontend", "certificate"], .text(worker.certificate))
    if let tls, case .inline(let certificate, let privateKey) = tls {
      frontend.frontend.tls = tls
      folder.frontend.value.set(["Frontend", "tls_certificate"], .text(certificate))
      folder.frontend.value.set(["Frontend", "tls_private_key"], .text(privateKey))
    }
    try folder.write(worker: worker, frontend: frontend)
  }

  /// The TLS leaf with new dates, when it is one of ours; the key stays if it is an EC key.
  private func leaf(_ validityDays: Int, _ hostNames: [String]) throws -> (FrontendSection.TLS?, String) {
    let config = folder.frontendConfig
    switch config.frontend.tls {
    case .plainHTTP: return (nil, "ended by a proxy (use_plain_http); nothing to do here")
    case .files(let certificate, _): return (nil, "\(certificate) is renewed by whoever makes it")
    case .inline(let pem, let keyPEM):
      let old = try Certificate(pem: pem)
      guard try TrustAnchors(pem: config.client.caCertificate).issued(old) else {
        return (nil, "issued by \(old.issuer), not by this deployment's CA; left as it is")
      }
      let former = try? ECPrivateKey(pem: keyPEM)
      let key = if let former { former } else { try ECPrivateKey.generate() }
      let name = folder.workerConfig.pinnedServerName
      let hosts =
        old.dnsNames + old.ipAddresses + config.client.serverURLs.compactMap { ServerURL($0)?.host } + hostNames
      let leaf = try authority.issueTLSLeaf(
        for: key, name: name, hostNames: hosts.filter { $0 != name }, now: now, validityDays: validityDays)
      let names = (leaf.dnsNames + leaf.ipAddresses).filter { $0 != name }.joined(separator: " ")
      let keyText = former == nil ? "a new key, because frontends should hold no RSA key; " : ""
      return (.inline(certificate: leaf.pem, privateKey: try key.pkcs8PEM()), "\(keyText)names: \(names)")
    }
  }
}
