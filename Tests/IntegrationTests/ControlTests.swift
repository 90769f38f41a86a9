import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire
import XCTest

/// The frontend's `/control` and its neighbours, with a scripted client: numbers are those of the checklist.
final class ControlTests: XCTestCase {
  private var deployment: Deployment!

  override func setUpWithError() throws {
    deployment = try Deployment()
    try deployment.startAll()
  }

  override func tearDown() { deployment?.stopAll() }

  private func rows(_ client: String, _ flow: String) throws -> [Int] {
    let output = try deployment.microraptor(["results", client, flow, "--format", "jsonl"])
    return try output.split(separator: "\n").map { line in
      let object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      return try XCTUnwrap(object["n"] as? Int)
    }
  }

  /// H-1, H-2, H-4, H-11, H-16, C-6, C-7 and the way from an unknown client to stored rows.
  func testFromTheFirstContactToStoredRows() throws {
    let client = try deployment.client()
    let pem = try HTTPSClient(port: client.port).send("GET", "/server.pem?r=1", [])
    XCTAssertEqual(pem.status, 200)
    XCTAssertEqual(pem.header("Content-Type"), "text/plain; charset=utf-8")
    XCTAssertEqual(try Certificate(pem: String(decoding: pem.body, as: UTF8.self)).name, "VelociraptorServer")
    XCTAssertEqual(try HTTPSClient(port: client.port).send("GET", "/healthz", []).status, 200)
    XCTAssertEqual(try HTTPSClient(port: client.port).send("GET", "/velo/server.pem", []).status, 404)

    for path in ["/reader", "/receive_messages", "/control", "/send_messages"] {
      let unknown = try client.post(path, client.seal([ScriptedClient.checkIn]))
      XCTAssertEqual(unknown.status, 406, path)
      XCTAssertEqual(String(decoding: unknown.body, as: UTF8.self), "Please Enrol\n")
      XCTAssertEqual(try client.post(path, []).status, 406, path)
      let garbage = try client.post(path, Array("garbage".utf8))
      XCTAssertEqual(garbage.status, 403, path)
      XCTAssertEqual(garbage.body, [0x0a])
    }
    // A certificate request on the reader has no effect.
    XCTAssertEqual(try client.post("/reader", client.seal([try client.enrollment()])).status, 406)
    XCTAssertEqual(try client.post("/control", client.seal([ScriptedClient.checkIn])).status, 406)
    try client.enroll()
    try client.deliver([ScriptedClient.rows(flow: "F.AAAAAAAAAAAA0", from: 0, count: 3)])
    XCTAssertEqual(try rows(client.id, "F.AAAAAAAAAAAA0"), [0, 1, 2])
    XCTAssertTrue(try deployment.microraptor(["clients", "--json"]).contains(client.id))
  }

  /// C-13, C-14: requests that are not the key's own store nothing.
  func testWrongCertificateRequests() throws {
    let client = try deployment.client()
    let keyFile = deployment.path("client.key.pem")
    try client.key.pkcs1PEM.write(toFile: keyFile, atomically: true, encoding: .utf8)
    let foreign = try RunningProcess.run(
      "/usr/bin/openssl", ["req", "-new", "-key", keyFile, "-subj", "/CN=C.0123456789abcdef"])
    XCTAssertEqual(try client.post("/control", client.seal([try client.enrollment(pem: foreign.output)])).status, 503)
    let own = try CertificateRequestBuilder.pem(for: client.key)
    var der = try XCTUnwrap(PEM.firstBlock("CERTIFICATE REQUEST", in: own))
    der[der.count - 1] ^= 1
    let unsigned = try client.enrollment(pem: PEM.encode("CERTIFICATE REQUEST", der))
    XCTAssertEqual(try client.post("/control", client.seal([unsigned])).status, 503)
    XCTAssertEqual(try client.post("/control", client.seal([ScriptedClient.checkIn])).status, 406)
    XCTAssertFalse(try deployment.microraptor(["clients", "--json"]).contains(client.id))
  }

  /// C-4, C-5, C-11, C-12, S-15 on a warm and on a cold session.
  func testDamagedBodies() throws {
    let client = try deployment.client()
    try client.enroll()
    try client.deliver([ScriptedClient.checkIn])
    let good = try client.seal([ScriptedClient.checkIn])
    let scan = try EnvelopeScan(good)
    for field in [scan.encrypted, scan.encryptedCipher, scan.encryptedCipherMetadata, scan.packetIV, scan.fullHMAC] {
      var damaged = good
      damaged[field.lowerBound] ^= 1
      XCTAssertEqual(try client.post("/control", damaged).status, 403)
    }
    XCTAssertEqual(
      try client.post("/control", client.seal([ScriptedClient.checkIn], nonce: "AAAAAAAAAAA=")).status, 403)
    XCTAssertEqual(try client.post("/control", Array(good.dropLast(7))).status, 403)
    try client.deliver([ScriptedClient.checkIn])
  }

