import NIOCore
import NIOEmbedded
import NIOHTTP1
import PublicIdentity
import Store
import Synchronization
import XCTest

@testable import frontend

/// An exchange without a connection that remembers what was done to it.
final class FakeExchange: Exchange {
  let userAgent = "Velociraptor"
  let remoteAddress: String
  let eventLoop: any EventLoop
  let connection: Connection
  let staysOpen: Bool
  let said = Mutex<[String]>([])

  init(_ address: String, staysOpen: Bool = false) throws {
    let channel = NIOAsyncTestingChannel()
    channel.remoteAddress = try SocketAddress(ipAddress: ReaderFacts.host(of: address), port: 1)
    remoteAddress = address
    eventLoop = channel.eventLoop
    connection = Connection(channel: channel)
    self.staysOpen = staysOpen
  }

  func respond(_ status: HTTPResponseStatus, bytes: [UInt8], headers: [(String, String)]) { note("\(status.code)") }
  func respond(_ status: HTTPResponseStatus, text: String?, headers: [(String, String)]) { note("\(status.code)") }
  func startStream() { note("head") }
  func writePad() { note("pad") }
  func deliver(_ bytes: [UInt8], written: @escaping @Sendable (Bool) -> Void) {
    note("tasks")
    written(true)
  }
  func finish(_ bytes: [UInt8], written: (@Sendable (Bool) -> Void)?) {
    note("end")
    written?(true)
  }
  func abort() { note("abort") }
  func onClose(_ callback: @escaping @Sendable () -> Void) {}

  private func note(_ text: String) { said.withLock { $0.append(text) } }
}

final class ReaderRegistryTests: XCTestCase {
  private func reader(_ registry: ReaderRegistry, _ session: UInt8, _ address: String) throws -> WaitingReader {
    WaitingReader(
      client: try XCTUnwrap(ClientName("C.0123456789abcdef")), exchange: try FakeExchange(address),
      routingKey: [session], look: { _ in }, ended: { registry.remove($0) })
  }

  private func said(_ reader: WaitingReader) -> [String] {
    (reader.exchange as? FakeExchange)?.said.withLock { $0 } ?? []
  }

  func testTheHolderIsAskedAndKept() async throws {
    let registry = ReaderRegistry(isAnswering: { _ in true })
    let first = try reader(registry, 1, "10.0.0.1:1")
    let second = try reader(registry, 2, "10.0.0.2:1")
    let admitted = await registry.register(first)
    XCTAssertEqual(admitted, .seated)
    let refused = await registry.register(second)
    XCTAssertEqual(refused, .refused(ReaderConflict(holder: first.facts, newcomer: second.facts)))
    XCTAssertEqual(registry.count, 1)
    registry.end(first.client)
    XCTAssertEqual(registry.count, 1, "a reader that asks the store ends after its answer")
    first.foundNothing()
    XCTAssertEqual(said(first), ["end"])
    XCTAssertEqual(registry.count, 0)
    let next = await registry.register(second)
    XCTAssertEqual(next, .seated)
  }

  func testADisplacedReaderEndsAndDoesNotTakeTheSeatWithIt() async throws {
    let registry = ReaderRegistry(isAnswering: { _ in false })
    let first = try reader(registry, 1, "10.0.0.1:1")
    let second = try reader(registry, 1, "10.0.0.2:1")
    _ = await registry.register(first)
    first.foundNothing()
    let admitted = await registry.register(second)
    XCTAssertEqual(admitted, .seated)
    XCTAssertEqual(said(first), ["end"])
    XCTAssertFalse(first.claim(), "tasks for it are given back")
    XCTAssertEqual(registry.count, 1)
    registry.remove(first)
    XCTAssertEqual(registry.count, 1)
    registry.remove(second)
    XCTAssertEqual(registry.count, 0)
  }

  /// Two frontends and one board: the agent moved.
  func testTheNewerReaderElsewhereWins() async throws {
    let (one, two) = (ReaderRegistry(), ReaderRegistry())
    let board = LocalSeatBoard()
    let ghost = try reader(one, 1, "10.0.0.1:1")
    let moved = try reader(two, 1, "10.0.0.1:2")
    _ = await one.register(ghost)
    ghost.foundNothing()
    let ghostClaim = SeatClaim(client: ghost.client, process: "one", facts: ghost.facts)
    let none = try await board.take(ghostClaim)
    XCTAssertNil(none)
    var claims = try await board.claims(besides: "one").makeAsyncIterator()
    _ = await two.register(moved)
    let before = try await board.take(SeatClaim(client: moved.client, process: "two", facts: moved.facts))
    XCTAssertEqual(before, ghostClaim)
    let claim = await claims.next()
    XCTAssertEqual(claim?.process, "two")
    if let claim { XCTAssertNil(one.seatedElsewhere(claim)) }
    XCTAssertEqual(said(ghost), ["end"])
    XCTAssertEqual([one.count, two.count], [0, 1])
    await board.leave(ghostClaim)
    let still = try await board.take(ghostClaim)
    XCTAssertEqual(still?.process, "two", "a claim that was replaced leaves nothing")
  }

  /// A reader over a websocket goes on after tasks.
  func testAReaderThatStaysOpen() {
    var wait = ReaderWait(staysOpen: true)
    XCTAssertTrue(wait.foundTasks())
    XCTAssertEqual(wait.delivered(), .lookForTasks)
    XCTAssertEqual(wait.foundNothing(), .none)
    XCTAssertEqual(wait.padIsDue(), .lookForTasks, "each ping looks for tasks")
    XCTAssertTrue(wait.foundTasks())
    XCTAssertEqual(wait.deadlinePassed(), .none)
    XCTAssertEqual(wait.delivered(), .endWithPad)
    XCTAssertFalse(wait.foundTasks())
  }

  func testHosts() {
    XCTAssertEqual(ReaderFacts.host(of: "10.0.0.1:443"), "10.0.0.1")
    XCTAssertEqual(ReaderFacts.host(of: "[fd00::1]:443"), "fd00::1")
    XCTAssertEqual(ReaderFacts.host(of: "fd00::1"), "fd00::1")
    XCTAssertEqual(ReaderFacts.host(of: "203.0.113.4, 10.0.0.1"), "203.0.113.4, 10.0.0.1")
    XCTAssertEqual(ReaderFacts.host(of: "["), "[")
  }
}
