import Configuration
import NIOSSL
import Synchronization

/// The TLS of the agents' port as http.md §8 describes it. The certificate may be replaced while running: connections
/// that begin later get the new one.
final class ServerTLS: Sendable {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// A certificate chain with its key, ready for use.
  struct Loaded: Sendable {
    let context: NIOSSLContext
    /// The leaf's life, Unix seconds.
    let notBefore: Int64
    let notAfter: Int64
  }

  /// Where a certificate comes from, and what it is now.
  private struct State: Sendable {
    let files: (certificate: String, key: String)?
    let load: @Sendable () throws -> Loaded
    var loaded: Loaded
  }

  private let state: Mutex<State>

  init(files: (certificate: String, key: String)?, load: @escaping @Sendable () throws -> Loaded) throws {
    state = Mutex(State(files: files, load: load, loaded: try load()))
  }

  /// The certificate's and key's files; nil when they stand in the configuration.
  var files: (certificate: String, key: String)? { state.withLock { $0.files } }

  /// - Returns: nil for plain HTTP behind a proxy.
  static func make(_ frontend: FrontendSection, _ client: ClientSection) throws -> ServerTLS? {
    switch frontend.tls {
    case .plainHTTP: return nil
    case .inline(let certificate, let key):
      return try ServerTLS(files: nil) {
        try Self.load(frontend, client) {
          (
            try NIOSSLCertificate.fromPEMBytes(Array(certificate.utf8)),
            try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem)
          )
        }
      }
    case .files(let certificate, let key):
      return try ServerTLS(files: (certificate, key)) {
        try Self.load(frontend, client) {
          (try NIOSSLCertificate.fromPEMFile(certificate), try NIOSSLPrivateKey(file: key, format: .pem))
        }
      }
    }
  }

  var current: NIOSSLContext { state.withLock { $0.loaded.context } }

  /// When the certificate in use begins and ends to be valid, Unix seconds.
  var validity: ClosedRange<Int64> {
    let (from, to) = state.withLock { ($0.loaded.notBefore, $0.loaded.notAfter) }
    return from...max(from, to)
  }

  /// Takes up what the files hold now. When this throws, the certificate in use stays.
  func reload() throws {
    let load = state.withLock { $0.load }
    let new = try load()
    state.withLock { $0.loaded = new }
  }

  /// Takes over another one's certificate and source.
  func become(_ other: ServerTLS) {
    let new = other.state.withLock { $0 }
    state.withLock { $0 = new }
  }

  private static func load(
    _ frontend: FrontendSection, _ client: ClientSection,
    read: () throws -> (chain: [NIOSSLCertificate], key: NIOSSLPrivateKey)
  ) throws -> Loaded {
    let chain: [NIOSSLCertificate]
    let key: NIOSSLPrivateKey
    do {
      (chain, key) = try read()
    } catch {
      throw Failure(description: "the TLS certificate or key cannot be read: \(error)")
    }
    guard let leaf = chain.first else { throw Failure(description: "there is no TLS certificate in the file") }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
    configuration.minimumTLSVersion = client.crypto.allowWeakTLSServer ? .tlsv12 : .tlsv13
    configuration.applicationProtocols = ["h2", "http/1.1"]
    if frontend.requireClientCertificates {
      var roots = try NIOSSLCertificate.fromPEMBytes(Array(client.caCertificate.utf8))
      if !client.crypto.rootCerts.isEmpty {
        roots += try NIOSSLCertificate.fromPEMBytes(Array(client.crypto.rootCerts.utf8))
      }
      configuration.trustRoots = .certificates(roots)
      configuration.certificateVerification = .noHostnameVerification
    }
    do {
      let context = try NIOSSLContext(configuration: configuration)
      return Loaded(context: context, notBefore: Int64(leaf.notValidBefore), notAfter: Int64(leaf.notValidAfter))
    } catch {
      throw Failure(description: "the TLS certificate and key do not work together: \(error)")
    }
  }
}
