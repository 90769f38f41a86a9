import Envelope
import PKI
import PublicIdentity
import Wire
import XCTest

final class SessionSnapshotTests: XCTestCase {
  private let now: UInt64 = 1_800_000_000

  private func filled(_ server: RSAPrivateKey, _ clients: [RSAPrivateKey]) throws -> (
    SessionCache, [[UInt8]], AgentEnvelope
  ) {
    var cache = SessionCache(capacity: 10)
    var bodies: [[UInt8]] = []
    var last = AgentEnvelope(privateKey: clients[0], nonce: "n")
    for client in clients {
      let agent = AgentEnvelope(privateKey: client, nonce: "n")
      agent.setServer(name: "VelociraptorServer", publicKey: server.publicKey)
      let body = try agent.seal(lists: [[1, 2]], compressed: false)
      let name = ClientName(id: client.publicKey.clientID)
      cache.store(inbound: try ServerSide.unwrap(body, with: server), of: name, publicKey: client.publicKey)
      cache.store(
        outbound: try OutboundSession(sender: "VelociraptorServer", key: server, receiver: client.publicKey), of: name,
        publicKey: client.publicKey)
      bodies.append(try agent.seal(lists: [[3, 4]], compressed: false))
      last = agent
    }
    return (cache, bodies, last)
  }

  func testSessionsComeBack() throws {
    let server = try RSAPrivateKey.generate()
    let clients = try (0..<3).map { _ in try RSAPrivateKey.generate() }
    let (cache, bodies, agent) = try filled(server, clients)
    let sealed = try SessionSnapshot.seal(cache, key: server, now: now)
    var restored = try SessionSnapshot.open(sealed, key: server, capacity: 10, now: now + 60)
    XCTAssertEqual(restored.count, 3)
    XCTAssertEqual(restored.oldestFirst.map(\.key), cache.oldestFirst.map(\.key), "in the same order of use")
    for body in bodies {
      let scan = try EnvelopeScan(body)
      let found = try XCTUnwrap(restored.inbound(Array(body[scan.encryptedCipher])))
      let session = try XCTUnwrap(found.entry.inbound)
      XCTAssertEqual(try body.withUnsafeBytes { try session.open($0, scan) }.lists, [[3, 4]])
      XCTAssertTrue(session.verify(with: found.entry.publicKey))
    }
    let name = ClientName(id: clients[2].publicKey.clientID)
    let outbound = try XCTUnwrap(restored.entry(name)?.outbound)
    let answer = try outbound.seal(PackedLists(lists: [[9]], compressed: false, timestamp: 1, nonce: "n"))
    XCTAssertEqual(try agent.open(answer), [[9]])
    // A smaller cache keeps those used last.
    let small = try SessionSnapshot.open(sealed, key: server, capacity: 1, now: now)
    XCTAssertEqual(small.oldestFirst.map(\.key), [name])
  }

  func testWhatIsNotUsed() throws {
    let server = try RSAPrivateKey.generate()
    let (cache, _, _) = try filled(server, [try RSAPrivateKey.generate()])
    let sealed = try SessionSnapshot.seal(cache, key: server, now: now)
    func failure(_ bytes: [UInt8], _ key: RSAPrivateKey, _ now: UInt64) -> SessionSnapshot.Failure? {
      do throws(SessionSnapshot.Failure) {
        _ = try SessionSnapshot.open(bytes, key: key, capacity: 10, now: now)
        return nil
      } catch {
        return error
      }
    }
    XCTAssertEqual(failure(sealed, try RSAPrivateKey.generate(), now), .foreign)
    XCTAssertEqual(failure(sealed, server, now + SessionSnapshot.lifetime), .old)
    XCTAssertEqual(failure(sealed, server, now - 1_000), .old, "a clock that went back")
    XCTAssertEqual(failure([], server, now), .notASnapshot)
    var version = sealed
    version[4] = 2
    XCTAssertEqual(failure(version, server, now), .version(2))
    for length in stride(from: 0, to: sealed.count, by: 7) {
      XCTAssertNotNil(failure(Array(sealed.prefix(length)), server, now))
    }
    for position in stride(from: 0, to: sealed.count, by: 5) {
      var damaged = sealed
      damaged[position] ^= 0x40
      XCTAssertNotNil(failure(damaged, server, now), "byte \(position)")
    }
  }

  func testNoSecretIsReadable() throws {
    let server = try RSAPrivateKey.generate()
    let client = try RSAPrivateKey.generate()
    let (cache, _, _) = try filled(server, [client])
    let sealed = try SessionSnapshot.seal(cache, key: server, now: now)
    let text = String(decoding: sealed, as: UTF8.self)
    XCTAssertFalse(text.contains(client.publicKey.clientID.rawValue))
    XCTAssertFalse(text.contains("aes_128_cbc"))
  }
}
