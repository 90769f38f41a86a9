import VQL
import Wire

/// The definitions that travel with a request, because its queries call them (vql/flows.md §6, Dependencies).
struct ArtifactDependencies {
  private let library: ArtifactLibrary

  init(_ library: ArtifactLibrary) {
    self.library = library
  }

  /// - Parameters:
  ///   - texts: the statements of the request.
  ///   - name: the artifact they belong to, for messages.
  /// - Returns: what the texts call, and what those call, each once, in the order of their names.
  /// - Throws: `ArtifactError` when a called artifact is not known or does not parse.
  func definitions(calledBy texts: [String], of name: String) throws(ArtifactError) -> [Proto_Artifact] {
    var found: [String: Proto_Artifact] = [:]
    var open = Self.calls(in: texts).map { (name: $0, caller: name) }
    while let next = open.popLast() {
      guard found[next.name] == nil else { continue }
      let artifact: VQLArtifact
      do {
        artifact = try library.artifact(next.name)
      } catch {
        throw ArtifactError(.unknownArtifact, "artifact \(next.caller) needs \(next.name): \(error)")
      }
      let definition = try Self.reduced(artifact)
      found[next.name] = definition
      let inside =
        definition.sources.flatMap { $0.queries + [$0.precondition] } + [artifact.export, artifact.precondition]
      open += (Self.calls(in: inside) + artifact.imports).map { (name: $0, caller: artifact.name) }
    }
    return found.values.sorted { $0.name < $1.name }
  }

  /// What an agent needs of a definition.
  private static func reduced(_ artifact: VQLArtifact) throws(ArtifactError) -> Proto_Artifact {
    var result = Proto_Artifact()
    result.name = artifact.name
    result.type = artifact.type
    result.precondition = artifact.precondition
    result.export = artifact.export
    result.imports = artifact.imports
    result.parameters = artifact.parameters.map {
      var parameter = Proto_ArtifactParameter()
      parameter.name = $0.name
      parameter.type = $0.type
      parameter.default = $0.defaultValue
      return parameter
    }
    for item in artifact.sources {
      var source = Proto_ArtifactSource()
      source.name = item.name
      source.precondition = item.precondition
      for text in item.queries { source.queries += try statements(text, of: artifact.name) }
      result.sources.append(source)
    }
    return result
  }

  /// The names after `Artifact.` in calls.
  static func calls(in texts: [String]) -> [String] {
    var names: Set<String> = []
    for text in texts {
      // Regex values cannot be shared between threads, so each call makes its own.
      for match in text.matches(of: /\bArtifact\.([A-Za-z0-9_.]+)\s*\(/) { names.insert(String(match.output.1)) }
    }
    return names.sorted()
  }

  /// The statements of a text in canonical form; none for an empty text.
  static func statements(_ text: String, of artifact: String) throws(ArtifactError) -> [String] {
    guard !text.allSatisfy(\.isWhitespace) else { return [] }
    do throws(VQLError) {
      return try VQLParser.split(text)
    } catch {
      throw ArtifactError(.malformed, "artifact \(artifact) does not parse: \(error)")
    }
  }
}
