import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire
import XCTest

/// An agent that does exactly what a test says.
final class ScriptedClient {
  let key: RSAPrivateKey
  let nonce: String
  let server: RSAPublicKey
  var port: Int
  private(set) var agent: AgentEnvelope
  private(set) var session: OutboundSession

  init(nonce: String, serverPEM: String, port: Int, key: RSAPrivateKey? = nil) throws {
    self.key = try key ?? RSAPrivateKey.generate()
    self.nonce = nonce
    self.port = port
    server = try Certificate(pem: serverPEM).rsaPublicKey()
    agent = AgentEnvelope(privateKey: self.key, nonce: nonce)
    agent.setServer(name: "VelociraptorServer", publicKey: server)
    session = try OutboundSession(sender: self.key.publicKey.clientID.rawValue, key: self.key, receiver: server)
  }

  var id: String { key.publicKey.clientID.rawValue }

  /// Starts a new session, as an agent does after a restart.
  func restart() throws {
    session = try OutboundSession(sender: id, key: key, receiver: server)
  }

  func seal(_ jobs: [Proto_VeloMessage], compressed: Bool = false, nonce: String? = nil) throws -> [UInt8] {
    let list = try MessageListCodec.serialize(jobs)
    return try seal(lists: [compressed ? Zlib.deflate(list) : list], compressed: compressed, nonce: nonce)
  }

  func seal(lists: [[UInt8]], compressed: Bool = false, nonce: String? = nil) throws -> [UInt8] {
    try session.seal(
      PackedLists(
        lists: lists, compressed: compressed, timestamp: AgentEnvelope.now(), nonce: nonce ?? self.nonce))
  }

  // MARK: requests

  func post(_ path: String, _ body: [UInt8], urgent: Bool = false, seconds: Int64 = 60) throws -> HTTPSClient.Answer {
    try HTTPSClient(port: port).send(
      "POST", path, body, headers: urgent ? [("X-Priority", "urgent")] : [], seconds: seconds)
  }

  func startReader() throws -> HTTPSClient.Exchange {
    try HTTPSClient(port: port).start("POST", "/reader", try seal([Self.checkIn]))
  }

  func enroll(file: StaticString = #filePath, line: UInt = #line) throws {
    let answer = try post("/control", seal([try enrollment()]), urgent: true)
    XCTAssertEqual(answer.status, 406, file: file, line: line)
  }

  /// Sends jobs and expects the sealed acknowledgement.
  func deliver(_ jobs: [Proto_VeloMessage], file: StaticString = #filePath, line: UInt = #line) throws {
    let answer = try post("/control", seal(jobs))
    XCTAssertEqual(answer.status, 200, file: file, line: line)
    XCTAssertEqual(try open(answer), [], file: file, line: line)
  }

  /// The jobs of an authentic answer; nil for padding only.
  func open(_ answer: HTTPSClient.Answer) throws -> [Proto_VeloMessage]? {
    XCTAssertTrue(answer.isComplete)
    return try agent.open(answer.body)?.flatMap { try MessageListCodec.jobs($0) }
  }

  // MARK: jobs

  static var checkIn: Proto_VeloMessage {
    var job = Proto_VeloMessage()
    job.sessionID = "E.Foreman"
    job.foremanCheckin = Proto_ForemanCheckin()
    return job
  }

  /// - Parameter pem: another certificate request than the client's own.
  func enrollment(pem: String? = nil) throws -> Proto_VeloMessage {
    var job = Proto_VeloMessage()
    job.sessionID = "E:Enrol"
    job.urgent = true
    job.csr.type = .csr
    job.csr.pem = Data(try (pem ?? CertificateRequestBuilder.pem(for: key)).utf8)
    return job
  }

  static func rows(
    flow: String, artifact: String = "Custom.Test", from: Int, count: Int, part: UInt64 = 0
  ) -> Proto_VeloMessage {
    var job = Proto_VeloMessage()
    job.sessionID = flow
    job.vqlresponse.query.name = artifact
    job.vqlresponse.columns = ["n"]
    job.vqlresponse.jsonlresponse = (from..<from + count).map { "{\"n\":\($0)}\n" }.joined()
    job.vqlresponse.totalRows = UInt64(count)
    job.vqlresponse.queryStartRow = UInt64(from)
    job.vqlresponse.part = part
    return job
  }
}
