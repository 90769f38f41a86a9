import ArgumentParser
import Observability
import Store

/// `microraptor monitor`.
struct MonitorCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "monitor", abstract: "Print the rows of an event artifact, then follow new ones until Ctrl-C.",
    discussion: """
      The server's own events can be followed too: System.Flow.Completion, System.Upload.Completion, \
      Server.Internal.Alerts, Server.Internal.ClientConflict, Server.Internal.ClientInfo.
      """)

  @OptionGroup var access: StoreAccess
  @Option(name: .long, help: "The artifact, for example Generic.Client.Stats.")
  var artifact: String
  @Option(name: .long, help: "Only the rows of this client (id or host name).")
  var client: String?
  @Flag(name: .long, inversion: .prefixedNo, help: "Wait for new rows.")
  var follow = true
  @Flag(name: .long, help: "Leave out the rows that are there already.")
  var new = false
  @Option(name: .long, help: "table, jsonl or csv.")
  var format = RowFormat.table

  func run() async throws {
    try await access.withStore { store in
      let signal = ShutdownSignal()
      var name: ClientRecord?
      if let client { name = try await ClientSelection(store: store).one(client) }
      var printer = RowPrinter(format)
      var cursor = new ? try await store.monitoringEnd() : 0
      while signal.received == nil {
        let page = try await store.monitoring(
          org: name?.client.org ?? "", artifact: artifact, client: name?.client, after: cursor, limit: 500)
        if let last = page.last {
          cursor = last.cursor
          printer.print(page.flatMap { Rows.lines($0.jsonl) })
          continue
        }
        guard follow else { break }
        try await Task.sleep(for: .milliseconds(100))
      }
      if printer.count == 0, !follow { Terminal.note("no rows of \(artifact) are stored") }
    }
  }
}

/// Lines of stored JSONL.
enum Rows {
  static func lines(_ jsonl: String) -> [String] {
    jsonl.utf8.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
  }
}
