/// A stock server's file (server.md §10), as far as our roles have a use for it. Keys that this version does not
/// know are no mistake: a stock server may be newer.
package struct StockServerFile: Sendable {
  /// The `Client` section as it is written, without unknown keys.
  package var client: ConfigValue
  /// The same, read.
  package var section: ClientSection
  /// `version` as it is written.
  package var version: ConfigValue?
  /// `CA.private_key`: PEM; absent when it was taken offline. Secret.
  package var caPrivateKey: String?
  /// `Frontend.certificate`: PEM; the message certificate.
  package var certificate: String
  /// `Frontend.private_key`: PEM; the message key. Secret.
  package var privateKey: String
  /// `Frontend.hostname`.
  package var hostname: String
  /// `Frontend.bind_port`, if it is there.
  package var bindPort: Int?
  /// Entries of `Frontend` that a frontend's file of ours takes over as they are.
  package var frontend: [ConfigEntry]
  package var resources: ConfigValue?
  /// `Frontend.proxy_header`: needs `trusted_proxies` with us, which a stock file has not.
  package var proxyHeader: String?
  /// Whether the stock server fetches its TLS certificate itself by ACME.
  package var usesAutocert: Bool
  package var obfuscationNonce: ConfigValue?
  /// Dotted paths of keys that are left out because this version does not know them.
  package var foreign: [String]

  private static let frontendKeys = [
    "bind_address", "base_path", "use_plain_http", "require_client_certificates", "tls_certificate_filename",
    "tls_private_key_filename",
  ]

  /// Reads text.
  ///
  /// - Throws: ``ConfigurationError`` when something that our roles need is missing or wrong.
  package static func parse(text: String, file: String) throws(ConfigurationError) -> StockServerFile {
    let foreign = ForeignKeys()
    let root = try SectionReader.file(text: text, file: file, foreign: foreign)
    var raw = try ConfigValue.parse(text: text, file: file)
    let section = try ClientSection(try root.required("Client"), use: .agent)
    let reader = try root.required("Frontend")
    let certificate = try reader.requiredPEM("certificate", "CERTIFICATE")
    let privateKey = try reader.requiredPEM("private_key", "PRIVATE KEY")
    if let limits = try reader.section("resources") { _ = try ResourcesSection(limits) }
    let autocert = try [reader.string("autocert_cert_cache"), root.string("autocert_cert_cache")]
    let dropped = foreign.paths
    for path in dropped { raw.set(path.split(separator: ".").map(String.init), nil) }
    guard let client = raw["Client"] else { throw root.wrong("Client", "a section", "none") }
    return StockServerFile(
      client: client, section: section, version: raw["version"],
      caPrivateKey: try root.section("CA")?.string("private_key").flatMap { $0.isEmpty ? nil : $0 },
      certificate: certificate, privateKey: privateKey, hostname: try reader.string("hostname") ?? "",
      bindPort: try reader.port("bind_port"), frontend: reader.keep(frontendKeys),
      resources: raw[path: ["Frontend", "resources"]],
      proxyHeader: try reader.string("proxy_header").flatMap { $0.isEmpty ? nil : $0 },
      usesAutocert: autocert.contains { $0?.isEmpty == false }, obfuscationNonce: raw["obfuscation_nonce"],
      foreign: dropped)
  }
}
