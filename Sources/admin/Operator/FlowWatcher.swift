import Observability
import Store

/// Follows flows until they end: prints rows as they come, keeps the errors of their logs.
struct FlowWatcher {
  struct Watched {
    var record: ClientRecord
    var flow: FlowID
    /// The next row of each source.
    var next: [String: Int64] = [:]
    var logCursor: Int64 = 0
    var errors: [String] = []
    var state = FlowState.waiting
    var errorText = ""
    var rows = 0
    var wasHeard = false

    var name: FlowName { FlowName(client: record.client, flow: flow) }
  }

  enum Ending: Equatable {
    case allEnded
    /// The flows still run.
    case gaveUp
    case interrupted
  }

  let store: any Store
  private(set) var flows: [Watched]
  private var printer: RowPrinter
  private let showsClient: Bool
  private let showsSource: Bool

  /// - Parameter showsSource: whether rows may have several sources and are to be told apart.
  init(store: any Store, flows: [(ClientRecord, FlowID)], printer: RowPrinter, showsSource: Bool = false) {
    self.store = store
    self.flows = flows.map { Watched(record: $0.0, flow: $0.1) }
    self.printer = printer
    showsClient = flows.count > 1
    self.showsSource = showsSource
  }

  /// The host name, unless another client of the query has the same.
  private func name(of record: ClientRecord) -> String {
    let same = flows.filter { $0.record.shortName == record.shortName }.count
    return same > 1 ? record.client.description : record.shortName
  }

  var unfinished: [Watched] { flows.filter { !$0.state.hasEnded } }
  var failed: [Watched] { flows.filter { $0.state.hasEnded && $0.state != .finished } }
  var rows: Int { flows.reduce(0) { $0 + $1.rows } }

  /// - Parameter limit: how long to wait; nil as long as it takes.
  mutating func watch(until limit: Duration?, signal: ShutdownSignal) async throws -> Ending {
    let start = ContinuousClock.now
    var hasHinted = false
    while true {
      for index in flows.indices where !flows[index].state.hasEnded { try await look(index) }
      if unfinished.isEmpty {
        Terminal.endProgress()
        return .allEnded
      }
      let waited = start.duration(to: .now)
      if signal.received != nil {
        Terminal.endProgress()
        return .interrupted
      }
      if let limit, waited >= limit {
        Terminal.endProgress()
        return .gaveUp
      }
      if !hasHinted, waited >= .seconds(10) {
        hasHinted = true
        hintAtSilence()
      }
      Terminal.progress(progress(waited))
      // Soon at first, for quick queries; then ten times a second.
      try await Task.sleep(for: waited < .seconds(2) ? .milliseconds(30) : .milliseconds(100))
    }
  }

  private func hintAtSilence() {
    for flow in flows where !flow.wasHeard && !flow.state.hasEnded {
      Terminal.note("\(flow.record.shortName) has not answered yet; the flow waits until it does")
    }
  }

  private func progress(_ waited: Duration) -> String {
    let total = flows.count
    let ended = total - unfinished.count
    let what = total == 1 ? flows[0].flow.text : "\(ended) of \(total) clients"
    let waiting = flows.count { !$0.wasHeard }
    let silent = waiting == 0 ? "" : total == 1 ? ", waiting for the client" : ", \(waiting) not heard yet"
    return "\(what): \(rows) rows, \(waited.components.seconds) s\(silent)"
  }

  /// Reads the state first: when it says that the flow ended, all its rows are there already.
  private mutating func look(_ index: Int) async throws {
    guard let flow = try await store.flow(flows[index].name) else {
      throw CommandFailure(.notFound, "\(flows[index].record.shortName) was deleted while its flow was watched")
    }
    if flow.lastHeard != nil {
      flows[index].wasHeard = true
      try await readRows(index)
      try await readLogs(index)
    }
    flows[index].state = flow.state
    flows[index].errorText = flow.errorText
  }

  private mutating func readRows(_ index: Int) async throws {
    let watched = flows[index]
    for source in try await store.sources(of: watched.name) {
      var next = flows[index].next[source.name] ?? 0
      while true {
        let page = try await store.rows(of: watched.name, source: source.name, from: next, limit: 2_000)
        guard let last = page.last else { break }
        next = last.index + 1
        Terminal.endProgress()
        printer.print(
          page.map(\.json), source: showsClient ? ("Client", name(of: watched.record)) : nil,
          section: showsSource ? source.name : nil)
        flows[index].rows += page.count
      }
      flows[index].next[source.name] = next
    }
  }

  private mutating func readLogs(_ index: Int) async throws {
    while true {
      let page = try await store.logs(of: flows[index].name, after: flows[index].logCursor, limit: 200)
      guard let last = page.last else { return }
      flows[index].logCursor = last.cursor
      for chunk in page where flows[index].errors.count < 20 { flows[index].errors += LogText.errors(chunk.jsonl) }
    }
  }
}
