import Foundation
import PublicIdentity
import XCTest

@testable import PKI

/// Keys are slow to make: the tests share some.
enum Sample {
  static let now = Date(timeIntervalSince1970: 1_795_000_000)
  static let day: TimeInterval = 86_400
  static let authority = Result { try CertificateAuthority.create(now: now) }
  static let otherAuthority = Result { try CertificateAuthority.create(now: now) }
  static let messageKey = Result { try RSAPrivateKey.generate() }
  static let leafKey = Result { try ECPrivateKey.generate() }

  static func messageCertificate() throws -> Certificate {
    try authority.get().issueMessageCertificate(for: messageKey.get().publicKey, now: now)
  }

  static func leaf(_ hosts: [String] = []) throws -> Certificate {
    try authority.get().issueTLSLeaf(for: leafKey.get(), hostNames: hosts, now: now)
  }

  /// A certificate of the CA with anything in it.
  static func certificate(
    name: String = "VelociraptorServer", change: (inout CertificateTemplate) -> Void = { _ in }
  ) throws -> Certificate {
    var template = CertificateTemplate(organization: "Velociraptor", commonName: name)
    template.keyUsage = ["digitalSignature", "keyEncipherment"]
    change(&template)
    return try authority.get().sign(template, messageKey.get().handle, now, 365)
  }
}

/// A directory for the files of one test.
final class Workspace {
  let path = NSTemporaryDirectory() + "microraptor-\(UUID().uuidString)"

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ text: String, _ name: String) throws -> String {
    let file = "\(path)/\(name)"
    try Data(text.utf8).write(to: URL(fileURLWithPath: file))
    return file
  }
}

/// Runs the `openssl` command; its output and error text together.
func openssl(_ arguments: String...) throws -> (status: Int32, output: String) {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = ["openssl"] + arguments
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = pipe
  try process.run()
  let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
  process.waitUntilExit()
  return (process.terminationStatus, String(decoding: output, as: UTF8.self))
}

/// The error that the body throws, as text.
func refusal<T>(_ body: () throws -> T) -> String {
  do {
    _ = try body()
    return "accepted"
  } catch {
    return "\(error)"
  }
}
