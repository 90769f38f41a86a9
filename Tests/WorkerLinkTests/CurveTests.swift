import Foundation
import XCTest

@testable import WorkerLink

/// CURVE between frontends and workers, on loopback TCP.
final class CurveTests: XCTestCase {
  private typealias Pair = (publicKey: String, secretKey: String)

  private func keys(_ own: Pair, _ peers: Pair...) throws -> CurveKeys {
    try CurveKeys(publicKey: own.publicKey, secretKey: own.secretKey, peerPublicKeys: peers.map(\.publicKey))
  }

  private func worker(_ keys: CurveKeys?, _ notes: EventLog<String>, _ asked: EventLog<WorkerRequest>) throws
    -> WorkerServer
  {
    try WorkerServer(endpoint: "tcp://127.0.0.1:*", curve: keys, notes: { notes.add("\($0)") }) { request, _, respond in
      asked.add(request)
      if case .health = request { respond(.health(WorkerHealth(name: "w"))) } else { respond(.done) }
    }
  }

  func testTheRightKeysWork() async throws {
    let (server, first, second) = try (pair(), pair(), pair())
    let notes = EventLog<String>(seconds: 20)
    let worker = try worker(keys(server, first, second), notes, EventLog(seconds: 20))
    for frontend in [first, second] {
      let link = try WorkerLink(
        endpoints: [worker.endpoint], routingSecret: [1], curve: keys(frontend, server)
      ) { _ in }
      for _ in 0..<20 {
        let outcome = await link.request(.forget(source: "x"), timeout: 20_000)
        XCTAssertEqual(outcome, .reply(.done))
      }
      link.stop()
    }
    XCTAssertFalse(notes.all.contains("unknownKey"))
    worker.stop()
  }

  /// A frontend whose key is not listed, one that expects another worker, and one without CURVE: none is heard.
  func testOthersAreRefusedAndNoted() async throws {
    let (server, frontend, stranger) = try (pair(), pair(), pair())
    for (curve, note) in [
      (try keys(stranger, server), "unknownKey"), (try keys(frontend, stranger), "handshakeFailed"),
      (nil, "handshakeFailed"),
    ] {
      let notes = EventLog<String>(seconds: 20)
      let asked = EventLog<WorkerRequest>(seconds: 20)
      let worker = try worker(keys(server, frontend), notes, asked)
      let seen = EventLog<LinkStateMachine.Note>(seconds: 20)
      let link = try WorkerLink(endpoints: [worker.endpoint], routingSecret: [1], curve: curve) { seen.add($0) }
      async let outcome = link.request(.forget(source: "x"), timeout: 60_000)
      XCTAssertTrue(notes.wait { $0 == note }, "\(note) in \(notes.all)")
      link.stop()
      let ended = await outcome
      XCTAssertEqual(ended, .unavailable)
      XCTAssertTrue(asked.all.isEmpty)
      XCTAssertEqual(seen.all.count, 0, "the worker was never up")
      worker.stop()
    }
  }

  /// A frontend with keys does not talk to a worker without.
  func testAFrontendWithKeysDemandsThem() async throws {
    let (server, frontend) = try (pair(), pair())
    let notes = EventLog<String>(seconds: 20)
    let asked = EventLog<WorkerRequest>(seconds: 20)
    let worker = try worker(nil, notes, asked)
    let link = try WorkerLink(endpoints: [worker.endpoint], routingSecret: [1], curve: keys(frontend, server)) { _ in }
    async let outcome = link.request(.forget(source: "x"), timeout: 60_000)
    XCTAssertTrue(notes.wait { $0 == "handshakeFailed" }, "\(notes.all)")
    link.stop()
    let ended = await outcome
    XCTAssertEqual(ended, .unavailable)
    XCTAssertTrue(asked.all.isEmpty)
    worker.stop()
  }

  func testKeysAreChecked() throws {
    let (one, other) = try (pair(), pair())
    XCTAssertEqual(one.publicKey.count, 40)
    XCTAssertNotEqual(one.secretKey, other.secretKey)
    func refusal(_ publicKey: String, _ secretKey: String, _ peers: [String]) -> String {
      do {
        _ = try CurveKeys(publicKey: publicKey, secretKey: secretKey, peerPublicKeys: peers)
        return "accepted"
      } catch {
        XCTAssertFalse(error.description.contains(one.secretKey))
        return error.description
      }
    }
    let peer = [other.publicKey]
    XCTAssertEqual(refusal(one.publicKey, one.secretKey, peer), "accepted")
    XCTAssertTrue(refusal(other.publicKey, one.secretKey, peer).contains("do not belong together"))
    XCTAssertTrue(refusal(one.publicKey, one.secretKey, []).contains("peer_public_keys"))
    XCTAssertTrue(refusal(one.publicKey, one.secretKey + "00000", peer).contains("secret_key: expected 40"))
    XCTAssertTrue(refusal(one.publicKey, one.secretKey, ["short"]).contains("peer_public_keys: expected 40"))
    XCTAssertTrue(
      refusal(String(repeating: "\"", count: 40), one.secretKey, peer).contains("public_key: expected 40"))
    XCTAssertFalse("\(try keys(one, other))".contains(one.secretKey))
  }

  /// The gate's decision for requests of the authentication protocol, well-formed and not.
  func testTheGateAdmitsListedKeysOnly() {
    let listed = [UInt8](repeating: 1, count: 32)
    func request(_ mechanism: String = "CURVE", version: String = "1.0", key: [UInt8]) -> [[UInt8]] {
      [version, "id", "microraptor", "10.0.0.1", "", mechanism].map { Array($0.utf8) } + [key]
    }
    let (reply, isAdmitted) = KeyGate.decide(request(key: listed), [listed])
    XCTAssertTrue(isAdmitted)
    XCTAssertEqual(reply.map { String(decoding: $0, as: UTF8.self) }, ["1.0", "id", "200", "OK", "frontend", ""])
    let wrong: [[[UInt8]]] = [
      request(key: [UInt8](repeating: 2, count: 32)), request("NULL", key: listed), request("PLAIN", key: listed),
      request(version: "2.0", key: listed), request(key: []), Array(request(key: listed).dropLast()),
      request(key: listed) + [listed], [], [[]],
    ]
    for frames in wrong {
      let (reply, isAdmitted) = KeyGate.decide(frames, [listed])
      XCTAssertFalse(isAdmitted, "\(frames)")
      XCTAssertEqual(reply.count, 6)
      XCTAssertEqual(reply.dropFirst(2).first, Array("400".utf8))
    }
    XCTAssertFalse(KeyGate.decide(request(key: []), [[]]).isAdmitted)
  }

  private func pair() throws -> Pair { try CurveKeys.generatePair() }
}
