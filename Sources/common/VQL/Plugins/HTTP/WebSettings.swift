/// How `http_client()` reaches the network: what the agent's configuration says of roots, verification and proxies.
package struct VQLWebSettings: Sendable {
  /// A proxy that is spoken to in plain text.
  package struct Proxy: Sendable {
    package var host: String
    package var port: Int
    /// The value of the header `Proxy-Authorization`; nil: none.
    package var authorization: String?

    package init(host: String, port: Int, authorization: String? = nil) {
      self.host = host
      self.port = port
      self.authorization = authorization
    }
  }

  /// Roots that are trusted beside the system's, PEM.
  package var trustedRoots = ""
  /// A name that a certificate may carry instead of the host's: a deployment's own servers.
  package var pinnedName: String?
  /// False: a query cannot switch verification off.
  package var mayIgnoreCertificates = true
  /// The proxy for a request; nil: none.
  package var proxy: @Sendable (_ isTLS: Bool, _ host: String, _ port: Int) throws -> Proxy? = { _, _, _ in nil }

  package init() {}
}
