import FoundationEssentials
import Glibc

/// A frontend's file. It holds the TLS key and the routing secret, never the RSA message key.
package struct FrontendConfig: Sendable, Equatable {
  /// The server's copy: `max_poll`, `ca_certificate`, `Crypto`; the nonce may be absent.
  package var client: ClientSection
  package var frontend: FrontendSection
  package var datastore: DatastoreSection
  package var cryptoWorkers: CryptoWorkersSection
  package var monitoring = MonitoringSection()
  package var logging = LoggingSection()
  package var defaults = DefaultsSection()
  /// `obfuscation_nonce`: of the stock server whose agents this deployment took over, default none; reads the names that
  /// they still echo. It protects nothing.
  package var obfuscationNonce: String?

  /// Loads a file; refuses one that other users may read.
  ///
  /// - Throws: ``ConfigurationError``.
  package static func load(path: String) throws(ConfigurationError) -> FrontendConfig {
    let text = try ConfigFile.read(path)
    try ConfigFile.requirePrivate(path)
    return try parse(text: text, file: path)
  }

  /// Reads text.
  package static func parse(text: String, file: String) throws(ConfigurationError) -> FrontendConfig {
    let root = try SectionReader.file(text: text, file: file)
    _ = try root.section("version").map(BuildVersion.init)
    if root.has("CA") {
      throw root.wrong(
        "CA", "no such section", "one", remedy: "the CA key stays with the operator, away from frontends")
    }
    var config = FrontendConfig(
      client: try ClientSection(try root.required("Client"), use: .frontend),
      frontend: try FrontendSection(try root.required("Frontend")),
      datastore: try DatastoreSection(try root.required("Datastore")),
      cryptoWorkers: try CryptoWorkersSection(try root.required("CryptoWorkers")),
      monitoring: try root.section("Monitoring").map(MonitoringSection.init) ?? MonitoringSection(),
      logging: try root.section("Logging").map(LoggingSection.init) ?? LoggingSection(),
      defaults: try root.section("defaults").map(DefaultsSection.init) ?? DefaultsSection())
    config.obfuscationNonce = try root.string("obfuscation_nonce").flatMap { $0.isEmpty ? nil : $0 }
    _ = root.keep(["security"])
    try root.finish()
    return config
  }
}

/// `Frontend` in a frontend's file.
package struct FrontendSection: Sendable, Equatable {
  /// Where the TLS certificate and its key come from. Files win over inline PEM, `use_plain_http` over both.
  package enum TLS: Sendable, Equatable {
    /// `use_plain_http: true`: a proxy in front ends TLS.
    case plainHTTP
    /// `tls_certificate` and `tls_private_key`: PEM in this file; the key is secret.
    case inline(certificate: String, privateKey: String)
    /// `tls_certificate_filename` and `tls_private_key_filename`: PEM files.
    case files(certificate: String, privateKey: String)
  }

  /// `hostname`: text, default `localhost`; the deployment's public name.
  package var hostname = "localhost"
  /// `bind_address`: default `0.0.0.0`; `--bind-address` wins.
  package var bindAddress = "0.0.0.0"
  /// `bind_port`: default 8000, 0 lets the system choose; `--bind-port` wins.
  package var bindPort = 8000
  /// `base_path`: default empty; begins with `/` and does not end with one. It comes before every path.
  package var basePath = ""
  /// `certificate`: PEM; the RSA message certificate that `/server.pem` serves.
  package var certificate = ""
  package var tls = TLS.plainHTTP
  /// `require_client_certificates`: bool, default false.
  package var requireClientCertificates = false
  /// `proxy_header`: name of the header with the client's address, default none; used only from `trusted_proxies`.
  package var proxyHeader: String?
  /// `trusted_proxies`: addresses or CIDR ranges, default empty; whose `proxy_header` is believed.
  package var trustedProxies: [String] = []
  /// `proxy_protocol`: bool, default false; demand a PROXY header (version 1 or 2) on connections from `trusted_proxies`.
  /// `--proxy-protocol` does the same.
  package var proxyProtocol = false
  package var resources = ResourcesSection()

  package init() {}
}

extension FrontendSection {
  init(_ section: SectionReader) throws(ConfigurationError) {
    if section.has("private_key") {
      throw section.wrong(
        "private_key", "no such key in a frontend's file", "a private key",
        remedy: "the message key belongs in the crypto-worker's file; the TLS key is tls_private_key")
    }
    if let name = try section.string("hostname"), !name.isEmpty { hostname = name }
    if let address = try section.string("bind_address"), !address.isEmpty { bindAddress = address }
    bindPort = try section.port("bind_port") ?? bindPort
    basePath = try Self.basePath(section)
    certificate = try section.requiredPEM("certificate", "CERTIFICATE")
    tls = try Self.tls(section)
    requireClientCertificates = try section.boolean("require_client_certificates") ?? false
    proxyHeader = try section.string("proxy_header").flatMap { $0.isEmpty ? nil : $0 }
    trustedProxies = try section.strings("trusted_proxies")
    if proxyHeader != nil, trustedProxies.isEmpty {
      throw section.wrong(
        "proxy_header", "trusted_proxies beside it", "none",
        remedy: "list the proxies' addresses, for example: trusted_proxies: [127.0.0.1/32]")
    }
    proxyProtocol = try section.boolean("proxy_protocol") ?? false
    if proxyProtocol, trustedProxies.isEmpty {
      throw section.wrong(
        "proxy_protocol", "trusted_proxies beside it", "none",
        remedy: "list the proxies' addresses, for example: trusted_proxies: [127.0.0.1/32]")
    }
    if let reader = try section.section("resources") { resources = try ResourcesSection(reader) }
    _ = section.keep([
      "dyn_dns", "default_client_monitoring_artifacts", "default_server_monitoring_artifacts", "GRPC_pool_max_size",
      "GRPC_pool_max_wait", "do_not_compress_artifacts", "collection_error_regex",
    ])
    try section.finish()
  }

