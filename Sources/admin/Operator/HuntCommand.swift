import ArgumentParser
import Foundation
import Store
import Wire

/// `microraptor hunt`.
struct HuntCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "hunt", abstract: "Run a query or artifacts once on every client, also on those that come later.",
    subcommands: [Create.self, List.self, Show.self, Results.self, Stop.self], defaultSubcommand: List.self)

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Start a hunt and print its id.",
      usage: """
        microraptor hunt create 'VQL' [options]
        microraptor hunt create --artifact NAME [--param K=V …] [options]
        """,
      discussion: """
        Each client runs it once, when it is heard next; clients that appear, get the label or turn out to have the \
        system later join until it expires.
        """)
    @OptionGroup var access: StoreAccess
    @OptionGroup var collection: CollectionOptions
    @Option(name: .long, help: "Only clients with this label.")
    var label = ""
    @Option(name: .long, help: "Only hosts of this system: linux, windows or darwin.")
    var os = ""
    @Option(name: .long, help: "When no client joins any more: 90s, 30m, 12h, 7d.")
    var expires = TimeSpan(days: 7)
    @Option(name: .long, help: "At most so many clients; 0 for any number.")
    var limit: Int64 = 0
    @Option(name: .long, help: "What it is for. Default: what it runs.")
    var title: String?
    @Argument(help: "The VQL text, without --artifact.")
    var query: String?

    func validate() throws {
      guard limit >= 0 else { throw ValidationError("--limit must not be negative") }
      guard (query == nil) != collection.artifact.isEmpty else {
        throw ValidationError("give either a VQL text or --artifact")
      }
      guard ["", "linux", "windows", "darwin"].contains(os) else {
        throw ValidationError("--os is linux, windows or darwin, not \(os)")
      }
    }

    func run() async throws {
      let request: Proto_FlowRequest
      do {
        request = try collection.builder(vql: query ?? "").request()
      } catch {
        throw CommandFailure.reported(error)
      }
      try await access.withStore { store in
        let what = query ?? collection.artifact.joined(separator: " ")
        var hunt = NewHunt(
          title: title ?? String(what.prefix(200)), request: request,
          expiresAt: Timestamp.now().advanced(by: .seconds(expires.seconds)))
        hunt.label = label
        hunt.system = os
        hunt.limit = limit
        let id = try await store.createHunt(hunt, by: .current)
        Terminal.print("\(id)\n")
        Terminal.note("follow it with: microraptor hunt show \(id)")
      }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List hunts, the newest first.")
    @OptionGroup var access: StoreAccess
    @Flag(name: .long, help: "A JSON array.")
    var json = false
    @Option(name: .long, help: "At most so many.")
    var limit = 50

    func validate() throws {
      guard limit > 0 else { throw ValidationError("--limit must be at least 1") }
    }

    func run() async throws {
      try await access.withStore { store in
        let hunts = try await store.hunts(org: "", limit: limit)
        let now = Timestamp.now()
        if json { return Terminal.print(try ClientJSON.text(hunts.map { HuntJSON($0, at: now) })) }
        let rows = hunts.map { hunt in
          [
            hunt.id.text, hunt.displayedState(at: now), TimeText.utc(hunt.startedAt), hunt.creator,
            String(hunt.progress.scheduled), String(hunt.progress.completed), String(hunt.progress.errors),
            String(hunt.progress.rows), hunt.title,
          ]
        }
        Terminal.print(
          TableLayout.table(
            ["Hunt", "State", "Started", "By", "Scheduled", "Completed", "Errors", "Rows", "What"], rows))
        if rows.isEmpty { Terminal.note("there are no hunts yet") }
      }
    }
  }

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show how far a hunt is, and its errors.")
    @OptionGroup var access: StoreAccess
    @Flag(name: .long, help: "A JSON object.")
    var json = false
    @Argument(help: "A hunt id, as `hunt create` and `hunt list` print it.")
    var hunt: String

    func run() async throws {
      try await access.withStore { store in
        let hunt = try await HuntCommand.find(hunt, store)
        let now = Timestamp.now()
        if json { return Terminal.print(try ClientJSON.text(HuntJSON(hunt, at: now))) }
        let progress = hunt.progress
        var conditions: [String] = []
        if !hunt.label.isEmpty { conditions.append("label \(hunt.label)") }
        if !hunt.system.isEmpty { conditions.append("system \(hunt.system)") }
        if hunt.limit > 0 { conditions.append("at most \(hunt.limit)") }
        let lines = [
          "\(hunt.id)  \(hunt.displayedState(at: now))  \(hunt.title)",
          "started    \(TimeText.utc(hunt.startedAt)) by \(hunt.creator), expires \(TimeText.utc(hunt.expiresAt))",
          "clients    \(conditions.isEmpty ? "all" : conditions.joined(separator: ", "))",
          "scheduled  \(progress.scheduled): \(progress.waiting) waiting, \(progress.running) running, "
            + "\(progress.completed) completed, \(progress.errors) errors, \(progress.cancelled) cancelled",
          "rows       \(progress.rows)",
        ]
        Terminal.print(lines.map { Terminal.printable($0) + "\n" }.joined())
        try await printErrors(of: hunt, store)
      }
    }

    /// The first few, so that a mistake in the query is seen.
    private func printErrors(of hunt: HuntRecord, _ store: any Store) async throws {
      guard hunt.progress.errors > 0 else { return }
      var shown = 0
      try await HuntCommand.eachMember(of: hunt, store) { member in
        guard member.state == .error, shown < 5 else { return }
        shown += 1
        Terminal.note("\(member.client) \(member.flow): \(Terminal.printable(member.errorText))")
      }
    }
  }

  struct Results: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print the rows of a hunt that arrived so far.",
      discussion: "Each row begins with the column Client; rows of several sources are printed by source.")
    @OptionGroup var access: StoreAccess
    @Option(name: .long, help: "table, jsonl or csv.")
    var format = RowFormat.table
    @Option(name: .long, help: "Only the rows of this artifact or source.")
    var source: String?
    @Argument(help: "A hunt id.")
    var hunt: String

    func run() async throws {
      try await access.withStore { store in
        let hunt = try await HuntCommand.find(hunt, store)
        let request = try? Proto_FlowRequest(serializedBytes: hunt.request)
        let names = request?.vqlclientActions.flatMap(\.query).map(\.name).filter { !$0.isEmpty } ?? []
        let wanted = source.map { [$0] } ?? names
        var printer = RowPrinter(format)
        for name in wanted {
          try await HuntCommand.eachMember(of: hunt, store) { member in
            try await print(name, of: member, wanted.count > 1, &printer, store)
          }
        }
        if printer.count == 0 { Terminal.note("no rows so far") }
        if hunt.progress.waiting + hunt.progress.running > 0 { Terminal.note("more may come") }
      }
    }

    private func print(
      _ source: String, of member: HuntMember, _ showsSource: Bool, _ printer: inout RowPrinter, _ store: any Store
    ) async throws {
      let flow = FlowName(client: member.client, flow: member.flow)
      var next: Int64 = 0
      while true {
        let page = try await store.rows(of: flow, source: source, from: next, limit: 2_000)
        guard let last = page.last else { return }
        printer.print(
          page.map(\.json), source: ("Client", member.client.description), section: showsSource ? source : nil)
        next = last.index + 1
      }
    }
  }

  struct Stop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Let no client join any more, and withdraw what clients have not fetched yet.",
      discussion: "Flows that clients run already go on; `microraptor cancel` ends one.")
    @OptionGroup var access: StoreAccess
    @Argument(help: "A hunt id.")
    var hunt: String

    func run() async throws {
      try await access.withStore { store in
        let hunt = try await HuntCommand.find(hunt, store)
        try await store.stopHunt(hunt.id, org: hunt.org, by: .current)
        Terminal.note("stopped \(hunt.id)")
      }
    }
  }

  private static func find(_ text: String, _ store: any Store) async throws -> HuntRecord {
    guard let id = HuntID(text) else { throw CommandFailure(.usage, "\(text) is no hunt id (H. and 13 characters)") }
    guard let hunt = try await store.hunt(id, org: "") else {
      throw CommandFailure(.notFound, "there is no hunt \(id); `microraptor hunt list` lists them")
    }
    return hunt
  }

  private static func eachMember(
    of hunt: HuntRecord, _ store: any Store, _ body: (HuntMember) async throws -> Void
  ) async throws {
    var cursor: Int64 = 0
    while true {
      let page = try await store.members(of: hunt.id, org: hunt.org, after: cursor, limit: 500)
      guard let last = page.last else { return }
      for member in page { try await body(member) }
      cursor = last.cursor
    }
  }
}

