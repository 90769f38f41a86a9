import FoundationEssentials

/// A proxy, as `http://user:password@host:3128` or `host:3128` (client.md §9).
package struct ProxyURL: Hashable, Sendable, CustomStringConvertible {
  package let host: String
  package let port: Int
  /// Value of `Proxy-Authorization`; a secret, never logged.
  package let authorization: String?

  /// Without the credentials, for log lines.
  package var description: String { "http://" + (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }

  /// - Parameter key: where the text comes from, for the message.
  /// - Throws: what is wrong with it. The text itself may hold a password and is not repeated.
  package init(_ text: String, from key: String) throws(AgentError) {
    let whole = text.contains("://") ? text : "http://" + text
    guard let parts = URLComponents(string: whole), let host = parts.host, !host.isEmpty else {
      throw AgentError(.configuration, "\(key) is not a proxy URL like http://proxy.example.com:3128")
    }
    guard parts.scheme?.lowercased() == "http" else {
      throw AgentError(
        .configuration,
        "\(key): this version reaches proxies by http:// only, not by \(parts.scheme ?? ""):// "
          + "(https servers are reached through them all the same)")
    }
    self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    port = parts.port ?? 80
    guard (1...65_535).contains(port) else {
      throw AgentError(.configuration, "\(key) has the port \(port), which does not exist")
    }
    guard let user = parts.user else {
      authorization = nil
      return
    }
    let credentials = Data("\(user):\(parts.password ?? "")".utf8)
    authorization = "Basic " + credentials.base64EncodedString()
  }
}
