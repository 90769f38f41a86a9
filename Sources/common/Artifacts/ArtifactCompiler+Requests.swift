import VQL
import Wire

extension ArtifactCompiler {
  /// A flow that collects artifacts side by side.
  ///
  /// - Parameters:
  ///   - names: client artifacts.
  ///   - parameters: each goes to every artifact that has it.
  /// - Returns: a request with the collectors and, where an artifact says so, limits of the flow.
  /// - Throws: `ArtifactError`; `unknownParameter` when no artifact has a parameter.
  package func flowRequest(
    of names: [String], parameters: [String: String] = [:]
  ) throws(ArtifactError) -> Proto_FlowRequest {
    var request = Proto_FlowRequest()
    for (artifact, values) in try distribute(parameters, among: names) {
      guard artifact.isClient else {
        let remedy = artifact.isClientEvent ? "use `microraptor events set`" : "only CLIENT artifacts can be collected"
        throw ArtifactError(.wrongType, "\(artifact.name) is of type \(artifact.type): \(remedy)")
      }
      request.vqlclientActions += try collectors(of: artifact.name, parameters: values)
      // The most generous of several: each was tried alone.
      request.maxRows = max(request.maxRows, artifact.resources.maxRows)
      request.maxUploadBytes = max(request.maxUploadBytes, artifact.resources.maxUploadBytes)
    }
    let count = Int64(request.vqlclientActions.count)
    for index in request.vqlclientActions.indices {
      request.vqlclientActions[index].queryID = Int64(index) + 1
      request.vqlclientActions[index].totalQueries = count
    }
    return request
  }

  /// The standing queries of event artifacts (vql/flows.md §7), without a version.
  /// - Throws: as `flowRequest`.
  package func eventTable(
    of names: [String], parameters: [String: String] = [:]
  ) throws(ArtifactError) -> Proto_VQLEventTable {
    var table = Proto_VQLEventTable()
    for (artifact, values) in try distribute(parameters, among: names) {
      guard artifact.isClientEvent else {
        throw ArtifactError(
          .wrongType, "\(artifact.name) is no CLIENT_EVENT artifact: use `microraptor query --artifact`")
      }
      table.event += try collectors(of: artifact.name, parameters: values)
    }
    return table
  }

  private func distribute(
    _ parameters: [String: String], among names: [String]
  ) throws(ArtifactError) -> [(VQLArtifact, [String: String])] {
    var result: [(VQLArtifact, [String: String])] = []
    var left = Set(parameters.keys)
    for name in names {
      let artifact = try library.artifact(name)
      let known = Set(artifact.parameters.map(\.name))
      result.append((artifact, parameters.filter { known.contains($0.key) }))
      left.subtract(known)
    }
    if let stranger = left.min() {
      let known = result.flatMap { $0.0.parameters.map(\.name) }
      let owner = names.count == 1 ? "artifact \(names.first ?? "") has" : "the artifacts have"
      let list = known.isEmpty ? "there are none" : "there are \(known.joined(separator: ", "))"
      throw ArtifactError(.unknownParameter, "\(owner) no parameter \(stranger); \(list)")
    }
    return result
  }
}
