import CZeroMQ

/// The CURVE keys of one side of the link: its own pair, and the public keys of those it talks to.
package struct CurveKeys: Sendable, CustomStringConvertible {
  /// Why keys cannot be used. Never quotes a key.
  package struct Failure: Error, Sendable, Equatable, CustomStringConvertible {
    package let description: String
  }

  static let size = 32

  let publicKey: [UInt8]
  let secretKey: [UInt8]
  /// For a worker who may connect; for a frontend the workers' key first.
  let peers: [[UInt8]]

  /// - Parameters: each key is 40 characters of Z85.
  /// - Throws: ``Failure`` when one is not, when the pair does not belong together, or when there is no peer.
  package init(publicKey: String, secretKey: String, peerPublicKeys: [String]) throws(Failure) {
    self.publicKey = try Self.decode(publicKey, "public_key")
    self.secretKey = try Self.decode(secretKey, "secret_key")
    var peers: [[UInt8]] = []
    for key in peerPublicKeys { peers.append(try Self.decode(key, "peer_public_keys")) }
    self.peers = peers
    guard !peers.isEmpty else { throw Failure(description: "peer_public_keys: there is no key") }
    var derived = [CChar](repeating: 0, count: 41)
    guard zmq_curve_public(&derived, secretKey) == 0, Self.text(derived) == publicKey else {
      throw Failure(description: "public_key and secret_key do not belong together")
    }
  }

  /// A new pair, 40 characters of Z85 each.
  package static func generatePair() throws -> (publicKey: String, secretKey: String) {
    var publicKey = [CChar](repeating: 0, count: 41)
    var secretKey = [CChar](repeating: 0, count: 41)
    guard zmq_curve_keypair(&publicKey, &secretKey) == 0 else {
      throw ZMQError("CURVE keys (libzmq must be built with libsodium)")
    }
    return (text(publicKey), text(secretKey))
  }

  /// Without the secret.
  package var description: String { "CURVE keys for \(peers.count) peers" }

  private static func text(_ characters: [CChar]) -> String {
    String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func decode(_ text: String, _ key: String) throws(Failure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: size)
    // Other lengths would be written beyond the buffer.
    guard text.utf8.count == 40, text.allSatisfy(\.isASCII), zmq_z85_decode(&bytes, text) != nil else {
      throw Failure(description: "\(key): expected 40 characters of Z85")
    }
    return bytes
  }
}

extension ZMQSocket {
  /// The listening side. A ``KeyGate`` must be bound in the same context before: without one any key is let in.
  func setCurveServer(_ keys: CurveKeys) throws {
    try set(ZMQ_CURVE_SERVER, 1)
    try setBytes(ZMQ_CURVE_SECRETKEY, keys.secretKey)
    try setBytes(ZMQ_ZAP_DOMAIN, Array("microraptor".utf8))
  }

  /// The connecting side.
  func setCurveClient(_ keys: CurveKeys) throws {
    guard let server = keys.peers.first else { throw CurveKeys.Failure(description: "the workers' key is missing") }
    try setBytes(ZMQ_CURVE_SERVERKEY, server)
    try setBytes(ZMQ_CURVE_PUBLICKEY, keys.publicKey)
    try setBytes(ZMQ_CURVE_SECRETKEY, keys.secretKey)
  }
}
