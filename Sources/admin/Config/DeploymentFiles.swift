import Configuration
import Foundation
import PKI
import WorkerLink

/// The texts of a new deployment's files, made from a plan; nothing is written here.
///
/// Each role gets only what it needs: the RSA message key is in the worker's file alone, the CA key in its own file.
struct DeploymentFiles: Sendable {
  static let clientFile = "client.config.yaml"
  static let frontendFile = "frontend.config.yaml"
  static let workerFile = "crypto-worker.config.yaml"
  static let adminFile = "admin.config.yaml"
  static let caFile = "ca.pem"
  static let caKeyFile = "ca.key.pem"

  /// The version whose file format and protocol ours are.
  static let protocolVersion = "0.77.2"

  /// Name and text, in the order of writing.
  let texts: [(name: String, text: String)]

  /// Texts that were made elsewhere.
  init(texts: [(name: String, text: String)]) {
    self.texts = texts
  }

  /// Makes new keys, certificates and secrets.
  ///
  /// - Parameters:
  ///   - plan: the choices.
  ///   - now: the start of the certificates' validity.
  init(plan: DeploymentPlan, now: Date) throws {
    let authority = try CertificateAuthority.create(now: now)
    let messageKey = try RSAPrivateKey.generate()
    let leafKey = try ECPrivateKey.generate()
    let parts = Parts(
      plan: plan, caPEM: authority.certificate.pem, nonce: Self.random(8), routingSecret: Self.random(32),
      messageCertificate: try authority.issueMessageCertificate(
        for: messageKey.publicKey, now: now, validityDays: plan.validityDays
      ).pem,
      messageKey: messageKey.pkcs1PEM,
      leaf: try authority.issueTLSLeaf(
        for: leafKey, hostNames: plan.hostNames, now: now, validityDays: plan.validityDays
      ).pem,
      leafKey: try leafKey.pkcs8PEM(), curve: plan.needsCurve ? try CurvePairs.make() : nil)
    let directory = plan.directory
    let client = try Self.render(parts.client)
    let frontend = try Self.frontendComment + parts.frontend.yaml()
    let worker = try Self.workerComment + parts.worker.yaml()
    let admin = try Self.adminComment + parts.admin.yaml()
    // What is written must be what the roles accept.
    _ = try ClientConfig.parse(text: client, file: "\(directory)/\(Self.clientFile)")
    _ = try FrontendConfig.parse(text: frontend, file: "\(directory)/\(Self.frontendFile)")
    _ = try WorkerConfig.parse(text: worker, file: "\(directory)/\(Self.workerFile)")
    _ = try AdminConfig.parse(text: admin, file: "\(directory)/\(Self.adminFile)")
    texts = [
      (Self.caKeyFile, authority.key.pkcs1PEM), (Self.caFile, parts.caPEM), (Self.workerFile, worker),
      (Self.frontendFile, frontend), (Self.clientFile, client), (Self.adminFile, admin),
    ]
  }

  /// A client file's text; `config client` prints the same.
  static func render(_ client: ConfigValue) throws(ConfigurationError) -> String {
    try clientComment + client.yaml()
  }

  /// Base64 of random bytes of the operating system.
  static func random(_ count: Int) -> String {
    var generator = SystemRandomNumberGenerator()
    return Data((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }).base64EncodedString()
  }

  private static let clientComment = "# For agents: give this file to every endpoint. It holds no private key.\n"
  static let frontendComment =
    "# For frontends: the TLS key and the routing secret. It holds no key that opens messages.\n"
  static let workerComment =
    "# For crypto-workers only: the key that opens every agent's messages. Keep it secret.\n"
  static let adminComment = "# For the operator's command: microraptor clients --config admin.config.yaml\n"
}

/// New CURVE keys for the link: a pair for the workers and one for the frontends, each side knowing the other's.
struct CurvePairs {
  let worker: CurveSection
  let frontend: CurveSection

  static func make() throws -> CurvePairs {
    let worker = try CurveKeys.generatePair()
    let frontend = try CurveKeys.generatePair()
    return CurvePairs(
      worker: CurveSection(
        publicKey: worker.publicKey, secretKey: worker.secretKey, peerPublicKeys: [frontend.publicKey]),
      frontend: CurveSection(
        publicKey: frontend.publicKey, secretKey: frontend.secretKey, peerPublicKeys: [worker.publicKey]))
  }
}

/// The sections, put together differently for each role.
private struct Parts {
  let plan: DeploymentPlan
  let caPEM: String
  let nonce: String
  let routingSecret: String
  let messageCertificate: String
  let messageKey: String
  let leaf: String
  let leafKey: String
  let curve: CurvePairs?

