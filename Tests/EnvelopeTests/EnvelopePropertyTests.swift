import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire
import XCTest

/// What must hold for any content: round trips, refusal of every damage, no crash.
final class EnvelopePropertyTests: XCTestCase {
  private static let nonce = "5sWSRwFGkUs="

  /// A deterministic generator, so that a failure can be repeated.
  private struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ (state >> 29)
    }
  }

  private func keys(_ bits: Int = 2048) throws -> (server: RSAPrivateKey, client: RSAPrivateKey) {
    (try RSAPrivateKey.generate(bits: bits), try RSAPrivateKey.generate(bits: 2048))
  }

  private func agent(_ client: RSAPrivateKey, _ server: RSAPublicKey) -> AgentEnvelope {
    let agent = AgentEnvelope(privateKey: client, nonce: Self.nonce)
    agent.setServer(name: "VelociraptorServer", publicKey: server)
    return agent
  }

  func testSealThenOpenForManySizes() throws {
    let (server, client) = try keys()
    let agent = agent(client, server.publicKey)
    var generator = Generator(state: 7)
    var sizes = [0, 1, 15, 16, 17, 255, 256, 65_535, 65_536, 1 << 20, 6 << 20]
    for _ in 0..<40 { sizes.append(Int.random(in: 0..<200_000, using: &generator)) }
    var session: InboundSession?
    for size in sizes {
      let content = (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
      let body = try agent.seal(lists: [content, []], compressed: false)
      let scan = try EnvelopeScan(body)
      let lists: PackedLists
      if let session {
        lists = try body.withUnsafeBytes { try session.open($0, scan) }
      } else {
        let opened = try body.withUnsafeBytes { try InboundSession.unwrap($0, scan, with: server) }
        XCTAssertTrue(opened.session.verify(with: client.publicKey))
        XCTAssertEqual(opened.session.source, client.publicKey.clientID.rawValue)
        session = opened.session
        lists = opened.lists
      }
      XCTAssertEqual(lists.lists, [content, []])
      XCTAssertEqual(lists.nonce, Self.nonce)
      XCTAssertFalse(lists.compressed)
    }
  }

  func testLargerKeysWork() throws {
    for bits in [3072, 4096] {
      let (server, client) = try keys(bits)
      let body = try agent(client, server.publicKey).seal(lists: [[1, 2, 3]], compressed: false)
      XCTAssertTrue(
        try ServerSide.open(body, with: server, knowing: client.publicKey, nonce: Self.nonce).authenticated)
      let answer = try OutboundSession(sender: "VelociraptorServer", key: server, receiver: client.publicKey)
        .seal(PackedLists(lists: [[9]], compressed: false, timestamp: 1, nonce: Self.nonce))
      XCTAssertEqual(try agent(client, server.publicKey).open(answer), [[9]])
    }
  }

  /// C-4: each flipped bit of each field is refused, with the session known and unknown.
  func testEveryFlippedBitIsRefused() throws {
    let (server, client) = try keys()
    let body = try agent(client, server.publicKey).seal(lists: [[1, 2, 3]], compressed: false)
    let scan = try EnvelopeScan(body)
    let session = try ServerSide.unwrap(body, with: server)
    let cheap = [scan.encrypted, scan.encryptedCipherMetadata, scan.packetIV, scan.fullHMAC]
    for position in cheap.flatMap({ Array($0) }) {
      for bit in 0..<8 {
        var damaged = body
        damaged[position] ^= 1 << UInt8(bit)
        XCTAssertThrowsError(try ServerSide.openWarm(damaged, sessions: [session]))
      }
    }
    // RSA is slow without its key's co-operation: one bit of each byte, without a known session.
    for position in scan.encryptedCipher {
      var damaged = body
      damaged[position] ^= 1 << UInt8(position % 8)
      XCTAssertThrowsError(try ServerSide.unwrap(damaged, with: server))
    }
    for bit in 0..<2 {
      for field in cheap {
        var damaged = body
        damaged[field.lowerBound] ^= 1 << UInt8(bit)
        XCTAssertThrowsError(try ServerSide.unwrap(damaged, with: server))
      }
    }
  }

  func testNoInputCrashes() throws {
    let (server, client) = try keys()
    let agent = agent(client, server.publicKey)
    let body = try agent.seal(lists: [[1, 2, 3]], compressed: false)
    let session = try ServerSide.unwrap(body, with: server)
    var generator = Generator(state: 11)
    for round in 0..<20_000 {
      var damaged = body
      switch round % 4 {
      case 0: damaged = Array(body.prefix(Int.random(in: 0...body.count, using: &generator)))
      case 1:
        damaged = (0..<Int.random(in: 0..<64, using: &generator)).map { _ in .random(in: 0...255, using: &generator) }
      case 2:
        for _ in 0..<3 {
          damaged[Int.random(in: 0..<body.count, using: &generator)] = .random(in: 0...255, using: &generator)
        }
      default: damaged.insert(.random(in: 0...255, using: &generator), at: Int.random(in: 0...8, using: &generator))
      }
      _ = try? ServerSide.openWarm(damaged, sessions: [session])
      if round % 97 == 0 { _ = try? agent.open(damaged) }
    }
  }

  /// C-23, C-24: nothing of an unverified answer is returned.
  func testAgentRefusesForeignAnswers() throws {
    let (server, client) = try keys()
    let other = try RSAPrivateKey.generate()
    let agent = agent(client, server.publicKey)
    func answer(_ name: String, _ key: RSAPrivateKey, _ nonce: String) throws -> [UInt8] {
      try OutboundSession(sender: name, key: key, receiver: client.publicKey)
        .seal(PackedLists(lists: [[1]], compressed: false, timestamp: 1, nonce: nonce))
    }
    XCTAssertEqual(try agent.open(answer("VelociraptorServer", server, Self.nonce)), [[1]])
    XCTAssertThrowsError(try agent.open(answer("VelociraptorServer", other, Self.nonce))) {
      XCTAssertEqual($0 as? EnvelopeError, EnvelopeError(.signature))
    }
    XCTAssertThrowsError(try agent.open(answer("X", server, Self.nonce))) {
      XCTAssertEqual($0 as? EnvelopeError, EnvelopeError(.source))
    }
    XCTAssertThrowsError(try agent.open(answer("VelociraptorServer", server, "AAAAAAAAAAA="))) {
      XCTAssertEqual($0 as? EnvelopeError, EnvelopeError(.nonce))
    }
    agent.forgetServer()
    XCTAssertThrowsError(try agent.seal(lists: [], compressed: false))
  }

  /// A million pads before an answer must not cost more than reading them once.
  func testPadsAreReadInLinearTime() throws {
    let (server, client) = try keys()
    let answer = try OutboundSession(sender: "VelociraptorServer", key: server, receiver: client.publicKey)
      .seal(PackedLists(lists: [[1]], compressed: false, timestamp: 1, nonce: Self.nonce))
    var body: [UInt8] = []
    for _ in 0..<1_000_000 { body += envelopePad }
    XCTAssertNil(try agent(client, server.publicKey).open(body))
    XCTAssertEqual(try agent(client, server.publicKey).open(body + answer), [[1]])
  }
}
