import ArgumentParser
import Observability
import Store
import VQL

/// `microraptor query`.
struct QueryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "query", abstract: "Run VQL on clients and print the rows as they come.",
    usage: """
      microraptor query CLIENT [CLIENT …] 'VQL' [options]
      microraptor query --all 'VQL' [options]
      microraptor query --label NAME 'VQL' [options]
      """,
    discussion: """
      The syntax is checked before anything is queued. Ctrl-C leaves the flows running. With several clients each row \
      begins with the column Client. Exit code 2: a flow failed; 3: --wait is over and a flow still runs.
      """)

  @OptionGroup var access: StoreAccess
  @Flag(name: .long, help: "Run on all clients.")
  var all = false
  @Option(name: .long, help: "Run on all clients with this label.")
  var label: String?
  @Flag(name: .customLong("no-wait"), help: "Only queue, and print the flow id (with several clients: id and client).")
  var noWait = false
  @Option(name: .long, help: "Seconds the query may run on the client (600). Given, it also limits the waiting.")
  var timeout: Int?
  @Option(name: .long, help: "Seconds to wait for the end; without --timeout as long as it takes.")
  var wait: Int?
  @Option(name: .long, help: "Rows after which a client stops.")
  var maxRows = 1_000_000
  @Flag(name: .long, help: "Pass other flows of the client.")
  var urgent = false
  @Option(name: .long, help: "table, jsonl or csv.")
  var format = RowFormat.table
  @Argument(help: "Clients (ids or host names), and last the VQL text.")
  var arguments: [String]

  func validate() throws {
    if let timeout, timeout <= 0 { throw ValidationError("--timeout must be at least 1") }
    if let wait, wait < 0 { throw ValidationError("--wait must not be negative") }
    guard maxRows > 0 else { throw ValidationError("--max-rows must be at least 1") }
    let clients = arguments.count - 1
    if all || label != nil {
      guard clients == 0 else { throw ValidationError("give either clients or --all or --label") }
    } else {
      guard clients >= 1 else { throw ValidationError("give a CLIENT and the VQL text, or --all and the VQL text") }
    }
  }

  func run() async throws {
    let builder: FlowRequestBuilder
    do {
      builder = FlowRequestBuilder(
        statements: try Statements.split(arguments.last ?? ""), timeout: UInt64(timeout ?? 600),
        maxRows: UInt64(maxRows), isUrgent: urgent)
      _ = try builder.message(flow: FlowID.make(at: .now()))
    } catch {
      throw CommandFailure.reported(error)
    }
    try await access.withStore { store in
      let clients = try await ClientSelection(store: store).several(
        arguments.dropLast(), all: all, label: label)
      let flows = try await queue(builder, for: clients, store)
      if noWait {
        for (client, flow) in flows {
          Terminal.print(flows.count == 1 ? "\(flow)\n" : "\(flow) \(client.client)\n")
        }
        return
      }
      try await watch(flows, store)
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

  private func watch(_ flows: [(ClientRecord, FlowID)], _ store: any Store) async throws {
    let signal = ShutdownSignal()
    // The agent ends the query by itself; a little more for its way here.
    let limit = wait ?? timeout.map { $0 + 30 }
    var watcher = FlowWatcher(store: store, flows: flows, printer: RowPrinter(format))
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
