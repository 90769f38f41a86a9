import Configuration

/// A base URL of `Client.server_urls` (http.md §1).
package struct BaseURL: Equatable, Sendable {
  private let url: ServerURL
  package let text: String

  /// - Throws: what is wrong and how it should look.
  package init(_ text: String) throws(AgentError) {
    guard let url = ServerURL(text) else {
      throw AgentError(
        .configuration, "server URL \"\(text)\" is not like https://name:8000/ (it must end in /)")
    }
    self.url = url
    self.text = text
  }

  package var usesTLS: Bool { url.scheme.isEncrypted }
  /// `wss://` and `ws://`: bodies travel as websocket messages (http.md §7).
  package var isWebSocket: Bool { url.scheme.isWebSocket }
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
  package var origin: String { "\(url.scheme.rawValue)://\(url.authority)" }

  /// The same server by HTTP: where server.pem is fetched, also by agents that speak websockets (http.md §7).
  package func httpForm() throws(AgentError) -> BaseURL {
    // "wss://…" and "ws://…" become "https://…" and "http://…".
    isWebSocket ? try BaseURL("http" + text.dropFirst(2)) : self
  }
}
