import CLibCrypto

/// A client's name, `C.` and 16 lower-case hexadecimal digits, derived from its public key (crypto.md §2).
package struct ClientID: Hashable, Sendable, CustomStringConvertible {
  /// The text form, for example `C.8a308bbec3bb463e`.
  package let rawValue: String

  package var description: String { rawValue }

  /// Accepts exactly `C.` + 16 lower-case hexadecimal digits.
  package init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard bytes.count == 18, bytes.starts(with: "C.".utf8) else { return nil }
    let digits = bytes.dropFirst(2).allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    guard digits else { return nil }
    rawValue = text
  }

  /// The id of the RSA key with this modulus.
  /// - Parameter modulus: big endian; leading zero bytes are ignored.
  package init(modulus: [UInt8]) {
    let stripped = modulus.drop { $0 == 0 }
    let length = UInt32(truncatingIfNeeded: stripped.count + 1)
    var input: [UInt8] = (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * UInt32($0))) }
    input.append(0)
    input.append(contentsOf: stripped)
    rawValue = "C." + Digest.sha256(input).prefix(8).map(Self.hex).joined()
  }

  private static func hex(_ byte: UInt8) -> String {
    let text = String(byte, radix: 16)
    return byte < 16 ? "0" + text : text
  }
}

/// Hashes of public values.
package enum Digest {
  /// SHA-256, 32 bytes.
  package static func sha256(_ bytes: [UInt8]) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
      var length = 0
      let ok = EVP_Q_digest(nil, "SHA256", nil, bytes, bytes.count, buffer.baseAddress, &length)
      count = ok == 1 ? length : 0
    }
  }
}

/// The name of a client on the server side: the id, and the org whose nonce it used (crypto.md §2).
package struct ClientName: Hashable, Sendable, CustomStringConvertible {
  package let id: ClientID
  /// Empty for the root org.
  package let org: String

  package init(id: ClientID, org: String = "") {
    self.id = id
    self.org = org == "root" ? "" : org
  }

  /// Reads `C.…` or `C.…-O…`.
  package init?(_ text: String) {
    let parts = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard let first = parts.first, let id = ClientID(String(first)) else { return nil }
    let org = parts.count > 1 ? String(parts[1]) : ""
    guard parts.count == 1 || OrgID.isWellFormed(org) else { return nil }
    self.init(id: id, org: org)
  }

  package var description: String { org.isEmpty ? id.rawValue : "\(id.rawValue)-\(org)" }
}

/// Tenants' ids: `O` and characters of base32hex; the root org has the empty id.
package enum OrgID {
  package static func isWellFormed(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard (2...32).contains(bytes.count), bytes.first == UInt8(ascii: "O") else { return false }
    return bytes.dropFirst().allSatisfy {
      (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
    }
  }
}
