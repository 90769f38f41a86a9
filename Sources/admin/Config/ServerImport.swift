import Configuration
import Foundation
import PKI
import PublicIdentity

/// Splits a stock server's file into our role files, so that its agents keep their trust (server.md §10, §12): the CA
/// certificate, the nonce, the message key with its certificate and the `Client` section stay as they are.
struct ServerImport {
  /// What the operator chose beside the stock file.
  struct Choices: Sendable {
    var frontendPort: Int?
    /// Names to add to the TLS certificate.
    var hostNames: [String] = []
    /// The CA key as PEM, when it is not in the file.
    var caKeyPEM: String?
    var validityDays = 365
  }

  let files: DeploymentFiles
  /// What was decided and left out, for the operator.
  let notes: [String]

  private let stock: StockServerFile
  private let plan: DeploymentPlan
  private let choices: Choices

  init(_ stock: StockServerFile, plan: DeploymentPlan, choices: Choices, now: Date) throws {
    self.stock = stock
    self.plan = plan
    self.choices = choices
    let certificate = try Self.checkKeys(stock)
    let authority = try (choices.caKeyPEM ?? stock.caPrivateKey).map {
      try CertificateAuthority(certificatePEM: stock.section.caCertificate, keyPEM: $0)
    }
    var notes = Self.notes(stock, certificate, now)
    let tls = try Self.tls(stock, authority, plan, choices, now, &notes)
    self.notes = notes
    let curve = plan.needsCurve ? try CurvePairs.make() : nil
    let parts = ImportParts(stock: stock, plan: plan, choices: choices, tls: tls, curve: curve)
    let client = try DeploymentFiles.render(parts.client)
    let frontend = try parts.frontendComment + parts.frontend.yaml()
    let worker = try DeploymentFiles.workerComment + parts.worker.yaml()
    let admin = try DeploymentFiles.adminComment + parts.admin(hasKey: authority != nil).yaml()
    // What is written must be what the roles accept, and the agents' section must mean what it meant.
    let read = try ClientConfig.parse(text: client, file: DeploymentFiles.clientFile)
    guard read.client == stock.section else {
      throw ConfigFailure("the Client section cannot be written without changing it; write unusual values in quotes")
    }
    _ = try FrontendConfig.parse(text: frontend, file: DeploymentFiles.frontendFile)
    _ = try WorkerConfig.parse(text: worker, file: DeploymentFiles.workerFile)
    _ = try AdminConfig.parse(text: admin, file: DeploymentFiles.adminFile)
    files = DeploymentFiles(
      texts: (authority.map { [(DeploymentFiles.caKeyFile, $0.key.pkcs1PEM)] } ?? []) + [
        (DeploymentFiles.caFile, stock.section.caCertificate), (DeploymentFiles.workerFile, worker),
        (DeploymentFiles.frontendFile, frontend), (DeploymentFiles.clientFile, client),
        (DeploymentFiles.adminFile, admin),
      ])
  }

  /// The message certificate, if it is of the key and of the CA.
  private static func checkKeys(_ stock: StockServerFile) throws -> Certificate {
    let key = try RSAPrivateKey(pem: stock.privateKey)
    let certificate = try Certificate(pem: stock.certificate)
    guard try certificate.rsaPublicKey() == key.publicKey else {
      throw ConfigFailure("Frontend.certificate is not the certificate of Frontend.private_key")
    }
    guard try TrustAnchors(pem: stock.section.caCertificate).issued(certificate) else {
      throw ConfigFailure("Frontend.certificate was not issued by Client.ca_certificate: agents would refuse it")
    }
    return certificate
  }

  private static func notes(_ stock: StockServerFile, _ certificate: Certificate, _ now: Date) -> [String] {
    var notes: [String] = []
    if !stock.foreign.isEmpty {
      notes.append("Left out, because this version does not know them: \(stock.foreign.joined(separator: ", ")).")
    }
    if stock.proxyHeader != nil {
      notes.append(
        "Frontend.proxy_header was left out: it is believed only from Frontend.trusted_proxies. Set both in the "
          + "frontends' file.")
    }
    if certificate.notAfter <= now.addingTimeInterval(30 * 86_400) {
      notes.append(
        "The message certificate expires on \(certificate.notAfter.formatted(.iso8601)). "
          + "Renew it with: microraptor config reissue")
    }
    notes.append(
      "Agents enroll again by themselves, under the same client ids. Results, flows and orgs stay in the old "
        + "server's datastore; the nonces of orgs belong under Orgs in the crypto-workers' file.")
    return notes
  }

