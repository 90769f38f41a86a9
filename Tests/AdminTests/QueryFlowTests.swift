import Foundation
import Observability
import PublicIdentity
import Store
import Wire
import XCTest

@testable import microraptor

/// A query from its text to the printed rows, with a scripted agent on the other side of a real store.
final class QueryFlowTests: XCTestCase {
  private var directory = ""

  override func setUpWithError() throws {
    directory = NSTemporaryDirectory() + "admin-" + UUID().uuidString
  }

  override func tearDownWithError() throws {
    try? FileManager.default.removeItem(atPath: directory)
  }

  private func client(_ number: Int) throws -> ClientName {
    ClientName(id: try XCTUnwrap(ClientID("C.000000000000000\(number)")))
  }

  private func store(hosts: [String]) async throws -> SQLiteStore {
    let store = try await SQLiteStore.open(location: directory)
    for (number, host) in hosts.enumerated() {
      let name = try client(number)
      try await store.enroll(name, publicKeyPEM: "PEM", at: .now(), address: "192.0.2.1:1")
      var message = Proto_VeloMessage()
      message.sessionID = "F.Monitoring"
      message.vqlresponse.query.name = "Server.Internal.ClientInfo"
      message.vqlresponse.jsonlresponse = "{\"hostname\":\"\(host)\",\"fqdn\":\"\(host).example.org\"}\n"
      try await send([message], from: name, to: store)
    }
    return store
  }

  private func send(_ jobs: [Proto_VeloMessage], from client: ClientName, to store: any Store) async throws {
    let list = ReceivedList(bytes: try MessageListCodec.serialize(jobs), jobs: jobs)
    _ = try await store.ingest(
      Submission(client: client, remoteAddress: "192.0.2.1:1", receivedAt: .now(), lists: [list]))
  }

  /// What an agent sends at the end of a flow.
  private func answer(_ flow: FlowID, rows: String, error: String = "") -> [Proto_VeloMessage] {
    var data = Proto_VeloMessage()
    data.sessionID = flow.text
    data.vqlresponse.query.name = FlowRequestBuilder.source
    data.vqlresponse.jsonlresponse = rows
    var log = Proto_VeloMessage()
    log.sessionID = flow.text
    log.logMessage.jsonl = "{\"client_time\":1,\"level\":\"ERROR\",\"message\":\"it broke\"}\n"
    var end = Proto_VeloMessage()
    end.sessionID = flow.text
    end.flowStats.flowComplete = true
    var status = Proto_VeloStatus()
    status.status = error.isEmpty ? .ok : .genericError
    status.errorMessage = error
    end.flowStats.queryStatus = [status]
    return error.isEmpty ? [data, end] : [data, log, end]
  }

  func testTheRequestIsWhatStockClientsExpect() throws {
    let flow = FlowID.make(at: .now())
    let statements = try Statements.split("LET X = SELECT * FROM info() -- helper\nSELECT 1 FROM X SELECT * FROM X")
    let message = try FlowRequestBuilder(statements: statements, timeout: 77).message(flow: flow)
    XCTAssertEqual(message.sessionID, flow.text)
    XCTAssertEqual(message.requestID, 1)
    XCTAssertEqual(message.flowRequest.logBatchTime, 1_000)
    let action = try XCTUnwrap(message.flowRequest.vqlclientActions.first)
    XCTAssertEqual(action.query.map(\.name), ["", "Custom.Query/Statement2", "Custom.Query"])
    XCTAssertEqual(action.timeout, 77)
    XCTAssertEqual(action.maxRow, 1_000)
  }

  func testQueriesThatCannotRunAreRefusedBeforeQueueing() throws {
    for text in ["", "LET X = 1", "SELECT * FROM", "SELECT 1; DROP"] {
      XCTAssertThrowsError(
        try FlowRequestBuilder(statements: Statements.split(text)).message(flow: FlowID.make(at: .now())), text
      ) { XCTAssertEqual(($0 as? CommandFailure)?.status, .usage) }
    }
  }

  func testClientsAreFoundByIDAndHostName() async throws {
    let store = try await store(hosts: ["web1", "web10", "twin", "Twin"])
    let selection = ClientSelection(store: store)
    let byID = try await selection.one("C.0000000000000001")
    XCTAssertEqual(byID.facts.hostname, "web10")
    let byName = try await selection.one("WEB1")
    XCTAssertEqual(byName.client, try client(0))
    let byFQDN = try await selection.one("web10.example.org")
    XCTAssertEqual(byFQDN.client, try client(1))
    for (text, hint) in [
      ("twin", "2 clients"), ("web", "begin so"), ("mail", "no client"), ("C.00000000000000ff", "no client"),
    ] {
      do {
        _ = try await selection.one(text)
        XCTFail("\(text) was found")
      } catch let failure as CommandFailure {
        XCTAssertEqual(failure.status, .notFound)
        XCTAssertTrue(failure.description.contains(hint), failure.description)
      }
    }
    let all = try await selection.several([], all: true, label: nil)
    XCTAssertEqual(all.count, 4)
    await store.close()
  }

  func testRowsArePrintedAndTheFlowEnds() async throws {
    let store = try await store(hosts: ["a", "b"])
    let selection = ClientSelection(store: store)
    let flow = FlowID.make(at: .now())
    var targets: [(ClientRecord, FlowID)] = []
    for host in ["a", "b"] { targets.append((try await selection.one(host), flow)) }
    let builder = FlowRequestBuilder(statements: ["SELECT 1 AS X FROM scope()"])
    let message = try builder.message(flow: flow)
    try await store.queue(targets.map { NewTask(client: $0.0.client, message: message) }, by: .current)
    let output = OutputBox()
    var watcher = FlowWatcher(store: store, flows: targets, printer: RowPrinter(.jsonl) { output.append($0) })
    try await send(answer(flow, rows: "{\"X\":1}\n"), from: client(0), to: store)
    try await send(answer(flow, rows: "{\"X\":2}\n", error: "no plugin"), from: client(1), to: store)
    let ending = try await watcher.watch(until: .seconds(30), signal: ShutdownSignal(signals: []))
    XCTAssertEqual(ending, .allEnded)
    XCTAssertEqual(output.text, "{\"Client\":\"a\",\"X\":1}\n{\"Client\":\"b\",\"X\":2}\n")
    XCTAssertEqual(watcher.failed.map(\.errorText), ["no plugin"])
    XCTAssertEqual(watcher.failed.first?.errors, ["it broke"])
    await store.close()
  }

  func testWaitingEndsBySignalOrTimeAndLeavesTheFlow() async throws {
    let store = try await store(hosts: ["a"])
    let record = try await ClientSelection(store: store).one("a")
    let flow = FlowID.make(at: .now())
    let message = try FlowRequestBuilder(statements: ["SELECT 1 AS X FROM scope()"]).message(flow: flow)
    try await store.queue([NewTask(client: record.client, message: message)], by: .current)
    let signal = ShutdownSignal(signals: [])
    var watcher = FlowWatcher(store: store, flows: [(record, flow)], printer: RowPrinter(.jsonl) { _ in })
    var ending = try await watcher.watch(until: .zero, signal: signal)
    XCTAssertEqual(ending, .gaveUp)
    signal.trigger(2)
    ending = try await watcher.watch(until: nil, signal: signal)
    XCTAssertEqual(ending, .interrupted)
    let state = try await store.flow(FlowName(client: record.client, flow: flow))?.state
    XCTAssertEqual(state, .waiting)
    await store.close()
  }
}

private final class OutputBox {
  private(set) var text = ""

  func append(_ more: String) { text += more }
}
