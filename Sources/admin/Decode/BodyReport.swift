import Envelope
import Foundation
import PKI
import PublicIdentity
import SwiftProtobuf
import Wire

/// Every step of opening one body, and the first that fails (crypto.md §6).
struct BodyReport {
  private(set) var isGood = true
  private var fields: [(String, Any)] = []

  init(_ body: [UInt8], receiver: RSAPrivateKey, sender: RSAPublicKey?) {
    fields.append(("size", body.count))
    let scan: EnvelopeScan
    do throws(WireReader.Malformed) {
      scan = try EnvelopeScan(body)
    } catch {
      fail("outer message", "the bytes are not a ClientCommunication message")
      return
    }
    outer(scan, body)
    if scan.isEmpty {
      fields.append(("content", "none: the body is empty or only padding"))
      return
    }
    do throws(EnvelopeError) {
      let opened = body.withUnsafeBytes { buffer in
        Result { () throws(EnvelopeError) in try InboundSession.unwrap(buffer, scan, with: receiver) }
      }
      let (session, lists) = try opened.get()
      identity(session, sender)
      content(lists)
    } catch {
      fail(Self.step(error.code), error.description)
    }
  }

  private mutating func fail(_ step: String, _ reason: String) {
    isGood = false
    fields.append(("failed_check", step))
    fields.append(("reason", reason))
  }

  private mutating func outer(_ scan: EnvelopeScan, _ body: [UInt8]) {
    fields.append(("api_version", Int(scan.apiVersion)))
    fields.append(("encrypted_bytes", scan.encrypted.count))
    fields.append(("encrypted_cipher_bytes", scan.encryptedCipher.count))
    fields.append(("packet_iv", body[scan.packetIV].map { String(format: "%02x", $0) }.joined()))
  }

  private mutating func identity(_ session: InboundSession, _ sender: RSAPublicKey?) {
    fields.append(("source", session.source))
    guard let sender else {
      fields.append(("signature", "not checked: give --sender-key"))
      return
    }
    if session.verify(with: sender) {
      fields.append(("signature", "good"))
      // A client's name is made from its key; a server's is not.
      if let name = ClientName(session.source), name.id != sender.clientID {
        fail("source", "the key's id is \(sender.clientID), not \(name.id)")
      }
    } else {
      fail("signature", "the session was not signed by this sender's key")
    }
  }

  private mutating func content(_ lists: PackedLists) {
    fields.append(("timestamp", Self.time(lists.timestamp)))
    fields.append(("nonce", lists.nonce))
    fields.append(("compression", lists.compressed ? "ZCOMPRESSION" : "UNCOMPRESSED"))
    var shown: [Any] = []
    for (index, element) in lists.lists.enumerated() {
      do throws(MessageListCodec.Failure) {
        let jobs = try MessageListCodec.jobs(MessageListCodec.plain(element, compressed: lists.compressed))
        shown.append(["jobs": jobs.map(Self.object)])
      } catch {
        fail("message list \(index)", error.description)
      }
    }
    fields.append(("message_lists", shown))
  }

  private static func step(_ code: EnvelopeError.Code) -> String {
    switch code {
    case .malformed: "outer message"
    case .decryption: "RSA-OAEP decryption of encrypted_cipher"
    case .hmac: "HMAC"
    case .cipherText: "lengths of ciphertext and IV"
    case .padding: "padding"
    case .cipherProperties: "session properties"
    case .innerMessage: "decrypted messages"
    case .nonce, .source, .signature, .noSession, .noDestination, .libcrypto: "\(code)"
    }
  }

  private static func object(_ job: Proto_VeloMessage) -> Any {
    var options = JSONEncodingOptions()
    options.preserveProtoFieldNames = true
    guard let text = try? job.jsonUTF8Data(options: options), let object = try? JSONSerialization.jsonObject(with: text)
    else { return "not shown: the job cannot be written as JSON" }
    return object
  }

  private static func time(_ microseconds: UInt64) -> String {
    let date = Date(timeIntervalSince1970: Double(microseconds) / 1_000_000)
    return date.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true))
  }

  /// Keys in the order of the steps.
  func json() throws -> String {
    let lines = try fields.map { name, value in
      let data = try JSONSerialization.data(
        withJSONObject: value, options: [.fragmentsAllowed, .prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
      return "  \"\(name)\": " + String(decoding: data, as: UTF8.self).replacingOccurrences(of: "\n", with: "\n  ")
    }
    return "{\n" + lines.joined(separator: ",\n") + "\n}"
  }
}
