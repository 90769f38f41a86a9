import Envelope
import Foundation
import Observability
import PKI
import PublicIdentity
import Synchronization
import Wire
import WorkerLink
import XCTest

@testable import crypto_worker

/// What a frontend and a worker say to each other about one client.
final class CryptoServiceTests: XCTestCase {
  private final class Clock: Sendable {
    private let value = Mutex<UInt64>(1_000)
    var now: UInt64 { value.withLock { $0 } }
    func advance(_ milliseconds: UInt64) { value.withLock { $0 += milliseconds } }
  }

  private struct Bench {
    let server: RSAPrivateKey
    let service: CryptoService
    let metrics: CryptoMetrics
    let clock: Clock
    let lane: ColdLane

    func ask(_ request: WorkerRequest, patience: UInt32 = 20_000) async -> WorkerReply {
      await withCheckedContinuation { continuation in
        service.handle(request, patience: patience) { continuation.resume(returning: $0) }
      }
    }
  }

  private struct Client {
    let key: RSAPrivateKey
    let agent: AgentEnvelope
    var id: String { key.publicKey.clientID.rawValue }

    func body(_ lists: [[UInt8]] = [[1, 2, 3]]) throws -> [UInt8] { try agent.seal(lists: lists, compressed: false) }
  }

  private func bench(expectedClients: Int = 100, coldLimit: Int = 100, unwrapsPerSecond: Int = 0) throws -> Bench {
    let server = try RSAPrivateKey.generate()
    let metrics = CryptoMetrics(MetricsRegistry())
    let clock = Clock()
    let lane = ColdLane(threads: 2, limit: coldLimit)
    var settings = CryptoService.Settings(
      name: "w", serverName: "VelociraptorServer", privateKey: server, orgs: ["": "root", "OABCD": "tenant"],
      expectedClients: expectedClients)
    settings.coldLimit = coldLimit
    settings.unwrapsPerSecond = unwrapsPerSecond
    let service = CryptoService(settings: settings, cold: lane, metrics: metrics) { clock.now }
    return Bench(server: server, service: service, metrics: metrics, clock: clock, lane: lane)
  }

  private func client(_ bench: Bench, nonce: String = "root", key: RSAPrivateKey? = nil) throws -> Client {
    let key = try key ?? RSAPrivateKey.generate()
    let agent = AgentEnvelope(privateKey: key, nonce: nonce)
    agent.setServer(name: "VelociraptorServer", publicKey: bench.server.publicKey)
    return Client(key: key, agent: agent)
  }

  private func opened(_ reply: WorkerReply, file: StaticString = #filePath, line: UInt = #line) throws -> OpenedBody {
    guard case .opened(let body) = reply else {
      XCTFail("\(reply)", file: file, line: line)
      throw EnvelopeError(.noSession)
    }
    return body
  }

  /// From the first check-in to a warm session: one RSA decryption, one signature.
  func testEnrollmentCostsOneDecryption() async throws {
    let bench = try bench()
    let client = try client(bench)
    let first = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(first, .unverified(source: client.id))
    let unenrolled = await bench.ask(.unenrolled(body: try client.body([[7]])))
    guard case .unauthenticated(let content) = unenrolled else { return XCTFail("\(unenrolled)") }
    XCTAssertEqual(content.lists, [[7]])
    let again = await bench.ask(.open(body: try client.body(), acknowledge: true))
    XCTAssertEqual(again, .unverified(source: client.id))

    let key = client.key.publicKey.pkcs1DER
    let confirmed = await bench.ask(.confirm(body: try client.body(), publicKey: key, acknowledge: true))
    let body = try opened(confirmed)
    XCTAssertEqual(body.source, client.id)
    XCTAssertEqual(body.lists, [[1, 2, 3]])
    XCTAssertEqual(try client.agent.open(body.acknowledgement), [[]])
    for _ in 0..<5 { _ = try opened(await bench.ask(.open(body: try client.body(), acknowledge: true))) }
    XCTAssertEqual(bench.metrics.rsaDecrypt.value, 1)
    XCTAssertEqual(bench.metrics.rsaSign.value, 1)
  }

  /// C-18: `enrollments_per_second` counts unknown sessions only; who would wait too long is told at once.
  func testUnknownSessionsArePaced() async throws {
    let bench = try bench(unwrapsPerSecond: 1)
    let known = try client(bench)
    let key = known.key.publicKey.pkcs1DER
    _ = try opened(await bench.ask(.confirm(body: try known.body(), publicKey: key, acknowledge: false)))
    for _ in 0..<100 {
      let session = try client(bench, key: known.key)
      _ = try opened(await bench.ask(.open(body: try session.body(), acknowledge: false), patience: 0))
    }
    let late = try client(bench, key: known.key)
    let refused = await bench.ask(.open(body: try late.body(), acknowledge: false), patience: 500)
    XCTAssertEqual(refused, .overloaded)
    bench.clock.advance(1_000)
    _ = try opened(await bench.ask(.open(body: try late.body(), acknowledge: false), patience: 0))
    for _ in 0..<200 { _ = try opened(await bench.ask(.open(body: try late.body(), acknowledge: false), patience: 0)) }
  }

  func testAKnownClientsNewSessionNeedsNoStore() async throws {
    let bench = try bench()
    let client = try client(bench)
    let key = client.key.publicKey.pkcs1DER
    _ = try opened(await bench.ask(.confirm(body: try client.body(), publicKey: key, acknowledge: false)))
    let restarted = try self.client(bench, key: client.key)
    _ = try opened(await bench.ask(.open(body: try restarted.body(), acknowledge: false)))
    // The former session has left, but opens again by RSA.
    _ = try opened(await bench.ask(.open(body: try client.body(), acknowledge: false)))
    XCTAssertEqual(bench.metrics.rsaDecrypt.value, 3)
  }

