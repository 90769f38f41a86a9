/// A named collection of queries (flows.md §6).
package struct VQLArtifact: Sendable {
  package struct Parameter: Sendable {
    package var name: String
    package var type: String
    /// Default, as text.
    package var defaultValue: String
    /// For people.
    package var description: String
    /// The values of a parameter of type `choices`.
    package var choices: [String]

    package init(
      name: String, type: String = "", defaultValue: String = "", description: String = "", choices: [String] = []
    ) {
      self.name = name
      self.type = type
      self.defaultValue = defaultValue
      self.description = description
      self.choices = choices
    }
  }

  /// What a collection of the artifact may use; 0 leaves the choice to others.
  package struct Resources: Sendable, Equatable {
    /// Seconds.
    package var timeout: UInt64 = 0
    package var operationsPerSecond: Float = 0
    /// Per cent of all cores.
    package var cpuLimit: Float = 0
    package var iopsLimit: Float = 0
    /// Rows and bytes of the whole collection.
    package var maxRows: UInt64 = 0
    package var maxUploadBytes: UInt64 = 0
    /// Seconds, rows and bytes after which a part is sent.
    package var maxBatchWait: UInt64 = 0
    package var maxBatchRows: UInt64 = 0
    package var maxBatchRowsBuffer: UInt64 = 0

    package init() {}
  }

  package struct Source: Sendable {
    package var name: String
    package var precondition: String
    /// Statements; a text with several of them counts as all of them.
    package var queries: [String]

    package init(name: String = "", precondition: String = "", queries: [String]) {
      self.name = name
      self.precondition = precondition
      self.queries = queries
    }
  }

  package var name: String
  package var type: String
  package var precondition: String
  package var export: String
  package var imports: [String]
  package var parameters: [Parameter]
  package var sources: [Source]
  /// For people.
  package var description = ""
  package var resources = Resources()

  package init(
    name: String, type: String = "CLIENT", precondition: String = "", export: String = "", imports: [String] = [],
    parameters: [Parameter] = [], sources: [Source] = []
  ) {
    self.name = name
    self.type = type
    self.precondition = precondition
    self.export = export
    self.imports = imports
    self.parameters = parameters
    self.sources = sources
  }

  /// The statements that turn a parameter's text into its type, and that it may be passed again as it is.
  package static func preamble(for parameter: Parameter) -> [String] {
    let plain = parameter.name.utf8.allSatisfy { CharacterRanges.word.contains(UInt32($0)) }
    let startsWithDigit = parameter.name.utf8.first.map { (48...57).contains($0) } ?? true
    let name = plain && !startsWithDigit ? parameter.name : "`\(parameter.name)`"
    let quoted = parameter.name.replacing("\\", with: "\\\\").replacing("'", with: "\\'")
    let isText = "format(format=\"%T\", args=[\(name),])"
    switch parameter.type {
    case "int", "int64", "integer": return ["LET \(name) <= int(int=\(name))"]
    case "float": return ["LET \(name) <= parse_float(string=\(name))"]
    case "bool":
      return ["LET \(name) <= get(field='\(quoted)') = TRUE OR get(field='\(quoted)') =~ '^(Y|TRUE|YES|OK)$'"]
    case "timestamp": return ["LET \(name) <= timestamp(epoch=\(name))"]
    case "csv", "artifactset":
      return [
        "LET \(name) <= SELECT * FROM if(condition=\(isText) =~ \"string\", "
          + "then={SELECT * FROM parse_csv(filename=\(name), accessor='data')}, else=\(name))"
      ]
    case "json":
      return ["LET \(name) <= if(condition=\(isText) =~ \"string\", then=parse_json(data=\(name)), else=\(name))"]
    case "json_array", "regex_array", "multichoice":
      return ["LET \(name) <= if(condition=\(isText) = \"string\", then=parse_json_array(data=\(name)), else=\(name))"]
    case "xml", "yaml":
      let argument = parameter.type == "xml" ? "file" : "filename"
      return [
        "LET \(name) <= if(condition=\(isText) =~ \"string\", "
          + "then=parse_\(parameter.type)(\(argument)=\(name), accessor=\"data\"), else=\(name))"
      ]
    case "upload", "upload_file":
      let suffix = parameter.type == "upload_file" ? ", tempfile_extension='.tmp'" : ""
      let holder = plain && !startsWithDigit ? parameter.name + "_" : "`\(parameter.name)_`"
      return [
        "LET \(holder) <= if(condition=\(name), then={ SELECT Content FROM http_client(url=\(name)\(suffix)) })",
        "LET \(name) <= \(holder).Content[0]",
      ]
    default: return []
    }
  }
}

/// `Artifact` and its members: dots extend the name.
final class ArtifactReference: VQLObject {
  let name: String
  init(name: String) { self.name = name }
  override var typeName: String { "*ArtifactRepositoryPlugin" }
  override func member(_ member: String, in scope: Scope) -> VQLValue? {
    .object(ArtifactReference(name: name.isEmpty ? member : name + "." + member))
  }
}

/// Calls of artifacts from queries (flows.md §6.1).
enum ArtifactRunner {
  private static let maximumNesting = 10

  static func call(_ name: String, _ arguments: CallArguments, _ scope: Scope, _ emit: RowSink) {
    let context = scope.context
    guard let artifact = context.options.artifacts.first(where: { $0.name == name }) else {
      return context.log(.none, "Artifact \(name) not found")
    }
    guard context.threadState.artifactStack.count < maximumNesting else {
      return context.log(
        .none, "Stack overflow: \((context.threadState.artifactStack + [name]).joined(separator: ", "))")
    }
    context.threadState.artifactStack.append(name)
    defer { context.threadState.artifactStack.removeLast() }
    guard context.enter() else { return }
    defer { context.leave() }
    do { try run(artifact, arguments, scope, emit) } catch { context.log(.none, "\(name): \(error)") }
  }

