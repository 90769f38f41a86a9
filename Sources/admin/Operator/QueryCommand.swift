import ArgumentParser
import Observability
import Store

/// `microraptor query`.
struct QueryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "query", abstract: "Run VQL or artifacts on clients and print the rows as they come.",
    usage: """
      microraptor query CLIENT [CLIENT …] 'VQL' [options]
      microraptor query --all 'VQL' [options]
      microraptor query --label NAME 'VQL' [options]
      microraptor query --artifact NAME [--param K=V …] CLIENT [CLIENT …]|--all|--label NAME [options]
      """,
    discussion: """
      The syntax is checked before anything is queued. Ctrl-C leaves the flows running. With several clients each row \
      begins with the column Client; rows of several sources are printed by source. `microraptor artifacts list` tells \
      the artifacts. Exit code 2: a flow failed; 3: --wait is over and a flow still runs.
      """)

  @OptionGroup var access: StoreAccess
  @OptionGroup var collection: CollectionOptions
  @Flag(name: .long, help: "Run on all clients.")
  var all = false
  @Option(name: .long, help: "Run on all clients with this label.")
  var label: String?
  @Flag(name: .customLong("no-wait"), help: "Only queue, and print the flow id (with several clients: id and client).")
  var noWait = false
  @Option(name: .long, help: "Seconds to wait for the end (30 more than --timeout; without it as long as it takes).")
  var wait: Int?
  @Option(name: .long, help: "table, jsonl or csv.")
  var format = RowFormat.table
  @Argument(help: "Clients (ids or host names), and last, without --artifact, the VQL text.")
  var arguments: [String] = []

  /// The clients among the arguments.
  private var clients: ArraySlice<String> {
    collection.artifact.isEmpty ? arguments.dropLast() : arguments[...]
  }

  func validate() throws {
    if let wait, wait < 0 { throw ValidationError("--wait must not be negative") }
    if collection.artifact.isEmpty, arguments.isEmpty { throw ValidationError("give a VQL text or --artifact") }
    if all || label != nil {
      guard clients.isEmpty else { throw ValidationError("give either clients or --all or --label") }
    } else if clients.isEmpty {
      let what = collection.artifact.isEmpty ? " and the VQL text" : ""
      throw ValidationError("give a CLIENT\(what), or --all\(what)")
    }
  }

  func run() async throws {
    let builder: FlowRequestBuilder
    do {
      builder = try collection.builder(vql: arguments.last ?? "")
    } catch {
      throw CommandFailure.reported(error)
    }
    try await access.withStore { store in
      let clients = try await ClientSelection(store: store).several(Array(clients), all: all, label: label)
      let flows = try await queue(builder, for: clients, store)
      if noWait {
        for (client, flow) in flows {
          Terminal.print(flows.count == 1 ? "\(flow)\n" : "\(flow) \(client.client)\n")
        }
        return
      }
      try await watch(flows, store, showsSource: builder.sources.count > 1)
    }
  }

  private func queue(
    _ builder: FlowRequestBuilder, for clients: [ClientRecord], _ store: any Store
  ) async throws -> [(ClientRecord, FlowID)] {
    let now = Timestamp.now()
    let flows = clients.map { ($0, FlowID.make(at: now)) }
    let tasks = try flows.map { NewTask(client: $0.0.client, message: try builder.message(flow: $0.1)) }
    try await store.queue(tasks, by: .current)
    let offline = clients.filter { !$0.isOnline(at: now) }
    for client in offline.prefix(5) {
      Terminal.note(
        "\(client.shortName) seems to be offline (last seen \(TimeText.ago(client.lastSeen, at: now))); the flow waits")
    }
    if offline.count > 5 { Terminal.note("so do \(offline.count - 5) more clients") }
    return flows
  }

  private func watch(
    _ flows: [(ClientRecord, FlowID)], _ store: any Store, showsSource: Bool
  ) async throws {
    let signal = ShutdownSignal()
    // The agent ends the query by itself; a little more for its way here.
    let limit = wait ?? collection.timeout.map { $0 + 30 }
    var watcher = FlowWatcher(store: store, flows: flows, printer: RowPrinter(format), showsSource: showsSource)
    let ending = try await watcher.watch(until: limit.map { .seconds($0) }, signal: signal)
    if ending != .allEnded {
      sayHowToComeBack(watcher, ending)
      throw CommandFailure(ending == .interrupted ? .interrupted : .stillWaiting, "")
    }
    guard !watcher.failed.isEmpty else {
      if watcher.rows == 0 { Terminal.note("the query gave no rows") }
      return
    }
    for flow in watcher.failed { report(flow) }
    throw CommandFailure(.flowFailed, flows.count == 1 ? "" : "\(watcher.failed.count) of \(flows.count) flows failed")
  }

  private func sayHowToComeBack(_ watcher: FlowWatcher, _ ending: FlowWatcher.Ending) {
    let unfinished = watcher.unfinished
    Terminal.note("\(unfinished.count == 1 ? "the flow goes on" : "\(unfinished.count) flows go on"); come back with:")
    let config = access.config.map { " --config \($0)" } ?? ""
    for flow in unfinished.prefix(5) {
      Terminal.note("  microraptor results\(config) \(flow.record.client) \(flow.flow)")
    }
    if unfinished.count > 5 { Terminal.note("  and `microraptor flows CLIENT` for the others") }
  }

  private func report(_ flow: FlowWatcher.Watched) {
    let text = flow.errorText.isEmpty ? "without a text" : Terminal.printable(flow.errorText)
    let how = flow.state == .cancelled ? "was cancelled" : flow.state == .expired ? "expired" : "failed"
    Terminal.note("\(flow.record.shortName): flow \(flow.flow) \(how): \(text)")
    for error in flow.errors where error != flow.errorText { Terminal.note("  log: \(error)") }
  }
}
