import Glibc

/// An IPv4 or IPv6 address: 4 or 16 bytes.
struct IPAddress: Equatable {
  let bytes: [UInt8]
  init(_ bytes: [UInt8]) { self.bytes = bytes }

  init?(text: String) {
    var buffer = [UInt8](repeating: 0, count: 16)
    let family = text.contains(":") ? AF_INET6 : AF_INET
    guard inet_pton(family, text, &buffer) == 1 else { return nil }
    bytes = Array(buffer.prefix(family == AF_INET ? 4 : 16))
  }

  /// An IPv4 address inside an IPv6 one counts as the IPv4 address.
  var plain: IPAddress {
    let mapped = bytes.count == 16 && bytes.prefix(10).allSatisfy { $0 == 0 } && bytes[10] == 255 && bytes[11] == 255
    return mapped ? IPAddress(Array(bytes[12...])) : self
  }

  var text: String {
    guard bytes.count == 4 || bytes.count == 16 else { return "" }
    var out = [CChar](repeating: 0, count: 64)
    var copy = bytes
    let found = inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, &copy, &out, 64)
    return found.map { String(cString: $0) } ?? ""
  }

  func isInside(_ network: IPAddress, prefix: Int) -> Bool {
    guard bytes.count == network.bytes.count, prefix >= 0, prefix <= bytes.count * 8 else { return false }
    for place in bytes.indices {
      let bits = max(0, min(8, prefix - place * 8))
      let mask = bits == 0 ? UInt8(0) : UInt8(truncatingIfNeeded: 0xFF << (8 - bits))
      if bytes[place] & mask != network.bytes[place] & mask { return false }
    }
    return true
  }

  private static let privateNetworks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]

  static func network(_ text: String) -> (IPAddress, Int)? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = IPAddress(text: String(parts[0])), let prefix = Int(parts[1]), prefix >= 0,
      prefix <= address.bytes.count * 8
    else { return nil }
    return (address, prefix)
  }

  private func isIn(_ networks: [String]) -> Bool {
    networks.contains { text in Self.network(text).map { isInside($0.0, prefix: $0.1) } ?? false }
  }

  var isPrivate: Bool { isIn(Self.privateNetworks) }
  var isLoopback: Bool { isIn(["127.0.0.0/8", "::1/128"]) }
  var isMulticast: Bool { isIn(["224.0.0.0/4", "ff00::/8"]) }
  var isLinkLocal: Bool { isIn(["169.254.0.0/16", "fe80::/10"]) }
  var isLinkLocalMulticast: Bool { isIn(["224.0.0.0/24", "ff02::/16"]) }
  var isUnspecified: Bool { bytes.allSatisfy { $0 == 0 } }
  var isGlobalUnicast: Bool {
    !isUnspecified && !isLoopback && !isMulticast && !isLinkLocal
      && !(bytes.count == 4 && bytes.allSatisfy { $0 == 255 })
  }
}