  private static func run(
    _ artifact: VQLArtifact, _ arguments: CallArguments, _ scope: Scope, _ emit: RowSink
  ) throws {
    let context = scope.context
    var given = VQLDict()
    if let expansion = arguments.expansion {
      if case .dict(let dict) = expansion.eval(scope).resolved { given = dict }
    } else {
      for argument in arguments.list { given.set(argument.name, materialize(argument.value.eval(scope), scope)) }
    }
    let layer = VQLDict()
    for parameter in artifact.parameters { layer.set(parameter.name, .string(parameter.defaultValue)) }
    for name in given.keys where name != "source" && name != "preconditions" {
      guard artifact.parameters.contains(where: { $0.name == name }) else {
        return context.log(.none, "Unknown parameter \(name) provided to artifact \(artifact.name)")
      }
      layer.set(name, given[name] ?? .null)
    }
    let honours = given["preconditions"]?.isTrue(scope) ?? false
    var sources = artifact.sources
    if let wanted = given["source"]?.string, !wanted.isEmpty {
      sources = sources.filter { $0.name == wanted }
      if sources.isEmpty { return context.log(.none, "Source \(wanted) not found in artifact \(artifact.name)") }
    }
    let base = scope.child(.row(layer), aggregates: AggregateState())
    // With preconditions of their own, sources are collectors of their own.
    let split = artifact.precondition.isEmpty && sources.contains { !$0.precondition.isEmpty }
    let groups = split ? sources.map { [$0] } : [sources]
    if artifact.type.uppercased().hasSuffix("_EVENT"), sources.count > 1 {
      return runEvents(artifact, sources, base, split: split, honours: honours, emit)
    }
    try withoutActuallyEscaping(emit) { emit in
      for group in groups {
        let precondition = split ? group.first?.precondition ?? "" : artifact.precondition
        let collector = Collector(artifact, base, emit)
        defer { collector.scope.close() }
        guard try collector.run(group, precondition: honours ? precondition : "") else { return }
      }
    }
  }

  /// Event sources never end, hence each has a thread of its own.
  private static func runEvents(
    _ artifact: VQLArtifact, _ sources: [VQLArtifact.Source], _ base: Scope, split: Bool, honours: Bool,
    _ emit: RowSink
  ) {
    let crew = Crew(base.context)
    defer { crew.stop() }
    for source in sources {
      let precondition = honours ? split ? source.precondition : artifact.precondition : ""
      crew.start { crew in
        let collector = Collector(artifact, base, { crew.send($0) })
        defer { collector.scope.close() }
        do { _ = try collector.run([source], precondition: precondition) } catch {
          base.context.log(.none, "\(artifact.name): \(error)")
        }
      }
    }
    crew.drain(emit)
  }

  private static func materialize(_ value: VQLValue, _ scope: Scope) -> VQLValue {
    if case .query(let query) = value.resolved { return .query(VQLQuery(.rows(query.collect(scope)))) }
    return value.resolved
  }

  /// One scope in which the sources of an artifact run.
  private struct Collector {
    let artifact: VQLArtifact
    let scope: Scope
    let emit: RowSink
    private let bindings = Bindings()

    init(_ artifact: VQLArtifact, _ base: Scope, _ emit: @escaping RowSink) {
      self.artifact = artifact
      self.emit = emit
      scope = base.child(.bindings(bindings))
    }

    /// False when no more rows are wanted.
    func run(_ sources: [VQLArtifact.Source], precondition: String) throws -> Bool {
      for parameter in artifact.parameters {
        for text in VQLArtifact.preamble(for: parameter) { _ = try statements(text) { _ in true } }
      }
      if !precondition.isEmpty {
        var holds = false
        _ = try statements(precondition) { _ in
          holds = true
          return false
        }
        guard holds else {
          scope.context.log(.none, "Skipping query due to preconditions")
          return true
        }
      }
      if !artifact.export.isEmpty { _ = try statements(artifact.export) { _ in true } }
      for name in artifact.imports {
        let imported = scope.context.options.artifacts.first { $0.name == name }
        if let text = imported?.export, !text.isEmpty { _ = try statements(text) { _ in true } }
      }
      for source in sources where try !run(source) { return false }
      return true
    }

    private func run(_ source: VQLArtifact.Source) throws -> Bool {
      let parsed = try source.queries.flatMap { try Parser.program($0) }
      let label = VQLValue.string(artifact.name + (source.name.isEmpty ? "" : "/" + source.name))
      for (place, statement) in parsed.enumerated() {
        let named = place == parsed.count - 1
        var wanted = true
        try StatementRunner.run(statement, in: scope, bindings: bindings) { row in
          wanted = emit(named ? labelled(row, label) : row)
          return wanted
        }
        if !wanted || scope.context.isStopped { return false }
      }
      return true
    }

    private func labelled(_ row: VQLValue, _ label: VQLValue) -> VQLValue {
      guard case .dict(let dict) = row else { return row }
      let copy = dict.copy()
      copy.set("_Source", label)
      return .dict(copy)
    }

    private func statements(_ text: String, _ emit: RowSink) throws -> Bool {
      for statement in try Parser.program(text) {
        try StatementRunner.run(statement, in: scope, bindings: bindings, emit)
      }
      return !scope.context.isStopped
    }
  }
}
