import ArgumentParser
import Envelope
import Foundation
import PKI
import PublicIdentity
import Wire

/// `microraptor decode`: shows what is in a captured body, or which check it fails.
struct DecodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode", abstract: "Show a captured POST body or answer as JSON, or which check it fails.",
    discussion: """
      The key is the receiver's: the server's message key for what agents send, an agent's key (from its writeback \
      file) for what a server answers. With the sender's public key, certificate or private key the signature is \
      checked too.

      Exit codes: 0 the body opens and, with --sender-key, is authentic; 1 it does not; 64 wrong arguments.
      """)

  @Option(help: "PEM file with the receiver's RSA private key.")
  var key: String

  @Option(help: "PEM file with the sender's RSA public key, certificate or private key.")
  var senderKey: String?

  @Flag(help: "FILE is hexadecimal text.")
  var hex = false

  @Argument(help: "The captured body; - reads standard input.")
  var file: String

  func run() throws {
    let receiver: RSAPrivateKey
    let sender: RSAPublicKey?
    let body: [UInt8]
    do {
      receiver = try RSAPrivateKey(pem: Self.text(key))
      sender = try senderKey.map { try Self.publicKey(Self.text($0)) }
      body = try Self.bytes(file, hex: hex)
    } catch {
      FileHandle.standardError.write(Data("decode: \(error)\n".utf8))
      throw ExitCode(64)
    }
    let report = BodyReport(body, receiver: receiver, sender: sender)
    print(try report.json())
    if !report.isGood { throw ExitCode(1) }
  }

  private struct InputError: Error, CustomStringConvertible {
    let description: String
  }

  private static func text(_ path: String) throws -> String {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw InputError(description: "\(path): cannot be read")
    }
    return String(decoding: data, as: UTF8.self)
  }

  private static func publicKey(_ text: String) throws -> RSAPublicKey {
    if text.contains("BEGIN CERTIFICATE") { return try Certificate(pem: text).rsaPublicKey() }
    if text.contains("PRIVATE KEY-----") { return try RSAPrivateKey(pem: text).publicKey }
    return try RSAPublicKey(pem: text)
  }

  private static func bytes(_ path: String, hex: Bool) throws -> [UInt8] {
    let data: Data
    if path == "-" {
      data = FileHandle.standardInput.readDataToEndOfFile()
    } else if let read = FileManager.default.contents(atPath: path) {
      data = read
    } else {
      throw InputError(description: "\(path): cannot be read")
    }
    guard hex else { return [UInt8](data) }
    let digits = data.compactMap { byte in Character(UnicodeScalar(byte)).hexDigitValue }
    let spaces = data.filter { $0 == 0x20 || $0 == 0x0a || $0 == 0x0d || $0 == 0x09 }.count
    guard digits.count + spaces == data.count, digits.count % 2 == 0 else {
      throw InputError(description: "\(path): not hexadecimal text")
    }
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
  }
}
