import Configuration
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// The listening socket and the pipeline of each connection.
struct FrontendServer {
  let group: any EventLoopGroup
  let router: Router
  let tls: NIOSSLContext?
  let connectionsPerSecond: Int

  /// Starts to listen.
  func start(address: String, port: Int) async throws -> any Channel {
    let router = router
    let tls = tls
    let limit = connectionsPerSecond
    return try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 1024)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        // Behind a proxy that ends TLS every connection comes from the proxy, which does its own limiting.
        guard tls != nil else { return channel.eventLoop.makeSucceededVoidFuture() }
        return channel.eventLoop.makeCompletedFuture {
          let limiter = AcceptLimiter(perSecond: limit) { router.metrics.shed.increment() }
          try channel.pipeline.syncOperations.addHandler(limiter)
        }
      }
      .childChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.socketOption(.so_keepalive), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
          try pipeline.configureHTTPServerPipeline(withErrorHandling: true)
          try pipeline.addHandler(ExchangeHandler(router: router))
        }
      }
      .bind(host: address, port: port)
      .get()
  }
}

/// TLS as http.md §8 describes it.
enum ServerTLS {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// - Returns: nil for plain HTTP behind a proxy.
  static func context(_ frontend: FrontendSection, _ client: ClientSection) throws -> NIOSSLContext? {
    let chain: [NIOSSLCertificate]
    let key: NIOSSLPrivateKey
    do {
      switch frontend.tls {
      case .plainHTTP: return nil
      case .inline(let certificate, let privateKey):
        chain = try NIOSSLCertificate.fromPEMBytes(Array(certificate.utf8))
        key = try NIOSSLPrivateKey(bytes: Array(privateKey.utf8), format: .pem)
      case .files(let certificate, let privateKey):
        chain = try NIOSSLCertificate.fromPEMFile(certificate)
        key = try NIOSSLPrivateKey(file: privateKey, format: .pem)
      }
    } catch {
      throw Failure(description: "the TLS certificate or key cannot be read: \(error)")
    }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
    configuration.minimumTLSVersion = client.crypto.allowWeakTLSServer ? .tlsv12 : .tlsv13
    configuration.applicationProtocols = ["http/1.1"]
    if frontend.requireClientCertificates {
      var roots = try NIOSSLCertificate.fromPEMBytes(Array(client.caCertificate.utf8))
      if !client.crypto.rootCerts.isEmpty {
        roots += try NIOSSLCertificate.fromPEMBytes(Array(client.crypto.rootCerts.utf8))
      }
      configuration.trustRoots = .certificates(roots)
      configuration.certificateVerification = .noHostnameVerification
    }
    do {
      return try NIOSSLContext(configuration: configuration)
    } catch {
      throw Failure(description: "the TLS certificate and key do not work together: \(error)")
    }
  }
}
