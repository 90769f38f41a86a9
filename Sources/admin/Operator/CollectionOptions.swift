import ArgumentParser
import Artifacts
import Wire

/// What is to be run on clients, as `query` and `hunt create` take it: VQL text or artifacts, and limits.
struct CollectionOptions: ParsableArguments {
  @OptionGroup var folders: ArtifactFolders
  @Option(name: .long, help: "Collect this artifact instead of a VQL text; may be repeated.")
  var artifact: [String] = []
  @Option(
    name: .customLong("param"),
    help: ArgumentHelp(
      "A parameter of the artifacts; may be repeated. It goes to every artifact that has it.", valueName: "name=value"))
  var parameters: [String] = []
  @Option(name: .long, help: "Seconds the query may run on the client (the artifact's own limit, or 600).")
  var timeout: Int?
  @Option(name: .long, help: "Rows after which a client stops (the artifact's own limit, or 1000000).")
  var maxRows: Int?
  @Flag(name: .long, help: "Pass other flows of the client.")
  var urgent = false

  func validate() throws {
    if let timeout, timeout <= 0 { throw ValidationError("--timeout must be at least 1") }
    if let maxRows, maxRows <= 0 { throw ValidationError("--max-rows must be at least 1") }
    if artifact.isEmpty, !parameters.isEmpty { throw ValidationError("--param needs --artifact") }
    for pair in parameters where !pair.contains("=") {
      throw ValidationError("--param expects NAME=VALUE, found \(pair)")
    }
  }

  /// - Parameter vql: the text to run when no artifacts are named.
  /// - Throws: `CommandFailure`.
  func builder(vql: String) throws -> FlowRequestBuilder {
    var builder: FlowRequestBuilder
    if artifact.isEmpty {
      builder = FlowRequestBuilder(statements: try Statements.split(vql))
    } else {
      do {
        let compiler = ArtifactCompiler(try folders.library())
        builder = FlowRequestBuilder(
          artifacts: try compiler.flowRequest(of: artifact, parameters: Self.pairs(parameters)))
      } catch let error as ArtifactError {
        throw CommandFailure(.usage, "\(error)")
      }
    }
    builder.timeout = timeout.map(UInt64.init)
    builder.maxRows = maxRows.map(UInt64.init)
    builder.isUrgent = urgent
    _ = try builder.request()
    return builder
  }

  /// The last of several values of one name counts.
  static func pairs(_ texts: [String]) -> [String: String] {
    var pairs: [String: String] = [:]
    for text in texts {
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      if let name = parts.first { pairs[String(name)] = parts.count > 1 ? String(parts[1]) : "" }
    }
    return pairs
  }
}
