import Configuration
import SwiftProtobuf
import Wire

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
    let fields: ConfigValue
    do {
      fields = try ConfigValue.parse(text: yaml, file: "state")
    } catch {
      throw AgentError(.state, "it is not YAML")
    }
    guard case .section = fields else { throw AgentError(.state, "it is not a YAML mapping") }
    if case .integer(let seconds) = fields["install_time"] { installTime = UInt64(clamping: seconds) }
    privateKey = fields["private_key"]?.text ?? ""
    clientID = fields["client_id"]?.text ?? ""
    lastServerPEM = fields["last_server_pem"]?.text ?? ""
    eventTable = fields["event_queries"].flatMap(Self.table)
    guard !privateKey.isEmpty else { throw AgentError(.state, "it has no private_key") }
  }

  /// An unreadable table is fetched again from the server: our check-in then says version 0.
  private static func table(_ value: ConfigValue) -> Proto_VQLEventTable? {
    try? Proto_VQLEventTable(jsonUTF8Bytes: Array(value.json().utf8), options: Self.options)
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
