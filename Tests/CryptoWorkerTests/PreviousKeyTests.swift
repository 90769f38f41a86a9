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

/// A worker with two message keys at once, as after `microraptor config rotate`.
final class PreviousKeyTests: XCTestCase {
  private static let start = Date(timeIntervalSince1970: 1_800_000_000)
  private static let oldKey = Result { try RSAPrivateKey.generate() }
  private static let newKey = Result { try RSAPrivateKey.generate() }

  private final class Calendar: Sendable {
    private let value = Mutex(PreviousKeyTests.start)
    var now: Date { value.withLock { $0 } }
    func advance(days: Double) { value.withLock { $0 += days * 86_400 } }
  }

  private struct Bench {
    let service: CryptoService
    let metrics: CryptoMetrics
    let calendar: Calendar

    func ask(_ request: WorkerRequest) async -> WorkerReply {
      await withCheckedContinuation { continuation in
        service.handle(request) { continuation.resume(returning: $0) }
      }
    }
  }

  private struct Client {
    let key: RSAPrivateKey
    let agent: AgentEnvelope
    var id: String { key.publicKey.clientID.rawValue }
    var der: [UInt8] { key.publicKey.pkcs1DER }

    func body() throws -> [UInt8] { try agent.seal(lists: [[1]], compressed: false) }

    /// Fetches a server's certificate.
    func trust(_ server: RSAPrivateKey) {
      agent.setServer(name: "VelociraptorServer", publicKey: server.publicKey)
    }
  }

  /// A worker whose current key is the new one; the old one is accepted for 30 days.
  private func rotated() throws -> Bench {
    try bench(
      Self.newKey.get(),
      [ServerKey(privateKey: Self.oldKey.get(), acceptedUntil: Self.start.addingTimeInterval(30 * 86_400))])
  }

  private func bench(_ current: RSAPrivateKey, _ previous: [ServerKey]) throws -> Bench {
    let metrics = CryptoMetrics(MetricsRegistry())
    let calendar = Calendar()
    var settings = CryptoService.Settings(
      name: "w", serverName: "VelociraptorServer", privateKey: current, previousKeys: previous, orgs: ["": "root"],
      expectedClients: 100)
    settings.date = { calendar.now }
    let service = CryptoService(settings: settings, cold: ColdLane(threads: 1, limit: 100), metrics: metrics)
    return Bench(service: service, metrics: metrics, calendar: calendar)
  }

  private func client(_ server: RSAPrivateKey) throws -> Client {
    let key = try RSAPrivateKey.generate()
    let client = Client(key: key, agent: AgentEnvelope(privateKey: key, nonce: "root"))
    client.trust(server)
    return client
  }

  private func confirmed(_ bench: Bench, _ client: Client) async throws -> OpenedBody {
    let reply = await bench.ask(.confirm(body: try client.body(), publicKey: client.der, acknowledge: true))
    return try opened(reply)
  }

  private func opened(_ reply: WorkerReply, file: StaticString = #filePath, line: UInt = #line) throws -> OpenedBody {
    guard case .opened(let body) = reply else {
      XCTFail("\(reply)", file: file, line: line)
      throw EnvelopeError(.noSession)
    }
    return body
  }

  /// The agent with the old certificate is opened by the old key, and what it gets verifies with the old certificate.
  func testAnAgentWithTheOldCertificateIsServed() async throws {
    let bench = try rotated()
    let client = try client(Self.oldKey.get())
    let enrolling = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(enrolling, .unverified(source: client.id))
    let first = try await confirmed(bench, client)
    XCTAssertEqual(try client.agent.open(first.acknowledgement), [[]])
    let warm = try opened(await bench.ask(.open(body: try client.body(), acknowledge: true)))
    XCTAssertEqual(try client.agent.open(warm.acknowledgement), [[]])
    let request = WorkerRequest.seal(routingKey: [1], source: client.id, publicKey: [], list: [9])
    guard case .sealed(let sealed) = await bench.ask(request) else { return XCTFail("not sealed") }
    XCTAssertEqual(try client.agent.open(sealed), [[9]])
    XCTAssertEqual(bench.metrics.rsaDecrypt.value, 2, "one try for each key, once in the session")
    XCTAssertEqual(bench.metrics.rsaSign.value, 1)
    XCTAssertEqual(bench.metrics.previousKey.value, 1)
  }