  /// C-17, W-6, W-7: lists that are sent again in a new body are acknowledged and stored once; the sender's name is the
  /// envelope's.
  func testResentListsAreStoredOnce() throws {
    let client = try deployment.client()
    try client.enroll()
    var job = ScriptedClient.rows(flow: "F.AAAAAAAAAAAA1", from: 0, count: 4)
    job.source = "C.1234567890abcdef"
    job.orgID = "OEVIL"
    job.authState = .authenticated
    for _ in 0..<3 { try client.deliver([job]) }
    try client.restart()
    try client.deliver([job])
    let list = try MessageListCodec.serialize([ScriptedClient.rows(flow: "F.AAAAAAAAAAAA1", from: 4, count: 2)])
    let two = try client.seal(
      lists: [Zlib.deflate(try MessageListCodec.serialize([job])), Zlib.deflate(list)], compressed: true)
    XCTAssertEqual(try client.open(client.post("/control", two)), [])
    XCTAssertEqual(try rows(client.id, "F.AAAAAAAAAAAA1"), Array(0..<6))
    XCTAssertFalse(try deployment.microraptor(["clients", "--json"]).contains("C.1234567890abcdef"))
  }

  /// S-14, W-10: a job that cannot be stored, and a list that cannot be read, do not take the others with them.
  func testOneBadJobDoesNotStopTheOthers() throws {
    let client = try deployment.client()
    try client.enroll()
    var bad = ScriptedClient.rows(flow: "../../etc/passwd", from: 0, count: 1)
    bad.sessionID = "../../etc/passwd"
    try client.deliver([bad, ScriptedClient.rows(flow: "F.AAAAAAAAAAAA2", from: 0, count: 2)])
    XCTAssertEqual(try rows(client.id, "F.AAAAAAAAAAAA2"), [0, 1])
    let good = try Zlib.deflate(
      try MessageListCodec.serialize([ScriptedClient.rows(flow: "F.AAAAAAAAAAAA3", from: 0, count: 1)]))
    let bomb = try Zlib.deflate([UInt8](repeating: 0, count: MessageListCodec.inflateLimit + 1))
    let answer = try client.post("/control", client.seal(lists: [bomb, good], compressed: true))
    XCTAssertEqual(answer.status, 200)
    XCTAssertEqual(answer.body, [], "complete, and without an envelope")
    XCTAssertEqual(try rows(client.id, "F.AAAAAAAAAAAA3"), [0])
  }

  /// H-9: who hangs up after the body still delivered it.
  func testHangingUpDoesNotStopProcessing() throws {
    let client = try deployment.client()
    try client.enroll()
    // The worker is away, so nothing can be done before the connection has gone.
    try deployment.kill("worker-1")
    try deployment.process("frontend-1").wait(for: "crypto-worker is gone")
    let body = try client.seal([ScriptedClient.rows(flow: "F.AAAAAAAAAAAA4", from: 0, count: 1)])
    let request = try HTTPSClient(port: client.port).start("POST", "/control", body)
    while try deployment.metric("frontend-1", "worker_requests_in_flight") == 0 {}
    request.cancel()
    try deployment.startWorker(1)
    while try deployment.metric("frontend-1", "frontend_acknowledged_count") == 0 {}
    XCTAssertEqual(try rows(client.id, "F.AAAAAAAAAAAA4"), [0])
  }

  /// C-16: a deleted client is asked to enroll again, and can.
  func testADeletedClientEnrollsAgain() throws {
    let client = try deployment.client()
    try client.enroll()
    try client.deliver([ScriptedClient.checkIn])
    _ = try deployment.microraptor(["delete", client.id, "--yes"])
    XCTAssertEqual(try client.post("/control", client.seal([ScriptedClient.checkIn])).status, 406)
    try client.enroll()
    try client.deliver([ScriptedClient.checkIn])
  }

  /// H-18: the oldest TLS version by default is 1.3.
  func testOldTLSIsRefused() throws {
    var old = HTTPSClient(port: deployment.ports[0])
    old.maximumTLS = .tlsv12
    XCTAssertNotEqual(try? old.send("GET", "/server.pem", []).status, 200)
    XCTAssertEqual(try HTTPSClient(port: deployment.ports[0]).send("GET", "/server.pem", []).status, 200)
  }
}
