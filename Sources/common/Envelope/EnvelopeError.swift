/// Why a body was not opened or sealed. The text goes to logs; a peer only ever sees that it failed (crypto.md §6).
package struct EnvelopeError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: UInt8, Sendable, CaseIterable {
    /// The outer message is not protobuf.
    case malformed = 1
    /// RSA-OAEP failed: another server's key, or damaged.
    case decryption = 2
    /// The MAC is wrong, missing or of the wrong length.
    case hmac = 3
    /// A ciphertext is empty or not whole blocks, or an IV is not 16 bytes.
    case cipherText = 4
    /// PKCS#7 padding is not 1 to 16 equal bytes.
    case padding = 5
    /// Session properties other than `aes_128_cbc` with full HMAC and 16-byte keys.
    case cipherProperties = 6
    /// The decrypted metadata or packed list is not protobuf.
    case innerMessage = 7
    /// The nonce belongs to no org, or to another org than the session.
    case nonce = 8
    /// The source is not a client id, or carries a suffix that is not the org of the nonce.
    case source = 9
    /// The signature is not of the named sender's key, or the key is not the one the name is derived from.
    case signature = 10
    /// The body has no session where one is needed.
    case noSession = 11
    /// No key is known for the destination.
    case noDestination = 12
    /// libcrypto failed for a reason of its own (memory).
    case libcrypto = 13
  }

  package let code: Code
  package let detail: String

  package init(_ code: Code, _ detail: String = "") {
    self.code = code
    self.detail = detail
  }

  /// Errors are equal by code.
  package static func == (left: EnvelopeError, right: EnvelopeError) -> Bool { left.code == right.code }

  package var description: String {
    let text =
      switch code {
      case .malformed: "body is not a valid protobuf message"
      case .decryption: "RSA decryption error: the session was wrapped for another server key, or is damaged"
      case .hmac: "HMAC did not verify"
      case .cipherText: "ciphertext or IV has an invalid length"
      case .padding: "Padding error"
      case .cipherProperties: "unsupported session properties (need aes_128_cbc, full HMAC and 16-byte keys)"
      case .innerMessage: "decrypted message is not valid protobuf"
      case .nonce: "nonce is not valid for this deployment"
      case .source: "source is not a valid name for the org of its nonce"
      case .signature: "session signature did not verify"
      case .noSession: "body holds no session"
      case .noDestination: "No certificate found for destination"
      case .libcrypto: "libcrypto failed"
      }
    return detail.isEmpty ? text : "\(text) (\(detail))"
  }
}