  func testAnAgentWithTheNewCertificateCostsNothingMore() async throws {
    let bench = try rotated()
    let client = try client(Self.newKey.get())
    let first = try await confirmed(bench, client)
    XCTAssertEqual(try client.agent.open(first.acknowledgement), [[]])
    XCTAssertEqual(bench.metrics.rsaDecrypt.value, 1)
    XCTAssertEqual(bench.metrics.previousKey.value, 0)
  }

  /// The agent fetches the new certificate: from then on the new key answers, without a new enrollment.
  func testAnAgentThatChangesIsAnsweredByTheNewKey() async throws {
    let bench = try rotated()
    let client = try client(Self.oldKey.get())
    _ = try await confirmed(bench, client)
    client.trust(try Self.newKey.get())
    // The key is known from before: no question to the store.
    let changed = try opened(await bench.ask(.open(body: try client.body(), acknowledge: true)))
    XCTAssertEqual(try client.agent.open(changed.acknowledgement), [[]])
    let request = WorkerRequest.seal(routingKey: [1], source: client.id, publicKey: [], list: [9])
    guard case .sealed(let sealed) = await bench.ask(request) else { return XCTFail("not sealed") }
    XCTAssertEqual(try client.agent.open(sealed), [[9]])
    XCTAssertEqual(bench.service.health().sessions, 1)
  }

  /// After the stated time neither a new nor a cached session of the old key is opened; the agent gets 403, fetches the
  /// new certificate and goes on.
  func testTheOldKeyEnds() async throws {
    let bench = try rotated()
    let client = try client(Self.oldKey.get())
    _ = try await confirmed(bench, client)
    bench.calendar.advance(days: 29.9)
    _ = try opened(await bench.ask(.open(body: try client.body(), acknowledge: false)))
    bench.calendar.advance(days: 0.2)
    let warm = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(warm, .rejected(reason: EnvelopeError.Code.decryption.rawValue))
    XCTAssertEqual(bench.service.health().sessions, 0)
    client.trust(try Self.oldKey.get())
    let cold = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(cold, .rejected(reason: EnvelopeError.Code.decryption.rawValue))
    client.trust(try Self.newKey.get())
    _ = try await confirmed(bench, client)
  }

  func testABodyForNoneOfTheKeysIsRefusedOnce() async throws {
    let bench = try rotated()
    let stranger = try client(RSAPrivateKey.generate())
    let body = try stranger.body()
    for _ in 0..<2 {
      let reply = await bench.ask(.open(body: body, acknowledge: false))
      XCTAssertEqual(reply, .rejected(reason: EnvelopeError.Code.decryption.rawValue))
    }
    XCTAssertEqual(bench.metrics.rsaDecrypt.value, 2, "the repeat is refused without RSA")
  }

  func testForgettingConcernsAllKeys() async throws {
    let bench = try rotated()
    let client = try client(Self.oldKey.get())
    _ = try await confirmed(bench, client)
    let done = await bench.ask(.forget(source: client.id))
    XCTAssertEqual(done, .done)
    let after = await bench.ask(.open(body: try client.body(), acknowledge: false))
    XCTAssertEqual(after, .unverified(source: client.id))
  }

  /// A worker that restarts into the rotated file keeps the sessions of the former process without RSA.
  func testTheSessionsOfTheFormerProcessGoOn() async throws {
    let before = try bench(Self.oldKey.get(), [])
    let old = try client(Self.oldKey.get())
    _ = try await confirmed(before, old)
    let after = try rotated()
    XCTAssertEqual(try after.service.restore(before.service.snapshot()), 1)
    let warm = try opened(await after.ask(.open(body: try old.body(), acknowledge: true)))
    XCTAssertEqual(try old.agent.open(warm.acknowledgement), [[]])
    XCTAssertEqual(after.metrics.rsaDecrypt.value, 0)
    XCTAssertEqual(after.metrics.rsaSign.value, 0)

    // And again, now with sessions of both keys.
    let new = try client(Self.newKey.get())
    _ = try await confirmed(after, new)
    let third = try rotated()
    let snapshot = try after.service.snapshot()
    XCTAssertEqual(try third.service.restore(snapshot), 2)
    for client in [old, new] {
      let warm = try opened(await third.ask(.open(body: try client.body(), acknowledge: true)))
      XCTAssertEqual(try client.agent.open(warm.acknowledgement), [[]])
    }
    XCTAssertEqual(third.metrics.rsaDecrypt.value, 0)
    // A worker that never had the old key takes only its own.
    XCTAssertEqual(try bench(Self.newKey.get(), []).service.restore(snapshot), 1)
    XCTAssertThrowsError(try bench(RSAPrivateKey.generate(), []).service.restore(snapshot)) {
      XCTAssertEqual($0 as? SessionSnapshot.Failure, .foreign)
    }
  }

