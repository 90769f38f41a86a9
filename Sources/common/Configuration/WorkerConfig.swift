/// A crypto-worker's file. It holds the server's RSA key: the deployment's most valuable secret after the CA's.
package struct WorkerConfig: Sendable, Equatable {
  /// `CryptoWorkers.bind_endpoint`: where to listen; `--bind` wins. `ipc:///path` or `tcp://127.0.0.1:port`.
  package var bindEndpoint: WorkerEndpoint?
  /// `Client.nonce`: the root org's nonce.
  package var nonce: String
  /// `Orgs`: map of org id to nonce, default empty; further tenants.
  package var orgs: [String: String]
  /// `Client.pinned_server_name`: default `VelociraptorServer`; the name in the message certificate.
  package var pinnedServerName: String
  /// `Frontend.private_key`: PEM; the message key. Secret.
  package var privateKey: String
  /// `Frontend.certificate`: PEM; the message certificate.
  package var certificate: String
  /// `Frontend.previous_private_keys`: list, default empty; keys that `microraptor config rotate` replaced. Secret.
  package var previousKeys: [PreviousKey] = []
  /// `CryptoWorkers.curve`: default none; needed for `tcp://` other than loopback.
  package var curve: CurveSection?
  /// `Frontend.resources`; a worker uses `expected_clients` and `enrollments_per_second`.
  package var resources = ResourcesSection()
  package var monitoring = MonitoringSection()
  package var logging = LoggingSection()
  package var defaults = DefaultsSection()

  /// Loads a file; refuses one that other users may read.
  ///
  /// - Throws: ``ConfigurationError``.
  package static func load(path: String) throws(ConfigurationError) -> WorkerConfig {
    let text = try ConfigFile.read(path)
    try ConfigFile.requirePrivate(path)
    return try parse(text: text, file: path)
  }

  /// Reads text.
  package static func parse(text: String, file: String) throws(ConfigurationError) -> WorkerConfig {
    let root = try SectionReader.file(text: text, file: file)
    _ = try root.section("version").map(BuildVersion.init)
    let client = try ClientSection(try root.required("Client"), use: .worker)
    let frontend = try root.required("Frontend")
    let workers = try root.section("CryptoWorkers")
    var config = WorkerConfig(
      bindEndpoint: nil, nonce: client.nonce, orgs: try Self.orgs(root, client.nonce),
      pinnedServerName: client.pinnedServerName,
      privateKey: try frontend.requiredPEM("private_key", "PRIVATE KEY"),
      certificate: try frontend.requiredPEM("certificate", "CERTIFICATE"))
    if let reader = try frontend.section("resources") { config.resources = try ResourcesSection(reader) }
    for reader in try frontend.sections("previous_private_keys") {
      config.previousKeys.append(try PreviousKey(reader))
    }
    config.curve = try workers?.section("curve").map(CurveSection.init)
    if let workers, let text = try workers.string("bind_endpoint"), !text.isEmpty {
      let endpoint = try workers.endpoint("bind_endpoint", text, isEncrypted: config.curve != nil)
      if case .dns = endpoint {
        throw workers.wrong("bind_endpoint", "ipc:///path or tcp://address:port", SectionReader.shown(text))
      }
      config.bindEndpoint = endpoint
    }
    if let reader = try root.section("Monitoring") { config.monitoring = try MonitoringSection(reader) }
    if let reader = try root.section("Logging") { config.logging = try LoggingSection(reader) }
    if let reader = try root.section("defaults") { config.defaults = try DefaultsSection(reader) }
    _ = root.keep(["obfuscation_nonce", "security"])
    try frontend.finish()
    try workers?.finish()
    try root.finish()
    return config
  }

  private static func orgs(_ root: SectionReader, _ rootNonce: String) throws(ConfigurationError) -> [String: String] {
    let orgs = try root.map("Orgs")
    for (id, nonce) in orgs {
      guard id.hasPrefix("O"), id.count > 1, id.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber) }) else {
        throw root.wrong("Orgs", "org ids such as OABCD", SectionReader.shown(id))
      }
      guard !nonce.isEmpty, nonce != rootNonce else {
        throw root.wrong("Orgs", "a nonce of its own for \(id)", nonce.isEmpty ? "an empty one" : "the root org's")
      }
    }
    guard Set(orgs.values).count == orgs.count else {
      throw root.wrong("Orgs", "a nonce of its own for each org", "the same nonce twice")
    }
    return orgs
  }
}
