import FoundationEssentials

/// One of `Frontend.previous_private_keys` in a crypto-worker's file: a message key that was rotated out and still
/// opens what agents wrapped for it, until they have all fetched the new certificate.
package struct PreviousKey: Sendable, Equatable {
  /// `private_key`: PEM. Secret.
  package var privateKey: String
  /// `certificate`: PEM; the message certificate that agents of this key hold.
  package var certificate: String
  /// `accept_until`: time as in `2026-12-31T00:00:00Z`; from then on the key opens nothing.
  package var acceptUntil: Date

  package init(privateKey: String, certificate: String, acceptUntil: Date) {
    self.privateKey = privateKey
    self.certificate = certificate
    self.acceptUntil = acceptUntil
  }

  init(_ section: SectionReader) throws(ConfigurationError) {
    privateKey = try section.requiredPEM("private_key", "PRIVATE KEY")
    certificate = try section.requiredPEM("certificate", "CERTIFICATE")
    let expected = "a time such as 2026-12-31T00:00:00Z"
    let text = try section.requiredString("accept_until", expected)
    guard let date = try? Date(text, strategy: .iso8601) else {
      throw section.wrong("accept_until", expected, SectionReader.shown(text))
    }
    acceptUntil = date
    try section.finish()
  }

  /// As it is written into the file.
  package var value: ConfigValue {
    .section([
      "private_key": .text(privateKey), "certificate": .text(certificate),
      "accept_until": .text(acceptUntil.formatted(.iso8601)),
    ])
  }
}
