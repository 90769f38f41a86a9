import Glibc

/// The hosts of `NO_PROXY`: `*`, names with their subdomains, `.names` for the subdomains alone, addresses, networks
/// in CIDR form, each perhaps with a port (client.md §9).
struct NoProxyList: Sendable {
  private struct Network {
    var bytes: [UInt8]
    var bits: Int

    func contains(_ address: [UInt8]) -> Bool {
      guard address.count == bytes.count else { return false }
      for index in 0..<bytes.count {
        let kept = min(8, max(0, bits - index * 8))
        let mask = UInt8(truncatingIfNeeded: 0xFF00 >> kept)
        if (address[index] ^ bytes[index]) & mask != 0 { return false }
      }
      return true
    }
  }

  private enum Rule {
    case network(Network)
    case name(String, onlySubdomains: Bool, port: Int?)
    case address([UInt8], port: Int?)
  }

  private var matchesAll = false
  private var rules: [Rule] = []

  init(_ text: String) {
    for part in text.lowercased().split(whereSeparator: { $0 == "," || $0.isWhitespace }) {
      if part == "*" { matchesAll = true }
      if let rule = Self.rule(String(part)) { rules.append(rule) }
    }
  }

  /// Whether this host is reached without a proxy.
  func contains(host: String, port: Int) -> Bool {
    if matchesAll { return true }
    let host = host.lowercased()
    let address = Self.address(host)
    return rules.contains { rule in
      switch rule {
      case .network(let network): return address.map(network.contains) ?? false
      case .address(let bytes, let only): return address == bytes && (only ?? port) == port
      case .name(let name, let onlySubdomains, let only):
        guard address == nil, (only ?? port) == port else { return false }
        return host.hasSuffix("." + name) || (!onlySubdomains && host == name)
      }
    }
  }

  /// `localhost` and loopback addresses, which the environment's proxies are never used for.
  static func isLoopback(_ host: String) -> Bool {
    if host.lowercased() == "localhost" { return true }
    guard let bytes = address(host) else { return false }
    return bytes.count == 4 ? bytes[0] == 127 : bytes == [UInt8](repeating: 0, count: 15) + [1]
  }

  private static func rule(_ text: String) -> Rule? {
    if let slash = text.firstIndex(of: "/") {
      guard let bytes = address(String(text[..<slash])), let bits = Int(text[text.index(after: slash)...]),
        (0...bytes.count * 8).contains(bits)
      else { return nil }
      return .network(Network(bytes: bytes, bits: bits))
    }
    if let bytes = address(text) { return .address(bytes, port: nil) }
    var name = text
    var port: Int?
    if let colon = text.lastIndex(of: ":") {
      guard let number = Int(text[text.index(after: colon)...]) else { return nil }
      port = number
      name = String(text[..<colon])
    }
    if let bytes = address(name) { return .address(bytes, port: port) }
    if name.hasPrefix("*.") { name.removeFirst() }
    let onlySubdomains = name.hasPrefix(".")
    if onlySubdomains { name.removeFirst() }
    return name.isEmpty ? nil : .name(name, onlySubdomains: onlySubdomains, port: port)
  }

  /// The bytes of an IPv4 or IPv6 address; nil for names.
  private static func address(_ text: String) -> [UInt8]? {
    let bare = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
    var four = in_addr()
    if inet_pton(AF_INET, bare, &four) == 1 { return withUnsafeBytes(of: four) { Array($0) } }
    var six = in6_addr()
    if inet_pton(AF_INET6, bare, &six) == 1 { return withUnsafeBytes(of: six) { Array($0) } }
    return nil
  }
}
