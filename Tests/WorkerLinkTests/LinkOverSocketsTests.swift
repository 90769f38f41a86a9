import Foundation
import WorkerLink
import XCTest

/// The link and the server on real ZeroMQ sockets.
final class LinkOverSocketsTests: XCTestCase {
  private func endpoint() -> String {
    "ipc://" + NSTemporaryDirectory() + "mr-\(UUID().uuidString.prefix(8)).sock"
  }

  private func worker(_ endpoint: String, _ notes: EventLog<String>, answer: WorkerReply = .done) throws -> WorkerServer
  {
    try WorkerServer(endpoint: endpoint, notes: { notes.add("\($0)") }) { request, _, respond in
      if case .health = request { respond(.health(WorkerHealth(name: endpoint))) } else { respond(answer) }
    }
  }

  func testRequestsAreAnswered() async throws {
    let address = endpoint()
    let notes = EventLog<String>()
    let server = try worker(address, notes, answer: .unverified(source: "C.0123456789abcdef"))
    let link = try WorkerLink(endpoints: [address], routingSecret: [1]) { _ in }
    for _ in 0..<200 {
      let outcome = await link.request(.open(body: [], acknowledge: false), timeout: 10_000)
      XCTAssertEqual(outcome, .reply(.unverified(source: "C.0123456789abcdef")))
    }
    link.stop()
    server.stop()
  }

  func testTheSocketFileIsPrivate() throws {
    let address = endpoint()
    let server = try worker(address, EventLog<String>())
    let path = String(address.dropFirst("ipc://".count))
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    XCTAssertEqual(mode.map { $0 & 0o077 }, 0)
    server.stop()
  }

  func testAnotherWorkerTakesOver() async throws {
    let notes = EventLog<String>()
    let link1 = endpoint()
    let link2 = endpoint()
    let first = try worker(link1, notes)
    let second = try worker(link2, notes)
    let seen = EventLog<LinkStateMachine.Note>()
    let link = try WorkerLink(endpoints: [link1, link2], routingSecret: [1]) { seen.add($0) }
    XCTAssertTrue(seen.wait { $0 == .workerUp(link1) })
    XCTAssertTrue(seen.wait { $0 == .workerUp(link2) })
    first.stop()
    for key in 0..<40 as Range<UInt8> {
      let request = WorkerRequest.seal(routingKey: [key], source: "", publicKey: [], list: [])
      let outcome = await link.request(request, timeout: 10_000)
      XCTAssertEqual(outcome, .reply(.done))
    }
    link.stop()
    second.stop()
  }

  /// Bytes that are not ZeroMQ, and ZeroMQ messages that are not ours, are noted and change nothing.
  func testGarbageOnTheEndpoint() async throws {
    let notes = EventLog<String>()
    let server = try worker("tcp://127.0.0.1:*", notes)
    let port = try XCTUnwrap(UInt16(server.endpoint.split(separator: ":").last.map(String.init) ?? ""))
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    XCTAssertEqual(connected, 0)
    let garbage = [UInt8](repeating: 0x41, count: 4096)
    _ = garbage.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    XCTAssertTrue(notes.wait { $0.contains("handshakeFailed") || $0.contains("frontendDisconnected") })
    close(descriptor)
    let link = try WorkerLink(endpoints: [server.endpoint], routingSecret: [1]) { _ in }
    let outcome = await link.request(.forget(source: "x"), timeout: 10_000)
    XCTAssertEqual(outcome, .reply(.done))
    link.stop()
    server.stop()
  }

  /// Workers come and go while requests are answered.
  func testWorkersAreExchangedWhileRunning() async throws {
    let notes = EventLog<String>()
    let (address1, address2) = (endpoint(), endpoint())
    let first = try worker(address1, notes)
    let second = try worker(address2, notes)
    let seen = EventLog<LinkStateMachine.Note>()
    let link = try WorkerLink(endpoints: [], routingSecret: [1]) { seen.add($0) }
    async let early = link.request(.forget(source: "early"), timeout: 20_000)
    link.setWorkers([address1])
    XCTAssertTrue(seen.wait { $0 == .workerUp(address1) })
    let answer = await early
    XCTAssertEqual(answer, .reply(.done))
    link.setWorkers([address1, address2])
    XCTAssertTrue(seen.wait { $0 == .workerUp(address2) })
    link.setWorkers([address2, "tcp://not an address"])
    XCTAssertTrue(seen.wait { $0 == .workerRemoved(address1) })
    XCTAssertTrue(seen.wait { if case .unusable = $0 { true } else { false } })
    first.stop()
    for key in 0..<40 as Range<UInt8> {
      let request = WorkerRequest.seal(routingKey: [key], source: "", publicKey: [], list: [])
      let outcome = await link.request(request, timeout: 10_000)
      XCTAssertEqual(outcome, .reply(.done))
    }
    XCTAssertEqual(Array(link.snapshot.inFlight.keys), [address2])
    link.stop()
    second.stop()
  }

  func testAStoppedLinkAnswersAtOnce() async throws {
    let link = try WorkerLink(endpoints: [endpoint()], routingSecret: [1]) { _ in }
    async let waiting = link.request(.health, timeout: 60_000)
    link.stop()
    let first = await waiting
    XCTAssertEqual(first, .unavailable)
    let second = await link.request(.health, timeout: 60_000)
    XCTAssertEqual(second, .unavailable)
  }
}