  private static func tls(
    _ stock: StockServerFile, _ authority: CertificateAuthority?, _ plan: DeploymentPlan, _ choices: Choices,
    _ now: Date, _ notes: inout [String]
  ) throws -> [ConfigEntry] {
    let keys = Set(stock.frontend.map(\.key))
    if stock.frontend.contains(where: { $0.key == "use_plain_http" && $0.value == .boolean(true) }) {
      notes.append("TLS is ended by the proxy in front, as before (use_plain_http).")
      return []
    }
    if keys.isSuperset(of: ["tls_certificate_filename", "tls_private_key_filename"]) {
      notes.append("TLS uses the same PEM files as before; frontends must be able to read them.")
      return []
    }
    if stock.usesAutocert {
      notes.append(
        "The old server fetched its TLS certificate by ACME itself. Let an ACME client do that, and set "
          + "tls_certificate_filename and tls_private_key_filename; until then only agents that trust the CA connect.")
    }
    guard let authority else {
      notes.append(
        "WARNING: the file has no CA.private_key, so no TLS certificate could be made. The frontends' file holds the "
          + "message certificate and its key for TLS, as the old server did: a stolen frontend then opens all "
          + "messages. Repair it where the CA key is: microraptor config reissue --directory \(plan.directory) "
          + "--ca-key FILE, and if frontends were exposed meanwhile: microraptor config rotate.")
      return [
        ConfigEntry("tls_certificate", .text(stock.certificate)),
        ConfigEntry("tls_private_key", .text(stock.privateKey)),
      ]
    }
    let key = try ECPrivateKey.generate()
    let hosts = [stock.hostname] + stock.section.serverURLs.compactMap { ServerURL($0)?.host } + choices.hostNames
    let leaf = try authority.issueTLSLeaf(
      for: key, name: stock.section.pinnedServerName, hostNames: hosts.filter { !$0.isEmpty }, now: now,
      validityDays: choices.validityDays)
    notes.append("A new TLS certificate was signed by the CA, with a key of its own for the frontends.")
    return [
      ConfigEntry("tls_certificate", .text(leaf.pem)), ConfigEntry("tls_private_key", .text(try key.pkcs8PEM())),
    ]
  }
}

/// The sections of the imported files.
private struct ImportParts {
  let stock: StockServerFile
  let plan: DeploymentPlan
  let choices: ServerImport.Choices
  /// `tls_certificate` and `tls_private_key`, or nothing.
  let tls: [ConfigEntry]
  let curve: CurvePairs?

  /// The file must not promise what it does not keep.
  var frontendComment: String {
    tls.contains { $0.value == .text(stock.privateKey) }
      ? "# For frontends. WARNING: it holds the message key for TLS; repair with: microraptor config reissue\n"
      : DeploymentFiles.frontendComment
  }

  private var version: ConfigValue {
    .section([
      "name": stock.version?["name"] ?? .text("velociraptor"),
      "version": stock.version?["version"] ?? .text(DeploymentFiles.protocolVersion),
    ])
  }

  var client: ConfigValue { .section(["version": version, "Client": stock.client]) }

  /// What a frontend needs of the `Client` section: no nonce, no agent's private key.
  private var frontendClient: ConfigValue {
    var entries: [ConfigEntry] = []
    for key in [
      "server_urls", "ca_certificate", "use_self_signed_ssl", "pinned_server_name", "max_poll", "max_poll_std",
      "concurrency", "max_upload_size",
    ] {
      if let value = stock.client[key] { entries.append(ConfigEntry(key, value)) }
    }
    let crypto = ["root_certs", "allow_weak_tls_server"].compactMap { key in
      stock.client[path: ["Crypto", key]].map { ConfigEntry(key, $0) }
    }
    if !crypto.isEmpty { entries.append(ConfigEntry("Crypto", .section(crypto))) }
    return .section(entries)
  }

  var frontend: ConfigValue {
    var entries = [
      ConfigEntry("hostname", .text(stock.hostname.isEmpty ? plan.publicName : stock.hostname)),
      ConfigEntry("bind_port", .integer(choices.frontendPort ?? stock.bindPort ?? DeploymentPlan.defaultPort)),
      ConfigEntry("certificate", .text(stock.certificate)),
    ]
    entries += stock.frontend + tls
    if let resources = stock.resources { entries.append(ConfigEntry("resources", resources)) }
    return .section([
      "version": version,
      "Client": frontendClient,
      "Frontend": .section(entries),
      "CryptoWorkers": .section([
        "endpoints": .texts(plan.workerEndpoints.map(\.description)),
        "routing_secret": .text(DeploymentFiles.random(32)),
        "curve": curve?.frontend.value,
      ]),
      "Datastore": datastore,
      "Monitoring": monitoring,
      "obfuscation_nonce": obfuscationNonce,
    ])
  }

  /// What agents were sent in place of names; without a nonce of its own the stock server made it of its key's text.
  private var obfuscationNonce: ConfigValue {
    if case .text(let nonce)? = stock.obfuscationNonce, !nonce.isEmpty { return .text(nonce) }
    let digits = Digest.sha256(Array(stock.privateKey.utf8)).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
    return .text(digits.joined())
  }

  var worker: ConfigValue {
    .section([
      "version": version,
      "Client": .section([
        "nonce": .text(stock.section.nonce), "pinned_server_name": .text(stock.section.pinnedServerName),
      ]),
      "Frontend": .section([
        "certificate": .text(stock.certificate), "private_key": .text(stock.privateKey), "resources": stock.resources,
      ]),
      "CryptoWorkers": .section([
        "bind_endpoint": plan.workerEndpoints.first.map { .text(DeploymentPlan.bindEndpoint(of: $0).description) },
        "curve": curve?.worker.value,
      ]),
      "Monitoring": monitoring,
    ])
  }

  func admin(hasKey: Bool) -> ConfigValue {
    .section([
      "version": version,
      "Client": stock.client,
      "CA": hasKey
        ? .section(["private_key_filename": .text("\(plan.directory)/\(DeploymentFiles.caKeyFile)")]) : nil,
      "Datastore": datastore,
      "obfuscation_nonce": stock.obfuscationNonce,
    ])
  }

  private var datastore: ConfigValue {
    .section([
      "implementation": .text(plan.datastore.implementation.rawValue), "location": .text(plan.datastore.location),
    ])
  }

  private var monitoring: ConfigValue {
    .section(["bind_address": .text("127.0.0.1"), "bind_port": .integer(0)])
  }
}
