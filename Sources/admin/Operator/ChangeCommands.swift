import ArgumentParser
import Foundation
import Store

/// `microraptor cancel`.
struct CancelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "cancel", abstract: "Cancel a flow.")

  @OptionGroup var access: StoreAccess
  @Argument(help: "A client id or host name.")
  var client: String
  @Argument(help: "A flow id.")
  var flow: String

  func run() async throws {
    try await access.withStore { store in
      let selection = ClientSelection(store: store)
      let flow = try await selection.flow(try await selection.one(client), flow)
      switch try await store.cancel(flow.name, by: .current) {
      case .withdrawn: Terminal.note("withdrawn: the client will not see it")
      case .requested: Terminal.note("the client is told to cancel it; what it collected so far still arrives")
      case .alreadyEnded: Terminal.note("it ended already")
      case .unknownFlow: throw CommandFailure(.notFound, "no flow \(flow.name.flow)")
      }
    }
  }
}

/// `microraptor delete`.
struct DeleteCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Delete a client: its key, tasks, flows, rows and files.",
    discussion: "An agent that still runs enrolls again as a new client.")

  @OptionGroup var access: StoreAccess
  @Flag(name: .long, help: "Really delete.")
  var yes = false
  @Argument(help: "A client id or host name.")
  var client: String

  func run() async throws {
    try await access.withStore { store in
      let record = try await ClientSelection(store: store).one(client)
      guard yes else {
        let flows = try await store.flows(of: record.client, limit: 1_000).count
        throw CommandFailure(
          .usage,
          "\(record.client) (\(record.shortName)) and its \(flows) flows would be deleted for ever; give --yes to do it"
        )
      }
      guard try await store.delete(record.client, by: .current) else {
        throw CommandFailure(.notFound, "\(record.client) was deleted by somebody else just now")
      }
      Terminal.note("deleted \(record.client) (\(record.shortName))")
    }
  }
}

/// `microraptor label`.
struct LabelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "label", abstract: "Add or remove labels of a client.", subcommands: [Add.self, Remove.self])

  struct Add: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Add labels.")
    @OptionGroup var access: StoreAccess
    @Argument(help: "A client id or host name.") var client: String
    @Argument(help: "One or more labels.") var labels: [String]

    func run() async throws {
      try await LabelCommand.change(access, client, add: labels, remove: [])
    }
  }

  struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Remove labels.")
    @OptionGroup var access: StoreAccess
    @Argument(help: "A client id or host name.") var client: String
    @Argument(help: "One or more labels.") var labels: [String]

    func run() async throws {
      try await LabelCommand.change(access, client, add: [], remove: labels)
    }
  }

  private static func change(
    _ access: StoreAccess, _ client: String, add: [String], remove: [String]
  ) async throws {
    guard !(add + remove).isEmpty else { throw ValidationError("give at least one label") }
    try await access.withStore { store in
      let record = try await ClientSelection(store: store).one(client)
      try await store.changeLabels(of: record.client, add: add, remove: remove, by: .current)
      let labels = try await store.client(record.client)?.labels ?? []
      Terminal.note("labels of \(record.shortName): \(labels.isEmpty ? "none" : labels.joined(separator: " "))")
    }
  }
}

/// `microraptor audit`.
struct AuditCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "audit", abstract: "List what operators did, the newest first.")

  @OptionGroup var access: StoreAccess
  @Option(name: .long, help: "At most so many.")
  var limit = 100

  func validate() throws {
    guard limit > 0 else { throw ValidationError("--limit must be at least 1") }
  }

  func run() async throws {
    try await access.withStore { store in
      let rows = try await store.audit(limit: limit).map {
        [TimeText.utc($0.at), $0.by.name, $0.by.origin, $0.action, $0.client, $0.detail]
      }
      Terminal.print(TableLayout.table(["Time", "Who", "From", "Action", "Client", "Detail"], rows))
    }
  }
}
