import NIOCore
import NIOHTTP1

/// Whose word is taken for a client's address (http.md §9): only that of proxies that are listed.
struct TrustedProxies: Sendable {
  /// An address range, such as `10.0.0.0/8` or `::1`.
  struct Range: Sendable, Equatable {
    private let bytes: [UInt8]
    private let bits: Int

    init?(_ text: String) {
      let parts = text.split(separator: "/", maxSplits: 1).map(String.init)
      guard let first = parts.first, let bytes = Self.bytes(first) else { return nil }
      var bits = bytes.count * 8
      if parts.count == 2 {
        guard let given = Int(parts[1]), (0...bits).contains(given) else { return nil }
        bits = given
      }
      self.bytes = bytes
      self.bits = bits
    }

    func contains(_ address: String) -> Bool {
      guard let other = Self.bytes(address), other.count == bytes.count else { return false }
      let whole = bits / 8
      guard other.prefix(whole) == bytes.prefix(whole) else { return false }
      guard bits % 8 != 0, whole < bytes.count else { return true }
      let mask = UInt8(truncatingIfNeeded: 0xff << (8 - bits % 8))
      return other[whole] & mask == bytes[whole] & mask
    }

    private static func bytes(_ text: String) -> [UInt8]? {
      guard let address = try? SocketAddress(ipAddress: text, port: 0) else { return nil }
      let bytes: [UInt8]
      switch address {
      case .v4(let v4): bytes = withUnsafeBytes(of: v4.address.sin_addr) { Array($0) }
      case .v6(let v6): bytes = withUnsafeBytes(of: v6.address.sin6_addr) { Array($0) }
      case .unixDomainSocket: return nil
      }
      // An IPv4 peer on a socket for both families appears as ::ffff:a.b.c.d.
      if bytes.count == 16, bytes.prefix(10).allSatisfy({ $0 == 0 }), bytes[10] == 0xff, bytes[11] == 0xff {
        return Array(bytes.suffix(4))
      }
      return bytes
    }
  }

  var header: String?
  var ranges: [Range]

  /// Whether the peer is one of the proxies.
  func contains(_ peer: SocketAddress?) -> Bool {
    guard let ip = peer?.ipAddress else { return false }
    return ranges.contains { $0.contains(ip) }
  }

  /// The address to show: the header's whole value when a trusted proxy sent it, else the peer as `ip:port`.
  func clientAddress(peer: SocketAddress?, headers: HTTPHeaders) -> String {
    let ip = peer?.ipAddress ?? ""
    if let header, ranges.contains(where: { $0.contains(ip) }), let value = headers.first(name: header) {
      return String(value.prefix(256))
    }
    return Self.text(of: peer)
  }

  /// An address as `ip:port`.
  static func text(of peer: SocketAddress?) -> String {
    let ip = peer?.ipAddress ?? ""
    guard let port = peer?.port else { return ip }
    return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
  }
}
