import Configuration
import NIOCore
import NIOSSL
import Synchronization

/// What the TLS rules need to know of certificates; bound to the PKI module in `ServerTrust`.
package protocol LeafRules: Sendable {
  /// Rule (a) of http.md §8: issued directly by the deployment CA, valid now, for servers, and carrying one of `names`.
  ///
  /// - Returns: why it is refused; nil when accepted.
  func refusal(ofLeaf der: [UInt8], names: [String]) -> String?
  /// SHA-256 of the DER form, lower-case hex.
  func thumbprint(ofLeaf der: [UInt8]) -> String
}

/// Decides on the server's TLS certificate (http.md §8).
struct TLSPolicy: Sendable {
  /// How one connection attempt is verified.
  enum Attempt: Sendable {
    /// By our own rules, whatever the public roots say.
    case ownRules
    /// By the usual chain and host name rules, on the system's roots and `root_certs`.
    case publicRoots
  }

  private let settings: TLSSettings
  private let pinnedName: String
  private let rules: any LeafRules
  private let contexts: ClientContexts

  init(settings: TLSSettings, caCertificate: String, pinnedName: String, rules: any LeafRules) throws {
    self.settings = settings
    self.pinnedName = pinnedName
    self.rules = rules
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.minimumTLSVersion = .tlsv12
    // A server that is busy with our request may not read our goodbye.
    configuration.shutdownTimeout = .milliseconds(250)
    var roots = try NIOSSLCertificate.fromPEMBytes(Array(caCertificate.utf8))
    if !settings.rootCertificates.isEmpty {
      roots += try NIOSSLCertificate.fromPEMBytes(Array(settings.rootCertificates.utf8))
    }
    if let path = settings.systemRoots { configuration.trustRoots = .file(path) }
    configuration.additionalTrustRoots = [.certificates(roots)]
    if !settings.clientCertificate.isEmpty {
      configuration.certificateChain = try NIOSSLCertificate.fromPEMBytes(Array(settings.clientCertificate.utf8))
        .map { .certificate($0) }
      configuration.privateKey = .privateKey(
        try NIOSSLPrivateKey(bytes: Array(settings.clientPrivateKey.utf8), format: .pem))
    }
    contexts = try ClientContexts(configuration)
  }

  /// The attempts to make, in order, until one is accepted. With `use_self_signed_ssl` and with THUMBPRINT_ONLY the
  /// public roots have no say.
  var attempts: [Attempt] {
    settings.useSelfSigned || settings.mode == .thumbprintOnly ? [.ownRules] : [.ownRules, .publicRoots]
  }

  /// Why our own rules refuse this chain; nil when they accept it.
  func refusal(ofChain chain: [[UInt8]], host: String) -> String? {
    guard let leaf = chain.first else { return "the server sent no certificate" }
    if settings.mode != .pki {
      if settings.thumbprints.contains(rules.thumbprint(ofLeaf: leaf)) { return nil }
      if settings.mode == .thumbprintOnly { return "Server certificate had no known thumbprint" }
    }
    return rules.refusal(ofLeaf: leaf, names: [pinnedName, host])
  }

  /// The TLS handler of one connection; `report` is told why our rules refused.
  func handler(
    for url: BaseURL, attempt: Attempt, report: @escaping @Sendable (String) -> Void,
    onChain: (@Sendable ([[UInt8]]) -> Void)? = nil
  ) throws -> NIOSSLClientHandler {
    // Over websockets the host is named in either mode (http.md §8).
    let name = settings.useSelfSigned && !url.isWebSocket ? pinnedName : url.host
    let serverName = Self.isAddress(name) ? nil : name
    let context = try contexts.context(webSocket: url.isWebSocket)
    switch attempt {
    case .publicRoots: return try NIOSSLClientHandler(context: context, serverHostname: serverName)
    case .ownRules:
      let policy = self
      return try NIOSSLClientHandler(context: context, serverHostname: serverName) { chain, promise in
        do {
          let ders = try chain.map { try $0.toDERBytes() }
          onChain?(ders)
          guard let reason = policy.refusal(ofChain: ders, host: url.host) else {
            return promise.succeed(.certificateVerified)
          }
          report(reason)
        } catch {
          report("its certificate cannot be read")
        }
        promise.succeed(.failed)
      }
    }
  }

  /// An IP address cannot be sent as a server name.
  private static func isAddress(_ name: String) -> Bool {
    (try? SocketAddress(ipAddress: name, port: 0)) != nil
  }
}

/// The TLS contexts of an agent: one that offers HTTP/2, and one without it for websockets, made when first needed
/// because each holds all roots.
private final class ClientContexts: Sendable {
  private let configuration: TLSConfiguration
  private let http: NIOSSLContext
  private let webSocket = Mutex<NIOSSLContext?>(nil)

  init(_ configuration: TLSConfiguration) throws {
    self.configuration = configuration
    http = try Self.make(configuration, ["h2", "http/1.1"])
  }

  func context(webSocket isWebSocket: Bool) throws -> NIOSSLContext {
    guard isWebSocket else { return http }
    return try webSocket.withLock { known in
      if let known { return known }
      let made = try Self.make(configuration, ["http/1.1"])
      known = made
      return made
    }
  }

  private static func make(_ configuration: TLSConfiguration, _ protocols: [String]) throws -> NIOSSLContext {
    var configuration = configuration
    configuration.applicationProtocols = protocols
    return try NIOSSLContext(configuration: configuration)
  }
}
