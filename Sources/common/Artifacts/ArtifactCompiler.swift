import VQL
import Wire

/// Compiles artifacts into what agents run (vql/flows.md §6).
package struct ArtifactCompiler: Sendable {
  let library: ArtifactLibrary

  package init(_ library: ArtifactLibrary) {
    self.library = library
  }

  /// The collectors of an artifact that is collected in a flow, or of one for an event table.
  ///
  /// - Parameters:
  ///   - name: a definition of the library.
  ///   - parameters: values by parameter name; the others have their defaults.
  /// - Returns: collectors without `query_id`, in the order of the sources.
  /// - Throws: `ArtifactError`.
  package func collectors(
    of name: String, parameters: [String: String] = [:]
  ) throws(ArtifactError) -> [Proto_VQLCollectorArgs] {
    let artifact = try library.artifact(name)
    try check(parameters.keys, of: artifact)
    guard !artifact.sources.isEmpty else { throw ArtifactError(.malformed, "artifact \(name) has no sources") }
    // Sources with preconditions of their own, and event sources, run apart.
    let hasOwn = artifact.sources.contains { !$0.precondition.isEmpty }
    let split = artifact.isClientEvent || (artifact.precondition.isEmpty && hasOwn)
    let groups = split ? artifact.sources.map { [$0] } : [artifact.sources]
    var collectors: [Proto_VQLCollectorArgs] = []
    for group in groups {
      let own = split ? group.first?.precondition ?? "" : ""
      let precondition = own.isEmpty ? artifact.precondition : own
      collectors.append(try collector(artifact, group, precondition: precondition, parameters))
    }
    return collectors
  }

  private func check(_ names: some Sequence<String>, of artifact: VQLArtifact) throws(ArtifactError) {
    let known = artifact.parameters.map(\.name)
    for name in names.sorted() where !known.contains(name) {
      let list = known.isEmpty ? "it has none" : "it has \(known.joined(separator: ", "))"
      throw ArtifactError(.unknownParameter, "artifact \(artifact.name) has no parameter \(name); \(list)")
    }
  }

  private func collector(
    _ artifact: VQLArtifact, _ sources: [VQLArtifact.Source], precondition: String, _ values: [String: String]
  ) throws(ArtifactError) -> Proto_VQLCollectorArgs {
    var collector = Proto_VQLCollectorArgs()
    let preamble = artifact.parameters.flatMap { VQLArtifact.preamble(for: $0) }
    var shared = try statements(artifact.export, of: artifact)
    for name in artifact.imports {
      let imported = try library.artifact(name)
      shared += try statements(imported.export, of: imported)
    }
    collector.query = (preamble + shared).map { Self.request($0) }
    var texts = shared
    for source in sources {
      var queries: [String] = []
      for text in source.queries { queries += try statements(text, of: artifact) }
      guard let last = queries.last else {
        throw ArtifactError(.malformed, "a source of artifact \(artifact.name) has no query")
      }
      collector.query += queries.dropLast().map { Self.request($0) }
      let name = artifact.name + (source.name.isEmpty ? "" : "/\(source.name)")
      collector.query.append(Self.request(last, name: name))
      texts += queries
    }
    collector.env = artifact.parameters.map { parameter in
      var variable = Proto_VQLEnv()
      variable.key = parameter.name
      variable.value = values[parameter.name] ?? parameter.defaultValue
      return variable
    }
    if !precondition.isEmpty {
      let conditions = try statements(precondition, of: artifact)
      collector.precondition = (preamble + conditions).joined(separator: "\n")
      texts += conditions
    }
    collector.artifacts = try ArtifactDependencies(library).definitions(calledBy: texts, of: artifact.name)
    apply(artifact.resources, to: &collector)
    return collector
  }

  private func apply(_ resources: VQLArtifact.Resources, to collector: inout Proto_VQLCollectorArgs) {
    collector.timeout = resources.timeout
    collector.opsPerSecond = resources.operationsPerSecond
    collector.cpuLimit = resources.cpuLimit
    collector.iopsLimit = resources.iopsLimit
    collector.maxWait = resources.maxBatchWait
    // What the reference sends when nobody chose.
    collector.maxRow = resources.maxBatchRows == 0 ? 1_000 : resources.maxBatchRows
    collector.maxRowBufferSize = resources.maxBatchRowsBuffer
  }

  private static func request(_ text: String, name: String = "") -> Proto_VQLRequest {
    var request = Proto_VQLRequest()
    request.vql = text
    request.name = name
    return request
  }

  private func statements(_ text: String, of artifact: VQLArtifact) throws(ArtifactError) -> [String] {
    try ArtifactDependencies.statements(text, of: artifact.name)
  }
}
