import PublicIdentity
import Wire

/// The flow that asks a new client who it is (server.md §6, client.md §11).
///
/// It is the compiled artifact `Generic.Client.Info`, as data, because a frontend has no query engine; a test keeps the
/// two equal. It uses nothing that an agent of the reference lacks.
package enum Interrogation {
  package static let artifact = "Generic.Client.Info"

  private static let statements = [
    "LET Cards = SELECT HardwareAddrString FROM interfaces() WHERE HardwareAddrString",
    "SELECT config.Version.Name AS Name, config.Version.BuildTime AS BuildTime, config.Version.Version AS Version, "
      + "config.Version.ci_build_url AS build_url, config.Version.install_time AS install_time, config.Labels AS Labels, "
      + "Hostname, OS, Architecture, Platform, PlatformVersion, KernelVersion, Fqdn, "
      + "Cards.HardwareAddrString AS MACAddresses FROM info()",
  ]

  /// What every new client runs.
  package static var request: Proto_FlowRequest {
    var action = Proto_VQLCollectorArgs()
    action.query = statements.map { text in
      var query = Proto_VQLRequest()
      query.vql = text
      return query
    }
    action.query[action.query.count - 1].name = "\(artifact)/BasicInformation"
    action.maxRow = 1_000
    action.queryID = 1
    action.totalQueries = 1
    var request = Proto_FlowRequest()
    request.vqlclientActions = [action]
    return request
  }

  static func task(for client: ClientName, flow: FlowID) -> NewTask {
    var message = Proto_VeloMessage()
    message.sessionID = flow.text
    message.requestID = 1
    message.flowRequest = request
    message.flowRequest.logBatchTime = 1_000
    return NewTask(client: client, message: message)
  }
}