  /// The file was rotated while the worker runs: sessions go on, and both certificates are served from then on.
  func testKeysAreTakenUpWhileRunning() async throws {
    let bench = try bench(Self.oldKey.get(), [])
    let old = try client(Self.oldKey.get())
    _ = try await confirmed(bench, old)
    let early = try client(Self.newKey.get())
    let body = try early.body()
    let refused = await bench.ask(.open(body: body, acknowledge: false))
    XCTAssertEqual(refused, .rejected(reason: EnvelopeError.Code.decryption.rawValue))
    let end = Self.start.addingTimeInterval(30 * 86_400)
    bench.service.replace(
      Keyring(
        keys: [
          ServerKey(privateKey: try Self.newKey.get()),
          ServerKey(privateKey: try Self.oldKey.get(), acceptedUntil: end),
        ], orgs: ["": "root", "ONEW": "another"]))
    let operations = bench.metrics.rsaDecrypt.value
    let warm = try opened(await bench.ask(.open(body: try old.body(), acknowledge: true)))
    XCTAssertEqual(try old.agent.open(warm.acknowledgement), [[]])
    XCTAssertEqual(bench.metrics.rsaDecrypt.value, operations, "its session was kept")
    // The body that no key opened before is not refused for its former failure.
    let opened = await bench.ask(.open(body: body, acknowledge: false))
    XCTAssertEqual(opened, .unverified(source: early.id))
    bench.service.replace(Keyring(keys: [ServerKey(privateKey: try Self.newKey.get())], orgs: ["": "root"]))
    let gone = await bench.ask(.open(body: try old.body(), acknowledge: false))
    XCTAssertEqual(gone, .rejected(reason: EnvelopeError.Code.decryption.rawValue))
  }

  /// A worker that never saw the client seals with the key whose certificate the client has, as the frontend says.
  func testAnotherWorkerSealsWithTheClientsKey() async throws {
    let first = try rotated()
    let client = try client(Self.oldKey.get())
    let opened = try await confirmed(first, client)
    let second = try rotated()
    func sealed(_ keyID: UInt64) async throws -> [UInt8] {
      let request = WorkerRequest.seal(
        routingKey: [1], source: client.id, publicKey: client.der, list: [9], keyID: keyID)
      guard case .sealed(let body) = await second.ask(request) else { throw EnvelopeError(.noSession) }
      _ = await second.ask(.forget(source: client.id))
      return body
    }
    let right = try await sealed(opened.keyID)
    XCTAssertEqual(try client.agent.open(right), [[9]])
    let other = try await sealed(0)
    XCTAssertThrowsError(try client.agent.open(other), "signed by the current key")
    second.calendar.advance(days: 31)
    let late = try await sealed(opened.keyID)
    XCTAssertThrowsError(try client.agent.open(late), "the former key's time is over")
  }

  func testDamagedBundlesCostNothing() throws {
    let parts: [[UInt8]] = [[1, 2, 3], [], [UInt8](repeating: 7, count: 300)]
    let bundle = SnapshotBundle.join(parts)
    XCTAssertEqual(SnapshotBundle.split(bundle), parts)
    XCTAssertEqual(SnapshotBundle.join([[5]]), [5])
    XCTAssertEqual(SnapshotBundle.split([5]), [[5]])
    for count in 0..<bundle.count {
      let kept = SnapshotBundle.split(Array(bundle.prefix(count)))
      XCTAssertTrue(count < 5 || parts.starts(with: kept), "\(count)")
    }
    XCTAssertEqual(SnapshotBundle.split(Array("MRSB".utf8) + [1] + [UInt8](repeating: 0xff, count: 40)), [])
    XCTAssertEqual(try rotated().service.restore(Array("MRSB".utf8) + [1]), 0)
  }
}
