/// The agent's cryptographic end: which server is ours, and bodies to and from it.
package protocol ServerSession: Sendable {
  /// Checks server.pem (crypto.md §4) and makes its key the one bodies are sealed for.
  ///
  /// - Parameter rekey: drop the sessions even when the key is the known one.
  /// - Returns: the name in the certificate.
  /// - Throws: the reason for refusing it.
  func accept(serverPEM: [UInt8], rekey: Bool) throws -> String
  func seal(lists: [[UInt8]], compressed: Bool) throws -> [UInt8]
  /// Nil when the body is empty or only padding; throws for all that is not authentic.
  func open(_ body: [UInt8]) throws -> [[UInt8]]?
}
