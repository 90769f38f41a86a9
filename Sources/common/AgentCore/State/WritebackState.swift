import Foundation
import SwiftProtobuf
import Wire
import Yams

/// The content of the state file (client.md §2.1).
package struct WritebackState: Equatable, Sendable {
  /// Unix seconds of the first start.
  package var installTime: UInt64 = 0
  /// PEM, PKCS#1.
  package var privateKey = ""
  /// For people; the id is computed from the key where it matters.
  package var clientID = ""
  package var lastServerPEM = ""
  /// The last event table of the server.
  package var eventTable: Proto_VQLEventTable?

  package init() {}

  /// - Throws: when the text is not such a file.
  init(yaml: String) throws(AgentError) {
    let loaded: Any?
    do {
      loaded = try Yams.load(yaml: yaml)
    } catch {
      throw AgentError(.state, "it is not YAML")
    }
    guard let fields = loaded as? [String: Any] else { throw AgentError(.state, "it is not a YAML mapping") }
    installTime = UInt64(clamping: fields["install_time"] as? Int ?? 0)
    privateKey = fields["private_key"] as? String ?? ""
    clientID = fields["client_id"] as? String ?? ""
    lastServerPEM = fields["last_server_pem"] as? String ?? ""
    eventTable = fields["event_queries"].flatMap(Self.table)
    guard !privateKey.isEmpty else { throw AgentError(.state, "it has no private_key") }
  }

  private static func table(_ value: Any) -> Proto_VQLEventTable? {
    guard JSONSerialization.isValidJSONObject(value),
      let data = try? JSONSerialization.data(withJSONObject: value)
    else { return nil }
    // An unreadable table is fetched again from the server: our check-in then says version 0.
    return try? Proto_VQLEventTable(jsonUTF8Bytes: Array(data), options: Self.options)
  }

  private static var options: JSONDecodingOptions {
    var options = JSONDecodingOptions()
    options.ignoreUnknownFields = true
    return options
  }

  /// The file's text.
  ///
  /// - Parameter identityOnly: level 1 holds only the identity.
  func yaml(identityOnly: Bool) -> String {
    var text = "install_time: \(installTime)\n"
    text += "private_key: |\n" + Self.block(privateKey)
    text += "client_id: \(clientID)\n"
    guard !identityOnly else { return text }
    if !lastServerPEM.isEmpty { text += "last_server_pem: |\n" + Self.block(lastServerPEM) }
    // JSON is YAML in flow style.
    if let eventTable, let json = try? eventTable.jsonString() { text += "event_queries: \(json)\n" }
    return text
  }

  private static func block(_ text: String) -> String {
    text.split(separator: "\n").map { "  \($0.filter { $0.isASCII && $0 != "\r" })\n" }.joined()
  }

  /// The identity of `other`, the rest of this.
  func with(identityOf other: WritebackState) -> WritebackState {
    var merged = self
    merged.installTime = other.installTime
    merged.privateKey = other.privateKey
    merged.clientID = other.clientID
    return merged
  }
}
