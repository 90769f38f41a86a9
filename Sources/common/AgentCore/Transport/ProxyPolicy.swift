import Configuration
import VQL

/// Which proxy a URL is reached through (client.md §9).
package struct ProxyPolicy: Sendable {
  private struct Expression: Sendable {
    var pattern: LinearExpression
    /// Absent: direct.
    var proxy: ProxyURL?
  }

  private var expressions: [Expression] = []
  private var http: ProxyURL?
  private var https: ProxyURL?
  private var environmentHTTP: ProxyURL?
  private var environmentHTTPS: ProxyURL?
  private var exceptions = NoProxyList("")

  /// No proxy for anything.
  package static let direct = ProxyPolicy()

  private init() {}

  /// - Parameters:
  ///   - proxy: `Client.proxy`.
  ///   - config: `Client.proxy_config`, which wins over it.
  ///   - environment: looked at when neither is given, and beside `config` unless that says otherwise.
  /// - Throws: what cannot be used, with the key it stands at.
  package init(
    proxy: String?, config: ProxyConfig?, environment: [String: String]
  ) throws(AgentError) {
    if let config {
      try read(config, environment)
    } else if let proxy, !proxy.isEmpty {
      http = try ProxyURL(proxy, from: "Client.proxy")
      https = http
    } else {
      try readEnvironment(environment)
    }
  }

  private mutating func read(_ config: ProxyConfig, _ environment: [String: String]) throws(AgentError) {
    if let pac = config.pac, !pac.isEmpty {
      throw AgentError(
        .configuration,
        "Client.proxy_config.pac: this version does not run PAC files; "
          + "write the proxies into proxy_config.http, https and proxy_url_regexp")
    }
    for (pattern, target) in config.urlRegexp.sorted(by: { $0.key < $1.key }) {
      let key = "Client.proxy_config.proxy_url_regexp"
      guard let expression = try? LinearExpression(pattern, ignoreCase: true) else {
        throw AgentError(.configuration, "\(key): \"\(pattern)\" is not a regular expression")
      }
      expressions.append(
        Expression(pattern: expression, proxy: target.isEmpty ? nil : try ProxyURL(target, from: "\(key).\(pattern)")))
    }
    if let text = config.http ?? config.https, !text.isEmpty {
      http = try ProxyURL(text, from: "Client.proxy_config.http")
    }
    if let text = config.https ?? config.http, !text.isEmpty {
      https = try ProxyURL(text, from: "Client.proxy_config.https")
    }
    if !config.ignoreEnvironment { try readEnvironment(environment) }
  }

  private mutating func readEnvironment(_ environment: [String: String]) throws(AgentError) {
    func value(_ name: String) -> String? {
      let found = environment[name] ?? environment[name.lowercased()]
      return found?.isEmpty == false ? found : nil
    }
    // In a web server's script this variable is a request header.
    if let text = value("HTTP_PROXY"), environment["REQUEST_METHOD"] == nil {
      environmentHTTP = try ProxyURL(text, from: "The variable HTTP_PROXY")
    }
    if let text = value("HTTPS_PROXY") {
      environmentHTTPS = try ProxyURL(text, from: "The variable HTTPS_PROXY")
    }
    exceptions = NoProxyList(value("NO_PROXY") ?? "")
  }

  /// The proxy for a request to one handler below a base URL; nil: none.
  ///
  /// Expressions are tested first, on the full URL; then the environment, then the scheme's proxy.
  package func proxy(for url: BaseURL, handler: String = "") -> ProxyURL? {
    let text = url.text + handler
    for expression in expressions where expression.pattern.matches(text) { return expression.proxy }
    if exceptions.contains(host: url.host, port: url.port) { return nil }
    let fromEnvironment = url.usesTLS ? environmentHTTPS : environmentHTTP
    if let fromEnvironment, !NoProxyList.isLoopback(url.host) { return fromEnvironment }
    return url.usesTLS ? https : http
  }
}
