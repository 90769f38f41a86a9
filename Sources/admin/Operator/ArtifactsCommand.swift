import ArgumentParser
import Artifacts
import VQL

/// `microraptor artifacts`.
struct ArtifactsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "artifacts", abstract: "List or show the artifacts that can be collected.",
    subcommands: [List.self, Show.self], defaultSubcommand: List.self)

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the artifacts.")
    @OptionGroup var folders: ArtifactFolders
    @Flag(name: .long, help: "A JSON array.")
    var json = false

    func run() throws {
      let library = try ArtifactsCommand.reporting { try folders.library() }
      for problem in library.problems { Terminal.note("left out: \(Terminal.printable(problem))") }
      if json {
        return Terminal.print(try ClientJSON.text(library.all.map(ArtifactJSON.init)))
      }
      let rows = library.all.map { artifact in
        [artifact.name, artifact.isClientEvent ? "event" : "client", artifact.summary]
      }
      Terminal.print(TableLayout.table(["Name", "Type", "Description"], rows))
      if rows.isEmpty { Terminal.note("no definitions were found; give --artifacts FOLDER") }
    }
  }

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show an artifact: what it asks and its parameters.")
    @OptionGroup var folders: ArtifactFolders
    @Flag(name: .long, help: "A JSON object.")
    var json = false
    @Argument(help: "The artifact's name.")
    var name: String

    func run() throws {
      let artifact = try ArtifactsCommand.reporting { try folders.library().artifact(name) }
      if json { return Terminal.print(try ClientJSON.text(ArtifactJSON(artifact))) }
      var lines = ["\(artifact.name) (\(artifact.type.isEmpty ? "CLIENT" : artifact.type))", ""]
      lines += Self.indented(artifact.description)
      if !artifact.parameters.isEmpty { lines += ["", "Parameters:"] }
      for parameter in artifact.parameters {
        let value = parameter.defaultValue.split(separator: "\n", omittingEmptySubsequences: false)
        let shown = value.count > 1 ? "\(value[0]) …" : parameter.defaultValue
        lines.append("  \(parameter.name) (\(parameter.type.isEmpty ? "string" : parameter.type)) = \(shown)")
        if !parameter.choices.isEmpty { lines.append("      one of \(parameter.choices.joined(separator: ", "))") }
        lines += Self.indented(parameter.description).map { "    " + $0 }
      }
      if !artifact.precondition.isEmpty { lines += ["", "Only where:"] + Self.indented(artifact.precondition) }
      for source in artifact.sources {
        lines += ["", source.name.isEmpty ? "Query:" : "Source \(source.name):"]
        if !source.precondition.isEmpty { lines += Self.indented("-- only where: \(source.precondition)") }
        lines += source.queries.flatMap(Self.indented)
      }
      Terminal.print(lines.map { Terminal.printable($0) + "\n" }.joined())
    }

    private static func indented(_ text: String) -> [String] {
      var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { $0.isEmpty ? "" : "  \($0)" }
      while lines.last?.isEmpty == true { lines.removeLast() }
      return lines
    }
  }

  private static func reporting<Value>(_ body: () throws -> Value) throws -> Value {
    do {
      return try body()
    } catch let error as ArtifactError {
      throw CommandFailure.reported(
        CommandFailure(error.code == .unknownArtifact ? .notFound : .usage, "\(error)"))
    } catch {
      throw CommandFailure.reported(error)
    }
  }
}

extension VQLArtifact {
  /// The first sentence or line of the description.
  fileprivate var summary: String {
    let line = description.split(separator: "\n").joined(separator: " ")
    guard let end = line.firstRange(of: ". ") else { return line }
    return String(line[..<end.lowerBound]) + "."
  }
}

/// An artifact as JSON.
struct ArtifactJSON: Encodable {
  struct Parameter: Encodable {
    var name: String
    var type: String
    var `default`: String
    var description: String
    var choices: [String]
  }

  struct Source: Encodable {
    var name: String
    var precondition: String
    var query: String
  }

  var name: String
  var type: String
  var description: String
  var precondition: String
  var parameters: [Parameter]
  var sources: [Source]

  init(_ artifact: VQLArtifact) {
    name = artifact.name
    type = artifact.type.isEmpty ? "CLIENT" : artifact.type
    description = artifact.description
    precondition = artifact.precondition
    parameters = artifact.parameters.map {
      Parameter(
        name: $0.name, type: $0.type, default: $0.defaultValue, description: $0.description, choices: $0.choices)
    }
    sources = artifact.sources.map {
      Source(name: $0.name, precondition: $0.precondition, query: $0.queries.joined(separator: "\n"))
    }
  }
}
