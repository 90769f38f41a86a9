import CLibCrypto

/// Reads the names of queries that a stock server sent in place of the artifacts' names (wire.md §6).
///
/// This server sends plain names. Agents that it takes over from a stock one go on to echo what they were sent before:
/// results on their way, event tables they saved. Obfuscation is deterministic and no protection, so a frontend may
/// know the nonce.
package struct ObfuscatedNames: Sendable {
  private let key: [UInt8]
  /// Bytes of AES, and the hexadecimal digits of the shortest token.
  private static let block = 16
  private static let shortest = 2 * block
  /// No artifact's name is longer.
  private static let longest = 2 * 512

  /// - Parameter nonce: `obfuscation_nonce` of the stock server's file.
  package init(nonce: String) {
    key = Digest.sha256(Array(nonce.utf8))
  }

  /// The name behind a token: `$` and lower-case hexadecimal digits.
  /// - Returns: nil when the text is no token, or was made with another nonce.
  package func name(behind token: some Collection<UInt8>) -> String? {
    guard token.first == UInt8(ascii: "$") else { return nil }
    let digits = token.dropFirst()
    guard digits.count >= Self.shortest, digits.count <= Self.longest, digits.count % Self.shortest == 0 else {
      return nil
    }
    var bytes: [UInt8] = []
    var high: UInt8?
    for digit in digits {
      guard let value = Self.value(of: digit) else { return nil }
      if let first = high {
        bytes.append(first << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    return decrypt(bytes).flatMap { String(validating: $0, as: UTF8.self) }
  }

  /// Puts the names in place of all tokens in a text.
  /// - Returns: nil when there is none.
  package func restoring(_ text: some StringProtocol) -> String? {
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    var place = 0
    var isChanged = false
    while place < bytes.count {
      guard bytes[place] == UInt8(ascii: "$") else {
        result.append(bytes[place])
        place += 1
        continue
      }
      let end = bytes[(place + 1)...].firstIndex { Self.value(of: $0) == nil } ?? bytes.count
      if let name = name(behind: bytes[place..<end]) {
        result += name.utf8
        isChanged = true
      } else {
        result += bytes[place..<end]
      }
      place = end
    }
    return isChanged ? String(decoding: result, as: UTF8.self) : nil
  }

  private static func value(of digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: digit - 0x30
    case 0x61...0x66: digit - 0x61 + 10
    default: nil
    }
  }

  /// AES-256-CBC; the initialisation vector is the first half of the key.
  private func decrypt(_ cipherText: [UInt8]) -> [UInt8]? {
    guard let context = EVP_CIPHER_CTX_new() else { return nil }
    defer { EVP_CIPHER_CTX_free(context) }
    guard key.count == 32, EVP_DecryptInit_ex(context, EVP_aes_256_cbc(), nil, key, Array(key.prefix(Self.block))) == 1
    else { return nil }
    var plain = [UInt8](repeating: 0, count: cipherText.count + Self.block)
    var length: Int32 = 0
    var rest: Int32 = 0
    let isPlain = plain.withUnsafeMutableBufferPointer { buffer in
      guard let start = buffer.baseAddress,
        EVP_DecryptUpdate(context, start, &length, cipherText, Int32(cipherText.count)) == 1
      else { return false }
      return EVP_DecryptFinal_ex(context, start + Int(length), &rest) == 1
    }
    return isPlain ? Array(plain.prefix(Int(length + rest))) : nil
  }
}
