import ArgumentParser
import Store
import Wire

/// `microraptor flows`.
struct FlowsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "flows", abstract: "List a client's flows, the newest first.")

  @OptionGroup var access: StoreAccess
  @Flag(name: .long, help: "A JSON array.")
  var json = false
  @Option(name: .long, help: "At most so many.")
  var limit = 200
  @Argument(help: "A client id or host name.")
  var client: String

  func validate() throws {
    guard limit > 0 else { throw ValidationError("--limit must be at least 1") }
  }

  func run() async throws {
    try await access.withStore { store in
      let record = try await ClientSelection(store: store).one(client)
      let flows = try await store.flows(of: record.client, limit: limit)
      let now = Timestamp.now()
      if json {
        var items: [FlowJSON] = []
        for flow in flows { items.append(FlowJSON(flow, sources: try await store.sources(of: flow.name), at: now)) }
        Terminal.print(try ClientJSON.text(items))
        return
      }
      let rows = flows.map { flow in
        [
          flow.name.flow.text, flow.displayedState(at: now), TimeText.utc(flow.createdAt), flow.creator,
          String(flow.totals.rows), String(flow.totals.uploadedFiles),
          FlowJSON.summary(of: flow),
          flow.errorText,
        ]
      }
      Terminal.print(
        TableLayout.table(["Flow", "State", "Created", "By", "Rows", "Files", "Query", "Error"], rows))
      if flows.isEmpty { Terminal.note("\(record.shortName) has no flows yet") }
    }
  }
}

/// A flow as JSON.
struct FlowJSON: Encodable {
  var sessionId: String
  var clientId: String
  var state: String
  var status: String
  var creator: String
  /// Microseconds, as all times here; 0 is unknown.
  var createTime: Int64
  var startTime: Int64
  var activeTime: Int64
  var endTime: Int64
  /// Nanoseconds.
  var executionDuration: Int64
  var totalCollectedRows: Int64
  var totalLogs: Int64
  var totalUploadedFiles: Int64
  var totalUploadedBytes: Int64
  var artifactsWithResults: [String]
  var queries: [String]

  init(_ flow: FlowRecord, sources: [ResultSource], at now: Timestamp) {
    sessionId = flow.name.flow.text
    clientId = flow.name.client.id.rawValue
    state = flow.displayedState(at: now)
    status = flow.errorText
    creator = flow.creator
    createTime = flow.createdAt.microseconds
    startTime = flow.totals.firstActive
    activeTime = flow.lastHeard?.microseconds ?? 0
    endTime = flow.endedAt?.microseconds ?? 0
    executionDuration = flow.totals.duration
    totalCollectedRows = flow.totals.rows
    totalLogs = flow.totals.logs
    totalUploadedFiles = flow.totals.uploadedFiles
    totalUploadedBytes = flow.totals.uploadedBytes
    artifactsWithResults = sources.map(\.name)
    queries = Self.queries(of: flow)
  }

  /// The artifacts it collects, or the statements of a query.
  static func summary(of flow: FlowRecord) -> String {
    let request = try? Proto_FlowRequest(serializedBytes: flow.request)
    return request.map { NewTask.summary(of: $0) } ?? ""
  }

  /// The statements of the flow's request.
  static func queries(of flow: FlowRecord) -> [String] {
    let request = try? Proto_FlowRequest(serializedBytes: flow.request)
    return request?.vqlclientActions.flatMap(\.query).map(\.vql) ?? []
  }
}