/// A hunt as JSON.
struct HuntJSON: Encodable {
  var huntId: String
  var state: String
  var title: String
  var creator: String
  /// Microseconds, as all times here.
  var startTime: Int64
  var expires: Int64
  var label: String
  var os: String
  var clientLimit: Int64
  var scheduled: Int64
  var waiting: Int64
  var running: Int64
  var completed: Int64
  var errors: Int64
  var cancelled: Int64
  var rows: Int64
  var queries: [String]

  init(_ hunt: HuntRecord, at now: Timestamp) {
    huntId = hunt.id.text
    state = hunt.displayedState(at: now)
    title = hunt.title
    creator = hunt.creator
    startTime = hunt.startedAt.microseconds
    expires = hunt.expiresAt.microseconds
    label = hunt.label
    os = hunt.system
    clientLimit = hunt.limit
    scheduled = hunt.progress.scheduled
    waiting = hunt.progress.waiting
    running = hunt.progress.running
    completed = hunt.progress.completed
    errors = hunt.progress.errors
    cancelled = hunt.progress.cancelled
    rows = hunt.progress.rows
    let request = try? Proto_FlowRequest(serializedBytes: hunt.request)
    queries = request?.vqlclientActions.flatMap(\.query).map(\.vql) ?? []
  }
}
