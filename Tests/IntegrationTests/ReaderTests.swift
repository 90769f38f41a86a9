import Foundation
import Wire
import XCTest

/// The frontend's `/reader`: waiting, waking and giving out tasks.
final class ReaderTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private func start(frontends: Int = 1, maxPoll: Int = 60) throws -> ScriptedClient {
    deployment = try Deployment(frontends: frontends, maxPoll: maxPoll)
    try deployment.startAll()
    let client = try deployment.client()
    try client.enroll()
    return client
  }

  /// Queues a query and returns its flow id.
  private func queue(_ client: ScriptedClient, _ query: String = "SELECT * FROM info()") throws -> String {
    let output = try deployment.microraptor(["query", client.id, query, "--no-wait"])
    return try XCTUnwrap(output.split(separator: "\n").last.map(String.init))
  }

  /// H-14, S-20, W-1: a task queued by another process ends a waiting reader, at any frontend.
  func testAQueuedTaskEndsAWaitingReader() throws {
    let client = try start(frontends: 2)
    for port in deployment.ports {
      client.port = port
      let reader = try client.startReader()
      try waitForReaders(1)
      let flow = try queue(client)
      let jobs = try XCTUnwrap(client.open(try reader.wait(seconds: 20)))
      XCTAssertEqual(jobs.filter(\.hasFlowRequest).map(\.sessionID), [flow])
      let request = try XCTUnwrap(jobs.first { $0.hasFlowRequest }).flowRequest
      XCTAssertEqual(request.vqlclientActions.first?.query.last?.vql, "SELECT * FROM info()")
      // The agent speaks about the flow, so it is not asked for again.
      try client.deliver([finished(flow)])
    }
  }

  private func waitForReaders(_ count: Int) throws {
    let end = Date(timeIntervalSinceNow: 30)
    while Date() < end {
      let waiting = try (1...deployment.ports.count).reduce(0.0) {
        try $0 + deployment.metric("frontend-\($1)", "client_comms_current_connections")
      }
      if Int(waiting) == count { return }
    }
    XCTFail("no reader waits")
  }

  /// A task that was queued while nobody waited is in the first answer.
  func testAWaitingTaskIsGivenAtOnce() throws {
    let client = try start()
    let flow = try queue(client)
    let jobs = try XCTUnwrap(client.open(try client.startReader().wait(seconds: 20)))
    XCTAssertTrue(jobs.contains { $0.sessionID == flow && $0.hasFlowRequest })
  }

  /// H-10: headers at once; the deadline ends with a pad.
  func testTheDeadlineEndsWithAPad() throws {
    let client = try start(maxPoll: 1)
    let reader = try client.startReader()
    let answer = try reader.wait(seconds: 60)
    XCTAssertEqual(answer.status, 200)
    XCTAssertTrue(answer.isComplete)
    XCTAssertEqual(Array(answer.body.suffix(3)), envelopePad)
    XCTAssertNil(try client.open(answer))
  }

  /// H-13: a second reader of the same id is refused and noted; the first goes on.
  func testASecondReader() throws {
    let client = try start()
    let first = try client.startReader()
    try waitForReaders(1)
    let second = try client.startReader().wait(seconds: 20)
    XCTAssertEqual(second.status, 409)
    XCTAssertTrue(String(decoding: second.body, as: UTF8.self).hasPrefix("Another Client connection exists."))
    let flow = try queue(client)
    XCTAssertEqual(try client.open(first.wait(seconds: 20))?.first { $0.hasFlowRequest }?.sessionID, flow)
    XCTAssertTrue(try conflicts().contains { $0.contains(client.id) })
  }

  /// One reader per client across all frontends: an agent that went to another frontend leaves no ghost behind.
  func testANewerReaderElsewhereEndsTheOlder() throws {
    let client = try start(frontends: 2)
    let older = try client.startReader()
    try waitForReaders(1)
    client.port = deployment.ports[1]
    let newer = try client.startReader()
    let ended = try older.wait(seconds: 20)
    XCTAssertTrue(ended.isComplete)
    XCTAssertNil(try client.agent.open(ended.body), "an orderly end, as at the deadline")
    try waitForReaders(1)
    let flow = try queue(client)
    XCTAssertEqual(try client.open(newer.wait(seconds: 20))?.first { $0.hasFlowRequest }?.sessionID, flow)
    XCTAssertEqual(try conflicts(), [], "it is one agent")
  }

  /// Two machines with one client id at two frontends: each newer one wins until that is plainly a feud.
  func testTwoMachinesThatDisplaceEachOtherAreAConflict() throws {
    let here = try start(frontends: 2)
    let there = try ScriptedClient(
      nonce: here.nonce, serverPEM: deployment.messageCertificate(), port: deployment.ports[1], key: here.key)
    try there.deliver([ScriptedClient.checkIn])
    let first = try here.startReader()
    try waitForReaders(1)
    let second = try there.startReader()
    XCTAssertTrue(try first.wait(seconds: 20).isComplete)
    let third = try here.startReader()
    XCTAssertTrue(try second.wait(seconds: 20).isComplete)
    XCTAssertEqual(try there.startReader().wait(seconds: 20).status, 409, "no third time")
    third.cancel()
    let found = try conflicts()
    XCTAssertFalse(found.isEmpty)
    for text in found {
      XCTAssertTrue(text.contains(here.id), text)
      XCTAssertEqual(text.components(separatedBy: "127.0.0.1:").count, 3, "both addresses: \(text)")
    }
  }

  private func conflicts() throws -> [String] {
    try deployment.microraptor([
      "monitor", "--artifact", "Server.Internal.ClientConflict", "--no-follow", "--format", "jsonl",
    ]).split(separator: "\n").map(String.init)
  }

  /// A reader that hangs up makes room for the next.
  func testAReaderThatHangsUpMakesRoom() throws {
    let client = try start()
    let first = try client.startReader()
    try waitForReaders(1)
    first.cancel()
    try waitForReaders(0)
    let flow = try queue(client)
    XCTAssertEqual(
      try client.open(client.startReader().wait(seconds: 20))?.first { $0.hasFlowRequest }?.sessionID, flow)
  }

  /// A reader that hangs up and comes back at once, as after a change of network, is not locked out by itself.
  func testAReaderThatComesBackAtOnceIsNotRefused() throws {
    let client = try start()
    for round in 0..<20 {
      let first = try client.startReader()
      try waitForReaders(1)
      first.cancel()
      let second = try client.startReader()
      let flow = try queue(client)
      let answer = try second.wait(seconds: 20)
      XCTAssertEqual(answer.status, 200, "round \(round)")
      guard answer.status == 200 else { continue }
      XCTAssertEqual(try client.open(answer)?.first { $0.hasFlowRequest }?.sessionID, flow)
      try client.deliver([finished(flow)])
    }
  }

  private func finished(_ flow: String) -> Proto_VeloMessage {
    var done = Proto_VeloMessage()
    done.sessionID = flow
    done.requestID = 981
    var status = Proto_VeloStatus()
    status.status = .ok
    done.flowStats.queryStatus = [status]
    done.flowStats.flowComplete = true
    return done
  }

  /// SIGTERM ends readers in order and the process with 0.
  func testStoppingEndsReaders() throws {
    let client = try start()
    let reader = try client.startReader()
    try waitForReaders(1)
    XCTAssertEqual(try deployment.process("frontend-1").stop(), 0)
    let answer = try reader.wait(seconds: 20)
    XCTAssertTrue(answer.isComplete)
    XCTAssertNil(try client.agent.open(answer.body))
    XCTAssertEqual(try deployment.process("worker-1").stop(), 0)
  }
}
