import Foundation
import PKI
import PublicIdentity
import Synchronization
import Wire
import XCTest

/// An agent that a test can count on while everything around it is killed: its sender keeps each message list until it
/// is acknowledged and sends it again in a new body, as agents do; its reader executes what it is given, each time it is
/// given it. What it did is compared with what was stored.
final class ChaosAgent: Sendable {
  /// Where the agents of one deployment connect to.
  struct Server: Sendable {
    var nonce: String
    var pem: String
    var ports: [Int]
  }

  struct Counts: Sendable {
    var acknowledged = 0
    var resent = 0
    var cut = 0
    var readersCut = 0
    var conflicts = 0
    /// Answers that no killed process explains.
    var unexpected: [String] = []
  }

  private enum Phase { case load, drain, over }

  private struct State {
    var phase = Phase.load
    /// The lists of the next body, until they are acknowledged.
    var current: [[UInt8]] = []
    /// What the reader has to say, in order.
    var outbox: [[UInt8]] = []
    /// The numbers that follow.
    var rows = 0
    var events = 0
    /// How often each flow was executed.
    var executed: [String: Int] = [:]
    var counts = Counts()
  }

  /// The flow that the sender fills by itself.
  static let flow = "F.CHAOS"
  static let artifact = "Chaos.Events"
  /// Rows of each flow that was asked for.
  static let rowsPerTask = 7

  private let server: Server
  private let key: RSAPrivateKey
  private let state = Mutex(State())

  init(_ server: Server) throws {
    self.server = server
    key = try RSAPrivateKey.generate()
  }

  var id: String { key.publicKey.clientID.rawValue }
  var rows: Int { state.withLock { $0.rows } }
  var events: Int { state.withLock { $0.events } }
  var executed: [String: Int] { state.withLock { $0.executed } }
  var counts: Counts { state.withLock { $0.counts } }
  var hasSentAll: Bool { state.withLock { $0.current.isEmpty && $0.outbox.isEmpty } }

  /// From now on only what is there is sent, and nothing is cut any more.
  func drain() { state.withLock { $0.phase = .drain } }

  func end() { state.withLock { $0.phase = .over } }

  private var phase: Phase { state.withLock { $0.phase } }
  private var cuts: Bool { phase == .load && Int.random(in: 0..<20) == 0 }

  private func client() throws -> ScriptedClient {
    try ScriptedClient(nonce: server.nonce, serverPEM: server.pem, port: server.ports[0], key: key)
  }

  /// Makes the client known, before anything is killed.
  func enroll() throws {
    let client = try client()
    try client.enroll()
    try client.deliver([ScriptedClient.checkIn])
  }

  // MARK: the sender

  /// Sends until the end; blocks its thread.
  func send() throws {
    let client = try client()
    while phase != .over {
      guard let lists = takeLists() else {
        usleep(20_000)
        continue
      }
      if attempt(lists, client) {
        state.withLock { state in
          state.current = []
          state.counts.acknowledged += 1
        }
      } else {
        state.withLock { $0.counts.resent += 1 }
        usleep(.random(in: 1_000...30_000))
      }
    }
  }

  /// The lists that are to be acknowledged next; nil when there is nothing to say.
  private func takeLists() -> [[UInt8]]? {
    state.withLock { state in
      if !state.current.isEmpty { return state.current }
      if !state.outbox.isEmpty {
        let count = min(state.outbox.count, .random(in: 1...3))
        state.current = Array(state.outbox.prefix(count))
        state.outbox.removeFirst(count)
      } else if state.phase == .load {
        state.current = (0..<Int.random(in: 1...2)).compactMap { _ in Self.numbered(&state) }
      }
      return state.current.isEmpty ? nil : state.current
    }
  }

