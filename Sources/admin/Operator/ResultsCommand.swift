import ArgumentParser
import Foundation
import Store

/// `microraptor results`.
struct ResultsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "results", abstract: "Print the rows of a flow that arrived so far.")

  @OptionGroup var access: StoreAccess
  @Option(name: .long, help: "table, jsonl (the rows exactly as stored) or csv.")
  var format = RowFormat.table
  @Option(name: .long, help: "Only the rows of this artifact or source.")
  var source: String?
  @Argument(help: "A client id or host name.")
  var client: String
  @Argument(help: "A flow id, as `query` and `flows` print it.")
  var flow: String

  func run() async throws {
    try await access.withStore { store in
      let selection = ClientSelection(store: store)
      let record = try await selection.one(client)
      let flow = try await selection.flow(record, flow)
      var sources = try await store.sources(of: flow.name)
      if let source {
        sources = sources.filter { $0.name == source }
        guard !sources.isEmpty else { throw CommandFailure(.notFound, "the flow has no rows of \(source)") }
      }
      for item in sources {
        if sources.count > 1 { Terminal.note("\(item.name): \(item.rows) rows") }
        try await Self.print(item.name, of: flow.name, format, store)
      }
      if sources.isEmpty { Terminal.note("no rows so far") }
      guard flow.state.hasEnded else {
        Terminal.note("the flow is \(flow.displayedState(at: .now())); more may come")
        return
      }
      if flow.state != .finished {
        Terminal.note("the flow ended as \(flow.displayedState(at: .now())): \(flow.errorText)")
      }
    }
  }

  /// Prints the rows of one source in pages of bounded size.
  private static func print(_ source: String, of flow: FlowName, _ format: RowFormat, _ store: any Store) async throws {
    var printer = RowPrinter(format)
    var next: Int64 = 0
    while true {
      let page = try await store.rows(of: flow, source: source, from: next, limit: 2_000)
      guard let last = page.last else { return }
      printer.print(page.map(\.json))
      next = last.index + 1
    }
  }
}

/// `microraptor logs`.
struct LogsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "logs", abstract: "Print the log of a flow.")

  @OptionGroup var access: StoreAccess
  @Flag(name: .long, help: "The lines exactly as stored, one JSON object each.")
  var json = false
  @Argument(help: "A client id or host name.")
  var client: String
  @Argument(help: "A flow id.")
  var flow: String

  func run() async throws {
    try await access.withStore { store in
      let selection = ClientSelection(store: store)
      let flow = try await selection.flow(try await selection.one(client), flow)
      var cursor: Int64 = 0
      while true {
        let page = try await store.logs(of: flow.name, after: cursor, limit: 500)
        guard let last = page.last else { return }
        cursor = last.cursor
        for chunk in page {
          Terminal.print(json ? chunk.jsonl : LogText.lines(chunk.jsonl).map { $0 + "\n" }.joined())
        }
      }
    }
  }
}

/// Log lines of agents as text.
enum LogText {
  /// `time LEVEL message` for each line.
  static func lines(_ jsonl: String) -> [String] {
    jsonl.utf8.split(separator: UInt8(ascii: "\n")).map { line(String(decoding: $0, as: UTF8.self)) }
  }

  /// The messages of lines at level ERROR.
  static func errors(_ jsonl: String) -> [String] {
    jsonl.utf8.split(separator: UInt8(ascii: "\n")).compactMap { bytes in
      guard let row = JSONRow(String(decoding: bytes, as: UTF8.self)), member("level", row) == "ERROR" else {
        return nil
      }
      return Terminal.printable(message(row))
    }
  }

  private static func line(_ text: String) -> String {
    guard let row = JSONRow(text) else { return Terminal.printable(text) }
    let seconds = Int64(member("client_time", row)) ?? 0
    let time = TimeText.utc(Timestamp(seconds: seconds))
    return "\(time) \(Terminal.printable(member("level", row))) \(Terminal.printable(message(row)))"
  }

  /// Messages of the engine end in a line feed inside their text, which a line of its own does not need.
  private static func message(_ row: JSONRow) -> String {
    let text = member("message", row)
    return text.hasSuffix("\n") ? String(text.dropLast()) : text
  }

  private static func member(_ key: String, _ row: JSONRow) -> String {
    row.members.first { $0.key == key }.map { JSONRow.display($0.value) } ?? ""
  }
}
