/// `CryptoWorkers.curve`: the keys that encrypt and authenticate the ZeroMQ link. With it every endpoint of the file
/// uses CURVE; without it only `ipc://` and loopback `tcp://` endpoints are accepted.
package struct CurveSection: Sendable, Equatable, CustomStringConvertible {
  /// `public_key`: 40 characters of Z85; this side's.
  package var publicKey: String
  /// `secret_key`: 40 characters of Z85; this side's. Secret.
  package var secretKey: String
  /// `peer_public_keys`: in a worker's file the frontends that may connect, in a frontend's file the workers' one key.
  package var peerPublicKeys: [String]

  package init(publicKey: String, secretKey: String, peerPublicKeys: [String]) {
    self.publicKey = publicKey
    self.secretKey = secretKey
    self.peerPublicKeys = peerPublicKeys
  }

  init(_ section: SectionReader) throws(ConfigurationError) {
    publicKey = try section.z85("public_key")
    secretKey = try section.z85("secret_key")
    peerPublicKeys = try section.strings("peer_public_keys")
    guard !peerPublicKeys.isEmpty, peerPublicKeys.allSatisfy(SectionReader.isZ85Key) else {
      throw section.wrong(
        "peer_public_keys", "a list of keys, each 40 characters of Z85",
        peerPublicKeys.isEmpty ? "none" : "another text")
    }
    try section.finish()
  }

  /// Without the secret.
  package var description: String { "CURVE key \(publicKey), \(peerPublicKeys.count) peers" }

  /// As it is written into the files.
  package var value: ConfigValue {
    .section([
      "public_key": .text(publicKey), "secret_key": .text(secretKey), "peer_public_keys": .texts(peerPublicKeys),
    ])
  }
}

extension SectionReader {
  /// A CURVE key. The text is never shown.
  func z85(_ key: String) throws(ConfigurationError) -> String {
    let expected = "40 characters of Z85"
    let text = try requiredString(key, expected)
    guard Self.isZ85Key(text) else { throw wrong(key, expected, "another text") }
    return text
  }

  static func isZ85Key(_ text: String) -> Bool {
    text.utf8.count == 40
      && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || ".-:+=^!/*?&<>()[]{}@%$#".contains($0)) }
  }
}
