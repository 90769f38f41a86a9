import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire

/// An agent that sends what a benchmark tells it.
final class LoadClient: Sendable {
  let key: RSAPrivateKey
  let nonce: String
  let session: OutboundSession
  let name: ClientName

  init(key: RSAPrivateKey, nonce: String, server: RSAPublicKey) throws {
    self.key = key
    self.nonce = nonce
    name = ClientName(id: key.publicKey.clientID)
    session = try OutboundSession(sender: key.publicKey.clientID.rawValue, key: key, receiver: server)
  }

  func seal(_ jobs: [Proto_VeloMessage]) throws -> [UInt8] {
    try seal(list: jobs.isEmpty ? [] : MessageListCodec.serialize(jobs))
  }

  func seal(list: [UInt8]) throws -> [UInt8] {
    try session.seal(PackedLists(lists: [list], compressed: false, timestamp: AgentEnvelope.now(), nonce: nonce))
  }

  static var checkIn: Proto_VeloMessage {
    var job = Proto_VeloMessage()
    job.sessionID = "E.Foreman"
    job.foremanCheckin = Proto_ForemanCheckin()
    return job
  }

  /// Monitoring rows of about the given size, different for each number.
  static func monitoring(_ number: Int, bytes: Int) -> Proto_VeloMessage {
    var job = Proto_VeloMessage()
    job.sessionID = "F.Monitoring"
    job.vqlresponse.query.name = "Generic.Client.Stats"
    job.vqlresponse.columns = ["Timestamp", "CPU", "RSS", "Text"]
    var rows = ""
    var line = 0
    while rows.utf8.count + 150 < bytes {
      rows += "{\"Timestamp\":1800000000.\(number),\"CPU\":0.\(number % 997),\"RSS\":\(number + line),"
      rows += "\"Text\":\"what a host says about itself once in a while\"}\n"
      line += 1
    }
    job.vqlresponse.jsonlresponse = rows
    job.vqlresponse.totalRows = UInt64(line)
    return job
  }
}
