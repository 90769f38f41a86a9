import Configuration

/// A base URL of `Client.server_urls` that this agent can talk to (http.md §1).
package struct BaseURL: Equatable, Sendable {
  private let url: ServerURL
  package let text: String

  /// - Throws: what is wrong and how it should look; websockets are named as not spoken by this version.
  package init(_ text: String) throws(AgentError) {
    guard let url = ServerURL(text) else {
      throw AgentError(
        .configuration, "server URL \"\(text)\" is not like https://name:8000/ (it must end in /)")
    }
    guard !url.scheme.isWebSocket else {
      throw AgentError(
        .configuration,
        "server URL \"\(text)\": this version does not speak websockets; use the https:// form of the URL")
    }
    self.url = url
    self.text = text
  }

  package var usesTLS: Bool { url.scheme.isEncrypted }
  package var host: String { url.host }
  package var port: Int { url.port }

  /// `host:port`, with brackets for IPv6.
  package var authority: String { url.authority }

  /// The value of the `Host` header.
  package var hostHeader: String {
    guard port == (usesTLS ? 443 : 80) else { return url.authority }
    return host.contains(":") ? "[\(host)]" : host
  }

  /// The path of one handler, with the mark of a followed redirect (http.md §6).
  package func target(_ handler: String, redirected: Bool) -> String {
    url.path + handler + (redirected ? "?r=1" : "")
  }

  /// Connections can be shared between URLs that agree in this.
  package var origin: String { "\(usesTLS ? "https" : "http")://\(url.authority)" }
}