  /// A list with the next rows of the flow and of the event query.
  private static func numbered(_ state: inout State) -> [UInt8]? {
    let (rows, events) = (Int.random(in: 1...5), Int.random(in: 1...3))
    let jobs = [
      ScriptedClient.rows(flow: flow, from: state.rows, count: rows, part: UInt64(state.rows)),
      ScriptedClient.rows(flow: "F.Monitoring", artifact: artifact, from: state.events, count: events),
    ]
    guard let list = try? MessageListCodec.serialize(jobs) else { return nil }
    state.rows += rows
    state.events += events
    return list
  }

  /// - Returns: whether the lists were acknowledged.
  private func attempt(_ lists: [[UInt8]], _ client: ScriptedClient) -> Bool {
    let cut = cuts
    do {
      let body = try client.seal(lists: lists)
      let port = server.ports.randomElement() ?? client.port
      let exchange = try HTTPSClient(port: port).start("POST", "/control", body)
      if cut {
        usleep(.random(in: 0...30_000))
        exchange.cancel()
        state.withLock { $0.counts.cut += 1 }
        return false
      }
      let answer = try exchange.wait(seconds: 30)
      note(answer, expected: [0, 200, 503])
      guard answer.status == 200, answer.isComplete else { return false }
      return try client.open(answer) != nil
    } catch {
      return false
    }
  }

  private func note(_ answer: HTTPSClient.Answer, expected: Set<Int>) {
    guard !expected.contains(answer.status) else { return }
    let text = "\(answer.status) \(String(decoding: answer.body.prefix(100), as: UTF8.self))"
    state.withLock { $0.counts.unexpected.append(text) }
  }

  // MARK: the reader

  /// Reads until the end; blocks its thread.
  func read() throws {
    let client = try client()
    while phase != .over {
      let cut = cuts
      guard let port = server.ports.randomElement() else { return }
      do {
        let exchange = try HTTPSClient(port: port).start("POST", "/reader", client.seal([ScriptedClient.checkIn]))
        if cut {
          usleep(.random(in: 0...1_500_000))
          exchange.cancel()
          state.withLock { $0.counts.readersCut += 1 }
          continue
        }
        // As one whose network changes now and then.
        let answer = try exchange.wait(seconds: .random(in: 1...4))
        note(answer, expected: [0, 200, 409, 503])
        if answer.status == 409 { state.withLock { $0.counts.conflicts += 1 } }
        if answer.status == 200, answer.isComplete, let jobs = try client.open(answer) { execute(jobs) }
        // An agent waits much longer; this one is to be there for the next task.
        if answer.status != 200 { usleep(.random(in: 300_000...900_000)) }
      } catch {
        usleep(50_000)
      }
    }
  }

  private func execute(_ jobs: [Proto_VeloMessage]) {
    state.withLock { state in
      for job in jobs {
        if job.hasFlowRequest {
          state.executed[job.sessionID, default: 0] += 1
          Self.say([Self.stats(job.sessionID, .progress, complete: false)], &state)
          let rows = ScriptedClient.rows(
            flow: job.sessionID, artifact: "Custom.Query", from: 0, count: Self.rowsPerTask)
          Self.say([rows, Self.stats(job.sessionID, .ok, complete: true)], &state)
        }
        for id in job.flowStatsRequest.flowID {
          let isKnown = state.executed[id] != nil
          Self.say([Self.stats(id, isKnown ? .ok : .unknownFlow, complete: true)], &state)
        }
      }
    }
  }

  private static func say(_ jobs: [Proto_VeloMessage], _ state: inout State) {
    if let list = try? MessageListCodec.serialize(jobs) { state.outbox.append(list) }
  }

  private static func stats(
    _ flow: String, _ status: Proto_VeloStatus.ReturnedStatus, complete: Bool
  ) -> Proto_VeloMessage {
    var message = Proto_VeloMessage()
    message.sessionID = flow
    message.requestID = 981
    var only = Proto_VeloStatus()
    only.status = status
    if status == .unknownFlow { only.errorMessage = "Flow not known - maybe the client crashed?" }
    if status == .ok { only.resultRows = Int64(rowsPerTask) }
    message.flowStats.queryStatus = [only]
    message.flowStats.flowComplete = complete
    return message
  }
}
