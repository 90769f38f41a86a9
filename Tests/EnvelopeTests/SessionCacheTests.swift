import PKI
import PublicIdentity
import Wire
import XCTest

@testable import Envelope

final class SessionCacheTests: XCTestCase {
  func testLeastRecentlyUsedLeaves() {
    var cache = LeastRecentlyUsed<String, Int>(capacity: 2)
    XCTAssertNil(cache.store(1, for: "a"))
    XCTAssertNil(cache.store(2, for: "b"))
    XCTAssertEqual(cache.use("a"), 1)
    XCTAssertEqual(cache.store(3, for: "c")?.key, "b")
    XCTAssertNil(cache.use("b"))
    XCTAssertNil(cache.store(4, for: "a"))
    XCTAssertEqual(cache.leastRecent?.key, "c")
    XCTAssertEqual(cache.remove("a"), 4)
    XCTAssertEqual(cache.count, 1)
    XCTAssertNil(cache.remove("a"))
  }

  /// Against a slow and obviously right form.
  func testAgainstAModel() {
    var cache = LeastRecentlyUsed<Int, Int>(capacity: 5)
    var model: [(key: Int, value: Int)] = []
    var generator = SystemRandomNumberGenerator()
    for step in 0..<5_000 {
      let key = Int.random(in: 0..<9, using: &generator)
      switch Int.random(in: 0..<3, using: &generator) {
      case 0:
        let expected = model.firstIndex { $0.key == key }
        XCTAssertEqual(cache.use(key), expected.map { model[$0].value })
        if let expected { model.append(model.remove(at: expected)) }
      case 1:
        let evicted = cache.store(step, for: key)
        if let present = model.firstIndex(where: { $0.key == key }) {
          model.remove(at: present)
          XCTAssertNil(evicted)
        } else if model.count == 5 {
          XCTAssertEqual(evicted?.key, model.removeFirst().key)
        }
        model.append((key, step))
      default:
        let expected = model.firstIndex { $0.key == key }
        XCTAssertEqual(cache.remove(key), expected.map { model.remove(at: $0).value })
      }
      XCTAssertEqual(cache.count, model.count)
      XCTAssertEqual(cache.leastRecent?.key, model.first?.key)
    }
  }

  private func session(_ client: RSAPrivateKey, _ server: RSAPrivateKey) throws -> InboundSession {
    let agent = AgentEnvelope(privateKey: client, nonce: "n")
    agent.setServer(name: "VelociraptorServer", publicKey: server.publicKey)
    return try ServerSide.unwrap(try agent.seal(lists: [], compressed: false), with: server)
  }

  func testANewInboundSessionReplacesTheOldOne() throws {
    let server = try RSAPrivateKey.generate()
    let client = try RSAPrivateKey.generate()
    let name = ClientName(id: client.publicKey.clientID)
    var cache = SessionCache(capacity: 2)
    let first = try session(client, server)
    let second = try session(client, server)
    cache.store(inbound: first, of: name, publicKey: client.publicKey)
    let outbound = try OutboundSession(sender: "s", key: server, receiver: client.publicKey)
    cache.store(outbound: outbound, of: name, publicKey: client.publicKey)
    cache.store(inbound: second, of: name, publicKey: client.publicKey)
    XCTAssertNil(cache.inbound(first.encryptedCipher))
    XCTAssertEqual(cache.inbound(second.encryptedCipher)?.name, name)
    XCTAssertTrue(cache.entry(name)?.outbound === outbound)
    XCTAssertEqual(cache.inboundCount, 1)
    cache.forget(name)
    XCTAssertNil(cache.inbound(second.encryptedCipher))
    XCTAssertEqual(cache.count, 0)
    XCTAssertEqual(cache.inboundCount, 0)
  }

  /// C-19: more clients than places; the index of sessions stays as small as the cache.
  func testEvictionTakesTheIndexAlong() throws {
    let server = try RSAPrivateKey.generate()
    var cache = SessionCache(capacity: 2)
    for _ in 0..<4 {
      let client = try RSAPrivateKey.generate()
      cache.store(
        inbound: try session(client, server), of: ClientName(id: client.publicKey.clientID),
        publicKey: client.publicKey)
    }
    XCTAssertEqual(cache.count, 2)
    XCTAssertEqual(cache.inboundCount, 2)
  }

  func testUnauthenticatedSessionsExpire() throws {
    let server = try RSAPrivateKey.generate()
    let session = try session(try RSAPrivateKey.generate(), server)
    var waiting = UnauthenticatedSessions(capacity: 2)
    waiting.store(session, now: 1000)
    XCTAssertTrue(waiting.session(session.encryptedCipher, now: 1000 + 59_999) === session)
    XCTAssertNil(waiting.session(session.encryptedCipher, now: 1000 + 60_000))
    XCTAssertEqual(waiting.count, 0)
  }
}
