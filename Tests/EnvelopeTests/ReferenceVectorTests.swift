import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire
import XCTest

/// Every recorded body of the reference implementation: what must open, and what must be refused.
final class ReferenceVectorTests: XCTestCase {
  private let folder = Fixtures.folder("reference")

  func testEveryRecordedClientBody() throws {
    let keys = try Fixtures.object(folder, "keys.json")
    let server = try RSAPrivateKey(pem: XCTUnwrap(keys["server_key"] as? String))
    let client = try RSAPrivateKey(pem: XCTUnwrap(keys["client_key"] as? String)).publicKey
    let nonce = try XCTUnwrap(keys["nonce"] as? String)
    XCTAssertEqual(client.clientID.rawValue, keys["client_id"] as? String)

    var seen = 0
    for entry in try Fixtures.index(folder) where entry.direction == "client_to_server" {
      let vector = try Fixtures.object(folder, entry.name + ".json")
      let body = try Fixtures.bytes(folder, entry.name + ".bin")
      let expected = try XCTUnwrap(vector["expect_server_decrypt_cold_cache"] as? [String: Any], entry.name)
      let opened = Result { try ServerSide.open(body, with: server, knowing: client, nonce: nonce) }
      try check(entry.name, opened, expected, knowing: vector["client_known_to_server"] as? Bool ?? true)
      seen += 1
    }
    XCTAssertEqual(seen, 40)
  }

  private func check(
    _ name: String, _ opened: Result<ServerSide.Opened, any Error>, _ expected: [String: Any], knowing: Bool
  ) throws {
    // What the reference opens although it should not (corrections to the specification).
    let stricter: Set<String> = ["79_source_with_org"]
    if expected["error"] != nil || expected["panic"] != nil || stricter.contains(name) {
      XCTAssertThrowsError(try opened.get(), name)
      return
    }
    let value: ServerSide.Opened
    do { value = try opened.get() } catch { return XCTFail("\(name): \(error)") }
    XCTAssertEqual(value.source, expected["source"] as? String, name)
    let authenticated = expected["authenticated"] as? Bool ?? false
    XCTAssertEqual(value.authenticated && knowing, authenticated, name)
    XCTAssertEqual(value.apiVersion, (expected["version"] as? NSNumber)?.uint32Value, name)
    XCTAssertEqual(value.lists.count, (expected["n_message_lists"] as? NSNumber)?.intValue, name)
    XCTAssertEqual(value.compressed ? 1 : 0, (expected["compression"] as? NSNumber)?.intValue, name)
    let jobs = Result {
      try value.lists.flatMap {
        try MessageListCodec.jobs(MessageListCodec.plain($0, compressed: value.compressed))
      }
    }
    if expected["iterate_error"] != nil {
      XCTAssertThrowsError(try jobs.get(), name)
      return
    }
    let wanted = try XCTUnwrap(expected["jobs"] as? [[String: Any]], name)
    XCTAssertEqual(try jobs.get().map(\.sessionID), wanted.map { $0["session_id"] as? String ?? "" }, name)
  }

  func testEveryRecordedServerBody() throws {
    let keys = try Fixtures.object(folder, "keys.json")
    let agentKey = try RSAPrivateKey(pem: XCTUnwrap(keys["client_key"] as? String))
    let server = try RSAPrivateKey(pem: XCTUnwrap(keys["server_key"] as? String)).publicKey
    let nonce = try XCTUnwrap(keys["nonce"] as? String)
    var seen = 0
    for entry in try Fixtures.index(folder) where entry.direction == "server_to_client" {
      let vector = try Fixtures.object(folder, entry.name + ".json")
      let expected = try XCTUnwrap(vector["expect_client_decrypt"] as? [String: Any], entry.name)
      let agent = AgentEnvelope(privateKey: agentKey, nonce: nonce)
      agent.setServer(name: "VelociraptorServer", publicKey: server)
      // Twice: the second time the session is known.
      for _ in 0..<2 {
        let lists = try agent.open(Fixtures.bytes(folder, entry.name + ".bin"))
        if expected["source"] as? String == "" {
          XCTAssertNil(lists, entry.name)
        } else {
          let jobs = try XCTUnwrap(lists, entry.name).flatMap { try MessageListCodec.jobs($0) }
          let wanted = try XCTUnwrap(expected["jobs"] as? [[String: Any]], entry.name)
          XCTAssertEqual(jobs.map(\.sessionID), wanted.map { $0["session_id"] as? String ?? "" }, entry.name)
        }
      }
      seen += 1
    }
    XCTAssertEqual(seen, 5)
  }

  func testBodiesOfACachedSession() throws {
    let keys = try Fixtures.object(folder, "keys.json")
    let server = try RSAPrivateKey(pem: XCTUnwrap(keys["server_key"] as? String))
    var seen = 0
    for entry in try Fixtures.index(folder) {
      let vector = try Fixtures.object(folder, entry.name + ".json")
      guard let expected = vector["expect_server_decrypt_session_cached"] as? [String: Any] else { continue }
      let base = try Fixtures.bytes(folder, "50_good_base.bin")
      let session = try ServerSide.unwrap(base, with: server)
      let body = try Fixtures.bytes(folder, entry.name + ".bin")
      let opened = Result { try ServerSide.openWarm(body, sessions: [session]) }
      if expected["error"] != nil {
        XCTAssertThrowsError(try opened.get(), entry.name)
      } else if expected["source"] as? String == "" {
        XCTAssertTrue(try EnvelopeScan(body).isEmpty)
      } else {
        XCTAssertEqual(try opened.get().lists.count, 1, entry.name)
      }
      seen += 1
    }
    XCTAssertGreaterThan(seen, 15)
  }

  func testRecordedRequestForEnrollment() throws {
    let pem = try Fixtures.bytes(folder, "client_csr.pem")
    let keys = try Fixtures.object(folder, "keys.json")
    let request = try CertificateRequest(pem: pem)
    XCTAssertEqual(request.clientID.rawValue, keys["client_id"] as? String)
    XCTAssertEqual(
      request.publicKey.pkcs1PEM,
      String(decoding: try Fixtures.bytes(folder, "client_public_as_stored.pem"), as: UTF8.self)
    )
  }
}
