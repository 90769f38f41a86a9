/// One of `Client.server_urls`: `https://`, `http://`, `wss://` or `ws://`, a host, maybe a port, a path ending in `/`.
package struct ServerURL: Sendable, Hashable, CustomStringConvertible {
  package enum Scheme: String, Sendable, CaseIterable {
    case https, http, wss, ws

    package var isEncrypted: Bool { self == .https || self == .wss }
    package var isWebSocket: Bool { self == .wss || self == .ws }
  }

  package let scheme: Scheme
  /// A DNS name or an address; IPv6 without its brackets.
  package let host: String
  /// The given port, else 443 or 80.
  package let port: Int
  /// Begins and ends in `/`.
  package let path: String
  /// The text as given.
  package let description: String

  /// `host:port`, with brackets for IPv6: the form of `fallback_addresses`.
  package var authority: String {
    host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }

  /// - Returns: nil when the text is not such a URL.
  package init?(_ text: String) {
    guard let colon = text.firstIndex(of: ":"), let scheme = Scheme(rawValue: text[..<colon].lowercased()) else {
      return nil
    }
    let rest = text[text.index(after: colon)...]
    guard rest.hasPrefix("//"), text.hasSuffix("/"), text.allSatisfy({ $0.isASCII && !$0.isWhitespace }) else {
      return nil
    }
    let afterSlashes = rest.dropFirst(2)
    guard let slash = afterSlashes.firstIndex(of: "/") else { return nil }
    let authority = afterSlashes[..<slash]
    let path = String(afterSlashes[slash...])
    guard !authority.contains("@"), !path.contains("?"), !path.contains("#") else { return nil }
    guard let (host, port) = Self.split(authority), !host.isEmpty else { return nil }
    self.scheme = scheme
    self.host = host
    self.port = port ?? (scheme.isEncrypted ? 443 : 80)
    self.path = path
    description = text
  }

  /// Host and optional port of `host`, `host:port`, `[v6]` or `[v6]:port`.
  static func split(_ authority: Substring) -> (host: String, port: Int?)? {
    if authority.hasPrefix("[") {
      guard let end = authority.firstIndex(of: "]") else { return nil }
      let host = String(authority[authority.index(after: authority.startIndex)..<end])
      let rest = authority[authority.index(after: end)...]
      if rest.isEmpty { return (host, nil) }
      guard rest.hasPrefix(":"), let port = port(rest.dropFirst()) else { return nil }
      return (host, port)
    }
    let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
    switch parts.count {
    case 1: return (String(parts[0]), nil)
    case 2: return port(parts[1]).map { (String(parts[0]), $0) }
    default: return nil
    }
  }

  private static func port(_ text: Substring) -> Int? {
    guard let port = Int(text), (1...65535).contains(port) else { return nil }
    return port
  }
}
