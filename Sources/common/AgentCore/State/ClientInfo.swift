import FoundationEssentials
import Wire

/// The `Server.Internal.ClientInfo` row of a check-in (client.md §3).
package enum ClientInfo {
  /// One JSON object; empty values are left out.
  static func row(settings: AgentSettings, facts: HostFacts, installTime: UInt64) -> String {
    let texts: [(String, String)] = [
      ("client_name", settings.versionName), ("client_version", settings.version), ("build_url", settings.buildURL),
      ("build_time", settings.buildTime),
    ]
    let host: [(String, String)] = [
      ("hostname", facts.hostname), ("fqdn", facts.fqdn), ("system", facts.system), ("release", facts.release),
      ("architecture", facts.architecture),
    ]
    var members = texts.filter { !$0.1.isEmpty }.map { "\(JSONText.quote($0.0)):\(JSONText.quote($0.1))" }
    if installTime > 0 { members.append("\"install_time\":\(installTime)") }
    members += host.filter { !$0.1.isEmpty }.map { "\(JSONText.quote($0.0)):\(JSONText.quote($0.1))" }
    if !settings.labels.isEmpty {
      members.append("\"labels\":[\(settings.labels.map(JSONText.quote).joined(separator: ","))]")
    }
    return "{\(members.joined(separator: ","))}\n"
  }

  package static func message(
    settings: AgentSettings, facts: HostFacts, installTime: UInt64, queryID: UInt64
  ) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = "F.Monitoring"
    message.vqlresponse.query.name = "Server.Internal.ClientInfo"
    message.vqlresponse.queryID = queryID
    message.vqlresponse.totalRows = 1
    message.vqlresponse.jsonlresponse = row(settings: settings, facts: facts, installTime: installTime)
    return message
  }
}

/// Writing JSON strings.
enum JSONText {
  static func quote(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\u{0}"..."\u{1F}", "\u{7F}":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