  private static func basePath(_ section: SectionReader) throws(ConfigurationError) -> String {
    guard var path = try section.string("base_path"), !path.isEmpty, path != "/" else { return "" }
    if path.hasSuffix("/") { path.removeLast() }
    guard path.hasPrefix("/"), !path.hasSuffix("/"), path.allSatisfy({ $0.isASCII && !$0.isWhitespace }) else {
      throw section.wrong("base_path", "a path such as /velo", SectionReader.shown(path))
    }
    return path
  }

  private static func tls(_ section: SectionReader) throws(ConfigurationError) -> TLS {
    let isPlain = try section.boolean("use_plain_http") ?? false
    let files = (try section.string("tls_certificate_filename"), try section.string("tls_private_key_filename"))
    let inline = [section.has("tls_certificate"), section.has("tls_private_key")]
    if isPlain { return .plainHTTP }
    switch files {
    case (.some(let certificate), .some(let key)): return .files(certificate: certificate, privateKey: key)
    case (.some, nil), (nil, .some):
      throw section.wrong(
        "tls_certificate_filename", "both tls_certificate_filename and tls_private_key_filename", "one of them")
    case (nil, nil) where inline.contains(true):
      return .inline(
        certificate: try section.requiredPEM("tls_certificate", "CERTIFICATE"),
        privateKey: try section.requiredPEM("tls_private_key", "PRIVATE KEY"))
    case (nil, nil):
      throw section.wrong(
        "tls_certificate", "a certificate and key, their file names, or use_plain_http: true", "none of them",
        remedy: "make a leaf with: microraptor config generate")
    }
  }
}

/// `CryptoWorkers` in a frontend's file: where the workers are.
package struct CryptoWorkersSection: Sendable, Equatable {
  /// `endpoints`: list of `ipc:///path`, `tcp://127.0.0.1:port` or `dns+tcp://localhost:port`; with `curve` also
  /// `tcp://host:port` and `dns+tcp://name:port`, whose addresses are looked up again every few seconds. A change of the
  /// list is taken up while running.
  package var endpoints: [WorkerEndpoint] = []
  /// `routing_secret`: base64 of 32 bytes, the same in all frontends; keys the choice of worker. Secret.
  package var routingSecret: [UInt8] = []

  /// `curve`: default none; needed for `tcp://` other than loopback. It holds exactly one peer: the workers' key.
  package var curve: CurveSection?

  package init(endpoints: [WorkerEndpoint], routingSecret: [UInt8], curve: CurveSection? = nil) {
    self.endpoints = endpoints
    self.routingSecret = routingSecret
    self.curve = curve
  }

  /// Reads an endpoint of the command line by the same rules as those of the file.
  package func endpoint(_ text: String) throws(WorkerEndpoint.Failure) -> WorkerEndpoint {
    try WorkerEndpoint(text, isEncrypted: curve != nil)
  }

  init(_ section: SectionReader) throws(ConfigurationError) {
    curve = try section.section("curve").map(CurveSection.init)
    if let curve, curve.peerPublicKeys.count != 1 {
      throw section.wrong("curve.peer_public_keys", "the workers' one public key", "\(curve.peerPublicKeys.count) keys")
    }
    for text in try section.strings("endpoints") {
      endpoints.append(try section.endpoint("endpoints", text, isEncrypted: curve != nil))
    }
    if endpoints.isEmpty {
      throw section.wrong("endpoints", "a list of at least one worker's endpoint", "none")
    }
    let text = try section.requiredString("routing_secret", "base64 of 32 random bytes")
    guard let bytes = Data(base64Encoded: text), bytes.count == 32 else {
      throw section.wrong("routing_secret", "base64 of 32 random bytes", "another text")
    }
    routingSecret = [UInt8](bytes)
    try section.finish()
  }
}

extension SectionReader {
  /// A section that must be there.
  func required(_ key: String) throws(ConfigurationError) -> SectionReader {
    guard let section = try section(key) else {
      throw wrong(key, "a section", "none", remedy: "make the file with: microraptor config generate")
    }
    return section
  }

  /// A text with a PEM block whose type ends in `type`. The text is never shown.
  func requiredPEM(_ key: String, _ type: String) throws(ConfigurationError) -> String {
    let text = try requiredString(key, "a PEM block \(type)")
    let hasBlock = text.split(whereSeparator: \.isNewline).contains {
      $0.hasPrefix("-----BEGIN ") && $0.hasSuffix("\(type)-----")
    }
    guard hasBlock else { throw wrong(key, "a PEM block \(type)", "another text") }
    return text
  }

  func endpoint(_ key: String, _ text: String, isEncrypted: Bool) throws(ConfigurationError) -> WorkerEndpoint {
    do throws(WorkerEndpoint.Failure) {
      return try WorkerEndpoint(text, isEncrypted: isEncrypted)
    } catch {
      throw wrong(key, error.expected, error.found, remedy: error.remedy)
    }
  }
}