  var version: ConfigValue {
    .section(["name": .text("velociraptor"), "version": .text(DeploymentFiles.protocolVersion)])
  }

  private var maxPoll: ConfigValue { .integer(plan.maxPoll ?? 60) }
  private var maxPollStd: ConfigValue? { plan.maxPoll.map { .integer(max(1, $0 / 2)) } }

  /// Only keys that a stock client knows: an unknown key stops it.
  var client: ConfigValue {
    .section([
      "version": version,
      "Client": .section([
        "server_urls": .texts(plan.urls),
        "ca_certificate": .text(caPEM),
        "nonce": .text(nonce),
        "writeback_darwin": .text("/etc/velociraptor.writeback.yaml"),
        "writeback_linux": .text("/etc/velociraptor.writeback.yaml"),
        "writeback_windows": .text("$ProgramFiles\\Velociraptor\\velociraptor.writeback.yaml"),
        "level2_writeback_suffix": .text(".bak"),
        "tempdir_windows": .text("$ProgramFiles\\Velociraptor\\Tools"),
        "max_poll": maxPoll,
        "max_poll_std": maxPollStd,
        "nanny_max_connection_delay": .integer(600),
        "windows_installer": .section([
          "service_name": .text("Velociraptor"),
          "install_path": .text("$ProgramFiles\\Velociraptor\\Velociraptor.exe"),
          "service_description": .text("Velociraptor service"),
        ]),
        "darwin_installer": .section([
          "service_name": .text("com.velocidex.velociraptor"),
          "install_path": .text("/usr/local/bin/velociraptor"),
        ]),
        "server_version": .section(["version": .text(DeploymentFiles.protocolVersion)]),
        "use_self_signed_ssl": .boolean(true),
        "max_upload_size": .integer(5_242_880),
        "local_buffer": .section([
          "memory_size": .integer(52_428_800),
          "disk_size": .integer(1_073_741_824),
          "filename_linux": .text("/var/tmp/Velociraptor_Buffer.bin"),
          "filename_windows": .text("$TEMP/Velociraptor_Buffer.bin"),
          "filename_darwin": .text("/var/tmp/Velociraptor_Buffer.bin"),
        ]),
      ]),
    ])
  }

  var frontend: ConfigValue {
    .section([
      "version": version,
      "Client": .section([
        "server_urls": .texts(plan.urls),
        "ca_certificate": .text(caPEM),
        "use_self_signed_ssl": .boolean(true),
        "max_poll": maxPoll,
        "max_poll_std": maxPollStd,
        "max_upload_size": .integer(5_242_880),
      ]),
      "Frontend": .section([
        "hostname": .text(plan.publicName),
        "bind_address": .text(plan.bindAddress),
        "bind_port": .integer(plan.bindPort),
        "certificate": .text(messageCertificate),
        "tls_certificate": .text(leaf),
        "tls_private_key": .text(leafKey),
        "resources": resources,
      ]),
      "CryptoWorkers": .section([
        "endpoints": .texts(plan.workerEndpoints.map(\.description)),
        "routing_secret": .text(routingSecret),
        "curve": curve?.frontend.value,
      ]),
      "Datastore": datastore,
      "Monitoring": monitoring,
      "Logging": logging,
    ])
  }

  var worker: ConfigValue {
    .section([
      "version": version,
      "Client": .section(["nonce": .text(nonce), "pinned_server_name": .text("VelociraptorServer")]),
      "Frontend": .section([
        "certificate": .text(messageCertificate),
        "private_key": .text(messageKey),
        "resources": .section(["expected_clients": .integer(30_000)]),
      ]),
      "CryptoWorkers": .section([
        "bind_endpoint": plan.workerEndpoints.first.map { .text(DeploymentPlan.bindEndpoint(of: $0).description) },
        "curve": curve?.worker.value,
      ]),
      "Monitoring": monitoring,
      "Logging": logging,
    ])
  }

  var admin: ConfigValue {
    .section([
      "version": version,
      "Client": client["Client"],
      "CA": .section(["private_key_filename": .text("\(plan.directory)/\(DeploymentFiles.caKeyFile)")]),
      "Datastore": datastore,
    ])
  }

  private var resources: ConfigValue {
    .section([
      "connections_per_second": .integer(100),
      "notifications_per_second": .integer(30),
      "max_upload_size": .integer(104_857_600),
      "expected_clients": .integer(30_000),
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

  private var logging: ConfigValue {
    .section(["format": .text("text"), "level": .text("info")])
  }
}
