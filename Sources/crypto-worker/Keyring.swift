import Configuration
import Foundation
import PKI

/// A message key's name within the deployment: from the hash of the key, so that all workers and frontends agree on it.
typealias KeyID = UInt64

/// One of the server's message keys: the current one, or one that `microraptor config rotate` replaced.
struct ServerKey: Sendable {
  let privateKey: RSAPrivateKey
  /// From then on the key opens nothing; nil for the current key.
  var acceptedUntil: Date?
  let id: KeyID

  init(privateKey: RSAPrivateKey, acceptedUntil: Date? = nil) {
    self.privateKey = privateKey
    self.acceptedUntil = acceptedUntil
    id = UInt64(privateKey.publicKey.clientID.rawValue.dropFirst(2), radix: 16) ?? 0
  }

  func isAccepted(at now: Date) -> Bool { acceptedUntil.map { now < $0 } ?? true }
}

/// What a worker's file says about keys and orgs; replaced as a whole when the file changes.
final class Keyring: Sendable {
  /// The current key first, then those that were rotated out.
  let keys: [ServerKey]
  /// Org id to nonce; the root org is empty.
  let orgs: [String: String]
  private let nonces: [String: String]

  init(keys: [ServerKey], orgs: [String: String]) {
    self.keys = keys
    self.orgs = orgs
    nonces = Dictionary(orgs.map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// The org of a nonce.
  func org(_ nonce: String) -> String? { nonces[nonce] }

  func key(_ id: KeyID) -> ServerKey? { keys.first { $0.id == id } }

  /// The key that a client is to be answered with: the one it knows, while it is accepted, else the current one.
  func key(preferring id: KeyID, at now: Date) -> ServerKey? {
    key(id).flatMap { $0.isAccepted(at: now) ? $0 : nil } ?? keys.first
  }
}

extension Keyring {
  /// The keys and orgs of a worker's file; each key has to belong to its certificate.
  /// - Parameter path: of the file, for errors.
  convenience init(_ file: WorkerConfig, path: String) throws {
    var orgs = file.orgs
    orgs[""] = file.nonce
    var keys = [ServerKey(privateKey: try Self.key(file.privateKey, file.certificate, path, "Frontend"))]
    // A key whose time is over is not even read into memory.
    for (index, previous) in file.previousKeys.enumerated() where previous.acceptUntil > Date() {
      let key = try Self.key(
        previous.privateKey, previous.certificate, path, "Frontend.previous_private_keys[\(index)]")
      keys.append(ServerKey(privateKey: key, acceptedUntil: previous.acceptUntil))
    }
    self.init(keys: keys, orgs: orgs)
  }

  private static func key(
    _ privateKey: String, _ certificate: String, _ file: String, _ path: String
  ) throws -> RSAPrivateKey {
    let key: RSAPrivateKey
    do throws(RSAPrivateKey.Failure) {
      key = try RSAPrivateKey(pem: privateKey)
    } catch {
      throw ConfigurationError(
        file: file, key: "\(path).private_key", expected: "an RSA key in PEM", found: "none that can be used: \(error)")
    }
    guard try Certificate(pem: certificate).rsaPublicKey() == key.publicKey else {
      throw ConfigurationError(
        file: file, key: "\(path).certificate", expected: "the certificate of \(path).private_key",
        found: "the certificate of another key")
    }
    return key
  }
}
