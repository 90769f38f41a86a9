import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire
import XCTest

/// The vectors of the protocol specification, with their fixed keys.
final class SpecificationVectorTests: XCTestCase {
  private let folder = Fixtures.folder("specification")

  private struct Keys {
    var server: RSAPrivateKey
    var client: RSAPrivateKey
    var nonce: String
  }

  private func keys() throws -> Keys {
    let keys = try Fixtures.object(folder, "keys.json")
    return Keys(
      server: try RSAPrivateKey(pem: XCTUnwrap(keys["server_private_key"] as? String)),
      client: try RSAPrivateKey(pem: XCTUnwrap(keys["client_private_key"] as? String)),
      nonce: try XCTUnwrap(keys["nonce"] as? String))
  }

  /// C-1
  func testClientID() throws {
    let file = try Fixtures.object(folder, "keys.json")
    let keys = try keys()
    XCTAssertEqual(keys.client.publicKey.clientID.rawValue, file["client_id"] as? String)
    let name = ClientName(id: keys.client.publicKey.clientID, org: "OABCD")
    XCTAssertEqual(name.description, file["client_id_in_org_OABCD"] as? String)
    XCTAssertEqual(ClientName("\(name)"), name)
    let csr = try XCTUnwrap(file["client_csr"] as? String)
    XCTAssertEqual(try CertificateRequest(pem: Array(csr.utf8)).clientID, keys.client.publicKey.clientID)
    XCTAssertEqual(keys.client.publicKey.pkcs1PEM, file["client_public_key"] as? String)
    XCTAssertEqual(keys.client.pkcs1PEM, file["client_private_key"] as? String)
  }

  /// C-2, C-3, W-6
  func testBodiesOpenAndVerify() throws {
    let keys = try keys()
    for number in 1...7 {
      let vector = try Fixtures.object(folder, "body\(number).json")
      let body = try Fixtures.hex(vector["body"])
      if vector["sender"] as? String == "client" {
        let opened = try ServerSide.open(body, with: keys.server, knowing: keys.client.publicKey, nonce: keys.nonce)
        XCTAssertTrue(opened.authenticated, "body\(number)")
        let plain = try opened.lists.map { try MessageListCodec.plain($0, compressed: opened.compressed) }
        let expected =
          try (vector["message_lists"] as? [String])?.map { try Fixtures.hex($0) }
          ?? [Fixtures.hex(vector["message_list"])]
        XCTAssertEqual(plain, expected, "body\(number)")
      } else {
        let agent = AgentEnvelope(privateKey: keys.client, nonce: keys.nonce)
        agent.setServer(name: "VelociraptorServer", publicKey: keys.server.publicKey)
        let lists = try XCTUnwrap(agent.open(body), "body\(number)")
        if vector["message_list"] != nil {
          XCTAssertEqual(lists, [try Fixtures.hex(vector["message_list"])], "body\(number)")
        }
      }
    }
  }

  /// W-2, W-3, W-4: padding in both forms, unknown fields and another order change nothing.
  func testOuterFieldsAreRead() throws {
    let keys = try keys()
    let body = try Fixtures.hex(try Fixtures.object(folder, "body1.json")["body"])
    let scan = try EnvelopeScan(body)
    var reversed = WireWriter()
    reversed.field(10, bytes: body[scan.fullHMAC])
    reversed.field(200, bytes: [1, 2, 3])
    reversed.field(9, bytes: body[scan.encryptedCipherMetadata])
    reversed.field(8, bytes: body[scan.packetIV])
    reversed.field(6, UInt64(scan.apiVersion))
    reversed.field(2, bytes: body[scan.encryptedCipher])
    reversed.field(1, bytes: body[scan.encrypted])
    for variant in [[0x5a, 0x01, 0x00] + body, [0x58, 0x00] + body, body + [0x5a, 0x01, 0x00], reversed.bytes] {
      XCTAssertTrue(
        try ServerSide.open(variant, with: keys.server, knowing: keys.client.publicKey, nonce: keys.nonce)
          .authenticated)
    }
  }

  /// C-5, C-6, C-7
  func testErrors() throws {
    let keys = try keys()
    let errors = try Fixtures.object(folder, "errors.json")
    func open(_ name: String) throws -> ServerSide.Opened {
      let entry = try XCTUnwrap(errors[name] as? [String: Any])
      return try ServerSide.open(
        Fixtures.hex(entry["body"]), with: keys.server, knowing: keys.client.publicKey, nonce: keys.nonce)
    }
    XCTAssertThrowsError(try open("hmac")) { XCTAssertEqual($0 as? EnvelopeError, EnvelopeError(.hmac)) }
    XCTAssertThrowsError(try open("nonce")) { XCTAssertEqual($0 as? EnvelopeError, EnvelopeError(.nonce)) }
    XCTAssertFalse(try open("signature").authenticated)
    XCTAssertEqual(try open("empty").source, "")
  }
}