  func testOnlyTheSendersKeyConfirms() async throws {
    let bench = try bench()
    let client = try client(bench)
    let other = try RSAPrivateKey.generate()
    let wrong = await bench.ask(
      .confirm(body: try client.body(), publicKey: other.publicKey.pkcs1DER, acknowledge: false))
    XCTAssertEqual(wrong, .rejected(reason: EnvelopeError.Code.signature.rawValue))
    let damaged = await bench.ask(.confirm(body: try client.body(), publicKey: [1, 2], acknowledge: false))
    XCTAssertEqual(damaged, .rejected(reason: EnvelopeError.Code.signature.rawValue))
    let still = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(still, .unverified(source: client.id))
  }

  func testNonces() async throws {
    let bench = try bench()
    let stranger = try client(bench, nonce: "unknown")
    let refused = await bench.ask(.open(body: try stranger.body(), acknowledge: false))
    XCTAssertEqual(refused, .rejected(reason: EnvelopeError.Code.nonce.rawValue))
    // C-21: the org is the nonce's, and becomes part of the name.
    let tenant = try client(bench, nonce: "tenant")
    let source = await bench.ask(.open(body: try tenant.body(), acknowledge: false))
    XCTAssertEqual(source, .unverified(source: tenant.id + "-OABCD"))
  }

  /// C-20: a cached session cannot move to another org by another org's nonce.
  func testASessionKeepsItsOrg() async throws {
    let bench = try bench()
    let client = try client(bench)
    let key = client.key.publicKey.pkcs1DER
    let body = try client.body()
    _ = try opened(await bench.ask(.confirm(body: body, publicKey: key, acknowledge: false)))
    let session = try OutboundSession(sender: client.id, key: client.key, receiver: bench.server.publicKey)
    func seal(_ nonce: String) throws -> [UInt8] {
      try session.seal(PackedLists(lists: [], compressed: false, timestamp: 0, nonce: nonce))
    }
    _ = try opened(await bench.ask(.open(body: try seal("root"), acknowledge: false)))
    let moved = await bench.ask(.open(body: try seal("tenant"), acknowledge: false))
    XCTAssertEqual(moved, .rejected(reason: EnvelopeError.Code.nonce.rawValue))
  }

  func testASuffixOfAnotherOrgIsRefused() async throws {
    let bench = try bench()
    let key = try RSAPrivateKey.generate()
    for (source, nonce) in [("-ANYTHING", "root"), ("-OABCD", "root"), ("-OZZZZ", "tenant"), (" ", "root")] {
      let session = try OutboundSession(
        sender: key.publicKey.clientID.rawValue + source, key: key, receiver: bench.server.publicKey)
      let body = try session.seal(PackedLists(lists: [], compressed: false, timestamp: 0, nonce: nonce))
      let reply = await bench.ask(.open(body: body, acknowledge: false))
      XCTAssertEqual(reply, .rejected(reason: EnvelopeError.Code.source.rawValue), source)
    }
  }

  func testSealing() async throws {
    let bench = try bench()
    let client = try client(bench)
    let request = WorkerRequest.seal(routingKey: [1], source: client.id, publicKey: [], list: [4, 5])
    let first = await bench.ask(request)
    XCTAssertEqual(first, .needKey)
    let withKey = WorkerRequest.seal(
      routingKey: [1], source: client.id, publicKey: client.key.publicKey.pkcs1DER, list: [4, 5])
    for request in [withKey, request] {
      guard case .sealed(let body) = await bench.ask(request) else { return XCTFail("not sealed") }
      XCTAssertEqual(try client.agent.open(body), [[4, 5]])
    }
    XCTAssertEqual(bench.metrics.rsaSign.value, 1)
  }

  func testForgottenClientsMustConfirmAgain() async throws {
    let bench = try bench()
    let client = try client(bench)
    let key = client.key.publicKey.pkcs1DER
    _ = try opened(await bench.ask(.confirm(body: try client.body(), publicKey: key, acknowledge: false)))
    let done = await bench.ask(.forget(source: client.id))
    XCTAssertEqual(done, .done)
    let after = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(after, .unverified(source: client.id))
  }

  func testUnauthenticatedSessionsAreForgottenAfterAMinute() async throws {
    let bench = try bench()
    let client = try client(bench)
    _ = await bench.ask(.open(body: try client.body(), acknowledge: false))
    bench.clock.advance(UnauthenticatedSessions.lifetime)
    _ = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(bench.metrics.rsaDecrypt.value, 2)
  }

  func testTheColdLaneIsBounded() async throws {
    let bench = try bench(coldLimit: 0)
    let reply = await bench.ask(.open(body: try client(bench).body(), acknowledge: false))
    XCTAssertEqual(reply, .overloaded)
  }

  func testGarbageIsRefused() async throws {
    let bench = try bench()
    let empty = await bench.ask(.open(body: [], acknowledge: true))
    XCTAssertEqual(empty, .rejected(reason: EnvelopeError.Code.noSession.rawValue))
    let garbage = await bench.ask(.open(body: Array("hello".utf8), acknowledge: true))
    XCTAssertEqual(garbage, .rejected(reason: EnvelopeError.Code.malformed.rawValue))
    let name = await bench.ask(.seal(routingKey: [], source: "x", publicKey: [], list: []))
    XCTAssertEqual(name, .rejected(reason: EnvelopeError.Code.source.rawValue))
  }
}
