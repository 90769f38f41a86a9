import Synchronization
import Wire
import XCTest

@testable import AgentCore

/// The whole agent by HTTP/2 and by websockets: enrollment, tasks, results, and faults that lose nothing.
final class AgentProtocolTests: AgentCase {
  private func rows(_ frontend: FakeFrontend) -> [UInt64] {
    frontend.jobs.filter { $0.sessionID == "F.1" && $0.hasVqlresponse }.map(\.vqlresponse.totalRows)
  }

  func testByHTTP2ReaderAndSenderShareOneConnection() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await server(frontend, protocols: ["h2"])
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
    try start(try deployment().settings([server.url], in: directory))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    XCTAssertEqual(rows(frontend), [3])
    XCTAssertEqual(Set(server.requests.map(\.connection)), [1])
  }

  /// Resets, GOAWAY and cut connections in the middle of results: the rows come, and once.
  func testFaultsOfHTTP2LoseNothing() async throws {
    let deployment = try deployment()
    let faults: [(String, ScriptedServer.Reply)] = [
      ("reset", .reset(.internalError)), ("refused", .reset(.refusedStream)), ("cut head", .cut([])),
      ("cut in pads", .cut([0x5a, 1, 0])), ("hang up", .hangUp), ("go away", .goAway(isTaken: false)),
      ("enhance your calm", .reset(.enhanceYourCalm)),
    ]
    for (name, fault) in faults {
      let directory = try TemporaryDirectory()
      let frontend = FakeFrontend(deployment)
      let left = Mutex(2)
      frontend.script { request, _ in
        guard frontend.isEnrolled, request.uri.hasSuffix("control"), request.headers["X-Priority"].isEmpty else {
          return nil
        }
        return left.withLock { left in
          left -= 1
          return left >= 0 ? fault : nil
        }
      }
      let server = try await server(frontend, protocols: ["h2"])
      try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
      try start(deployment.settings([server.url], in: directory))
      await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
      XCTAssertEqual(rows(frontend), [3], name)
      await stopAll()
    }
  }

  func testByWebsockets() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await webSockets(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
    let agent = try start(try deployment().settings([server.url], in: directory))
    await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
    XCTAssertEqual(rows(frontend), [3])
    for line in ["Sending CSR for \(agent.clientID)", "by a websocket"] { XCTAssertTrue(log.contains(line), line) }
  }

  /// Codes and cut websockets in the middle of results.
  func testFaultsOfWebsocketsLoseNothing() async throws {
    let deployment = try deployment()
    let replies: [(String, ScriptedServer.Reply)] = [
      ("406", .answer(406)), ("503", .answer(503)), ("403", .answer(403)), ("409", .answer(409)),
      ("400", .answer(400)), ("closed", .close),
    ]
    for (name, reply) in replies {
      let directory = try TemporaryDirectory()
      let frontend = FakeFrontend(deployment)
      let left = Mutex(2)
      frontend.script { request, _ in
        guard frontend.isEnrolled, request.uri.hasSuffix("control"), request.method == "POST" else { return nil }
        return left.withLock { left in
          left -= 1
          return left >= 0 ? reply : nil
        }
      }
      let server = try await webSockets(frontend)
      try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
      try start(deployment.settings([server.url], in: directory))
      await fulfillment(of: [frontend.completion(of: "F.1")], timeout: patience)
      XCTAssertEqual(rows(frontend), [3], name)
      await stopAll()
    }
  }

  func testOnceByWebsockets() async throws {
    let directory = try TemporaryDirectory()
    let frontend = FakeFrontend(try deployment())
    let server = try await webSockets(frontend)
    try frontend.queue(Make.flow("F.1", [Make.collector(["rows 3"])]))
    let end = try await agent(try deployment().settings([server.url], in: directory)).run(once: true)
    XCTAssertEqual(end, .done)
    XCTAssertEqual(rows(frontend), [3])
  }
}
