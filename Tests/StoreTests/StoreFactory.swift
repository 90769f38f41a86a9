import Foundation
import PublicIdentity
import Store
import TestDatabase
import Wire
import XCTest

/// Makes the stores that the conformance suite runs against; every implementation has one.
struct StoreFactory: Sendable {
  var name: String
  /// Opens an empty store; the directory is the test's own.
  var open: @Sendable (_ directory: String, _ options: StoreOptions) async throws -> any Store

  static let sqlite = StoreFactory(name: "SQLite") { directory, options in
    try await SQLiteStore.open(location: directory, options: options)
  }

  static let all = [sqlite, postgreSQL]
}

extension XCTestCase {
  /// Runs `body` against an empty store of each implementation and closes it.
  func forEachStore(
    _ options: StoreOptions = StoreOptions(), _ body: (any Store) async throws -> Void
  ) async throws {
    for factory in StoreFactory.all {
      let directory = try temporaryDirectory()
      defer { try? FileManager.default.removeItem(atPath: directory) }
      let store = try await factory.open(directory, options)
      do {
        try await body(store)
      } catch {
        await store.close()
        XCTFail("\(factory.name): \(error)")
        throw error
      }
      await store.close()
    }
  }

  func temporaryDirectory() throws -> String {
    let path = NSTemporaryDirectory() + "store-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }
}

/// A scripted agent: builds the jobs of its bodies.
struct TestAgent {
  let name: ClientName
  var flow: FlowID

  init(_ number: Int = 1, org: String = "") throws {
    let digits = String(number, radix: 16)
    let id = try XCTUnwrap(ClientID("C." + String(repeating: "0", count: 16 - digits.count) + digits))
    name = ClientName(id: id, org: org)
    flow = FlowID.make(at: Timestamp(seconds: 1_800_000_000), random: UInt32(number))
  }

  func job(_ session: String? = nil, _ fill: (inout Proto_VeloMessage) -> Void) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = session ?? flow.text
    fill(&message)
    return message
  }

  func rows(
    _ jsonl: String, name: String = "Custom.Query", start: UInt64 = 0, part: UInt64 = 0, session: String? = nil
  ) -> Proto_VeloMessage {
    job(session) {
      $0.vqlresponse.query.name = name
      $0.vqlresponse.jsonlresponse = jsonl
      $0.vqlresponse.queryStartRow = start
      $0.vqlresponse.part = part
    }
  }

  func log(_ jsonl: String, id: Int64, level: String = "") -> Proto_VeloMessage {
    job {
      $0.logMessage.jsonl = jsonl
      $0.logMessage.id = id
      $0.logMessage.level = level
    }
  }

  func stats(
    _ statuses: Proto_VeloStatus.ReturnedStatus..., complete: Bool, text: String = "", rows: Int64 = 0
  ) -> Proto_VeloMessage {
    job {
      $0.flowStats.flowComplete = complete
      $0.flowStats.queryStatus = statuses.map { status in
        var item = Proto_VeloStatus()
        item.status = status
        item.errorMessage = text
        item.resultRows = rows
        return item
      }
    }
  }

  func piece(
    _ data: String, offset: UInt64, components: [String] = ["etc", "passwd"], number: Int64 = 0, eof: Bool = false,
    stored: UInt64 = 0
  ) -> Proto_VeloMessage {
    job {
      $0.fileBuffer.pathspec.accessor = "file"
      $0.fileBuffer.pathspec.components = components
      $0.fileBuffer.offset = offset
      $0.fileBuffer.data = Data(data.utf8)
      $0.fileBuffer.uploadNumber = number
      $0.fileBuffer.eof = eof
      $0.fileBuffer.storedSize = stored
      $0.fileBuffer.size = stored
    }
  }

  func monitoring(_ jsonl: String, name: String = "Generic.Client.Stats") -> Proto_VeloMessage {
    rows(jsonl, name: name, session: "F.Monitoring")
  }

  func checkIn(version: UInt64 = 0) -> Proto_VeloMessage {
    job("E.Foreman") { $0.foremanCheckin.lastEventTableVersion = version }
  }

  /// One list of jobs as the frontend hands it to the store.
  func list(_ jobs: [Proto_VeloMessage]) throws -> ReceivedList {
    var list = Proto_MessageList()
    list.job = jobs
    return ReceivedList(bytes: try list.serializedBytes(), jobs: jobs)
  }

  func submission(
    _ jobs: Proto_VeloMessage..., at: Timestamp = .now(), address: String = "192.0.2.1:5000"
  ) throws -> Submission {
    Submission(client: name, remoteAddress: address, receivedAt: at, lists: [try list(jobs)])
  }

  func flowTask(urgent: Bool = false, expiresAt: Timestamp? = nil, flow: FlowID? = nil) -> NewTask {
    let message = job((flow ?? self.flow).text) {
      $0.urgent = urgent
      var query = Proto_VQLRequest()
      query.vql = "SELECT * FROM info()"
      query.name = "Custom.Query"
      var action = Proto_VQLCollectorArgs()
      action.query = [query]
      $0.flowRequest.vqlclientActions = [action]
    }
    return NewTask(client: name, message: message, expiresAt: expiresAt)
  }

  var flowName: FlowName { FlowName(client: name, flow: flow) }
}

extension Store {
  /// Enrolls the agent and gives it back.
  func enrolled(_ agent: TestAgent, at: Timestamp = .now()) async throws -> TestAgent {
    try await enroll(
      agent.name, publicKeyPEM: "-----BEGIN RSA PUBLIC KEY-----\n\(agent.name)\n", at: at, address: "192.0.2.1:1")
    return agent
  }

  func json(_ flow: FlowName, source: String = "Custom.Query", from: Int64 = 0) async throws -> [String] {
    try await rows(of: flow, source: source, from: from, limit: 1_000_000).map(\.json)
  }
}

let alice = Operator(name: "alice", origin: "ops.example")

extension StoreFactory {
  /// Every test gets a database of its own.
  static let postgreSQL = StoreFactory(name: "PostgreSQL") { _, options in
    try await PostgreSQLStore.open(url: try PostgreSQLServer.shared().newDatabase(), options: options)
  }
}
