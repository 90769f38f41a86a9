import ArgumentParser
import Artifacts
import Store
import Wire

/// `microraptor events`.
struct EventsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events", abstract: "Choose what clients watch all the time: event artifacts, for all or by label.",
    discussion: """
      Clients get a changed table at their next contact; readers that wait are woken at the rate of \
      Frontend.resources.notifications_per_second. `microraptor monitor --artifact NAME` shows the rows.
      """,
    subcommands: [Set.self, Show.self, Clear.self], defaultSubcommand: Show.self)

  struct Set: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Replace what all clients, or those with a label, watch.",
      usage: "microraptor events set --artifact NAME [--artifact NAME …] [--param K=V …] [--label LABEL]")
    @OptionGroup var access: StoreAccess
    @OptionGroup var folders: ArtifactFolders
    @Option(name: .long, help: "An event artifact; may be repeated.")
    var artifact: [String]
    @Option(
      name: .customLong("param"),
      help: ArgumentHelp("A parameter of the artifacts; may be repeated.", valueName: "name=value"))
    var parameters: [String] = []
    @Option(name: .long, help: "Only clients with this label, beside what all clients watch.")
    var label = ""

    func validate() throws {
      for pair in parameters where !pair.contains("=") {
        throw ValidationError("--param expects NAME=VALUE, found \(pair)")
      }
    }

    func run() async throws {
      let setting: EventTableSetting
      do {
        let values = CollectionOptions.pairs(parameters)
        let table = try ArtifactCompiler(try folders.library()).eventTable(of: artifact, parameters: values)
        setting = EventTableSetting(label: label, artifacts: artifact, parameters: values, table: table)
      } catch let error as ArtifactError {
        throw CommandFailure.reported(CommandFailure(.usage, "\(error)"))
      }
      try await access.withStore { store in
        try await store.setEventTable(setting, by: .current)
        Terminal.note("\(EventsCommand.whom(label)) will watch \(artifact.joined(separator: ", "))")
      }
    }
  }

  struct Clear: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Let all clients, or those with a label, watch nothing.")
    @OptionGroup var access: StoreAccess
    @Option(name: .long, help: "Only what clients with this label watch beside the others.")
    var label = ""

    func run() async throws {
      try await access.withStore { store in
        let setting = EventTableSetting(
          label: label, artifacts: [], parameters: [:], table: Proto_VQLEventTable())
        try await store.setEventTable(setting, by: .current)
        Terminal.note("\(EventsCommand.whom(label)) will watch nothing\(label.isEmpty ? "" : " on account of it")")
      }
    }
  }

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show what clients watch.")
    @OptionGroup var access: StoreAccess
    @Flag(name: .long, help: "A JSON array.")
    var json = false

    func run() async throws {
      try await access.withStore { store in
        let settings = try await store.eventTables(org: "")
        if json { return Terminal.print(try ClientJSON.text(settings.map(EventTableJSON.init))) }
        let rows = settings.map { setting in
          [
            setting.label.isEmpty ? "(all clients)" : setting.label,
            setting.artifacts.isEmpty ? "(nothing)" : setting.artifacts.joined(separator: " "),
            setting.parameters.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " "),
            TimeText.utc(setting.changedAt), setting.changedBy,
          ]
        }
        Terminal.print(TableLayout.table(["Label", "Artifacts", "Parameters", "Changed", "By"], rows))
        if rows.isEmpty { Terminal.note("nothing was set yet; `microraptor events set --artifact NAME` does it") }
      }
    }
  }

  private static func whom(_ label: String) -> String {
    label.isEmpty ? "all clients" : "clients with the label \(Terminal.printable(label))"
  }
}

/// A setting as JSON.
struct EventTableJSON: Encodable {
  var label: String
  var artifacts: [String]
  var parameters: [String: String]
  /// Microseconds.
  var changeTime: Int64
  var changedBy: String
  var queries: Int

  init(_ setting: EventTableSetting) {
    label = setting.label
    artifacts = setting.artifacts
    parameters = setting.parameters
    changeTime = setting.changedAt.microseconds
    changedBy = setting.changedBy
    queries = setting.table.event.count
  }
}
