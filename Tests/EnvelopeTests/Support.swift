import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire
import XCTest

/// Files beside the tests, found by the path of this source file.
enum Fixtures {
  static func folder(_ name: String) -> URL {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("Fixtures").appendingPathComponent(name)
  }

  static func bytes(_ folder: URL, _ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: folder.appendingPathComponent(name)))
  }

  static func object(_ folder: URL, _ name: String) throws -> [String: Any] {
    let data = try Data(contentsOf: folder.appendingPathComponent(name))
    return try XCTUnwrap(JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  struct Entry {
    var name: String
    var direction: String?
  }

  static func index(_ folder: URL) throws -> [Entry] {
    let data = try Data(contentsOf: folder.appendingPathComponent("index.json"))
    let list = try XCTUnwrap(JSONSerialization.jsonObject(with: data) as? [[String: Any]])
    return try list.map { Entry(name: try XCTUnwrap($0["name"] as? String), direction: $0["direction"] as? String) }
      .filter { $0.name != "keys" }
  }

  static func hex(_ value: Any?) throws -> [UInt8] {
    let text = Array(try XCTUnwrap(value as? String).utf8)
    return try stride(from: 0, to: text.count, by: 2).map {
      try XCTUnwrap(UInt8(String(decoding: text[$0..<$0 + 2], as: UTF8.self), radix: 16))
    }
  }
}

/// The steps of a server, as a crypto-worker takes them.
enum ServerSide {
  struct Opened {
    var source: String
    var authenticated: Bool
    var apiVersion: UInt32
    var lists: [[UInt8]]
    var compressed: Bool
  }

  static func open(
    _ body: [UInt8], with key: RSAPrivateKey, knowing client: RSAPublicKey?, nonce: String
  ) throws -> Opened {
    let scan = try EnvelopeScan(body)
    if scan.isEmpty { return Opened(source: "", authenticated: false, apiVersion: 0, lists: [], compressed: false) }
    let (session, lists) = try body.withUnsafeBytes { try InboundSession.unwrap($0, scan, with: key) }
    guard lists.nonce == nonce else { throw EnvelopeError(.nonce) }
    guard ClientID(session.source) != nil else { throw EnvelopeError(.source) }
    let named = client.map { $0.clientID.rawValue == session.source } ?? false
    let authenticated = named && client.map { session.verify(with: $0) } ?? false
    return Opened(
      source: session.source, authenticated: authenticated, apiVersion: scan.apiVersion, lists: lists.lists,
      compressed: lists.compressed)
  }

  static func unwrap(_ body: [UInt8], with key: RSAPrivateKey) throws -> InboundSession {
    let scan = try EnvelopeScan(body)
    return try body.withUnsafeBytes { try InboundSession.unwrap($0, scan, with: key).session }
  }

  static func openWarm(_ body: [UInt8], sessions: [InboundSession]) throws -> PackedLists {
    let scan = try EnvelopeScan(body)
    let key = Array(body[scan.encryptedCipher])
    guard let session = sessions.first(where: { $0.encryptedCipher == key }) else { throw EnvelopeError(.noSession) }
    return try body.withUnsafeBytes { try session.open($0, scan) }
  }
}
