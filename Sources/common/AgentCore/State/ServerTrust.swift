import Envelope
import FoundationEssentials
import Glibc
import PKI
import PublicIdentity
import Synchronization

/// `ServerSession` on the real envelope and certificate rules.
package final class ServerTrust: ServerSession {
  private let envelope: AgentEnvelope
  private let check: ServerCertificateCheck
  private let known = Mutex<RSAPublicKey?>(nil)
  private let now: @Sendable () -> Date

  /// - Throws: when the deployment CA of the configuration cannot be read.
  package init(
    settings: AgentSettings, privateKey: RSAPrivateKey, now: @escaping @Sendable () -> Date = { Date() }
  ) throws(AgentError) {
    self.now = now
    envelope = AgentEnvelope(privateKey: privateKey, nonce: settings.nonce)
    do throws(PKIError) {
      check = try ServerCertificateCheck(caPEM: settings.caCertificate, pinnedName: settings.pinnedServerName)
    } catch {
      throw AgentError(.configuration, "Client.ca_certificate cannot be read: \(error)")
    }
  }

  package func accept(serverPEM: [UInt8], rekey: Bool) throws -> String {
    let accepted = try check.verify(String(decoding: serverPEM, as: UTF8.self), now: now())
    // All frontends of a deployment share the key: a change of frontend need not cost an RSA operation on both sides.
    let isKnown = known.withLock { known in
      defer { known = accepted.publicKey }
      return known == accepted.publicKey
    }
    if rekey || !isKnown { envelope.setServer(name: accepted.name, publicKey: accepted.publicKey) }
    return accepted.name
  }

  package func seal(lists: [[UInt8]], compressed: Bool) throws -> [UInt8] {
    try envelope.seal(lists: lists, compressed: compressed)
  }

  package func open(_ body: [UInt8]) throws -> [[UInt8]]? {
    try envelope.open(body)
  }
}

/// TLS rule (a) of http.md §8 on the deployment CA.
package struct DeploymentLeafRules: LeafRules {
  private let anchors: TrustAnchors
  private let now: @Sendable () -> Date

  package init(caCertificate: String, now: @escaping @Sendable () -> Date = { Date() }) throws(AgentError) {
    self.now = now
    do throws(PKIError) {
      anchors = try TrustAnchors(pem: caCertificate)
    } catch {
      throw AgentError(.configuration, "Client.ca_certificate cannot be read: \(error)")
    }
  }

  package func refusal(ofLeaf der: [UInt8], names: [String]) -> String? {
    do throws(PKIError) {
      try anchors.verifyLeaf(der, at: now())
      let certificate = try Certificate(der: der)
      // API and gateway certificates carry the same usages: only the name tells them from a frontend's.
      let carried = [certificate.name] + certificate.dnsNames + certificate.ipAddresses
      let wanted = Set(names.map { $0.lowercased() })
      guard carried.contains(where: { wanted.contains($0.lowercased()) }) else {
        return "it is of our CA, but for \(certificate.name), not for \(names.joined(separator: " or "))"
      }
      return nil
    } catch {
      return error.description
    }
  }

  package func thumbprint(ofLeaf der: [UInt8]) -> String {
    Digest.sha256(der).map { byte in
      let digits = String(byte, radix: 16)
      return digits.count == 1 ? "0" + digits : digits
    }.joined()
  }
}
