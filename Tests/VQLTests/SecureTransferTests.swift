import Foundation
import XCTest

@testable import VQL

/// `http_client()` over TLS, against the server that OpenSSL's command line has.
final class SecureTransferTests: XCTestCase {
  private var folder = ""
  private var server: Process?

  override func setUpWithError() throws {
    guard access("/usr/bin/openssl", X_OK) == 0 else { throw XCTSkip("openssl is not installed") }
    folder = try FileTree.temporaryDirectory()
    try FileTree.write(Array("the content".utf8), to: folder + "/page.txt")
  }

  override func tearDown() {
    if let server {
      server.terminate()
      server.waitUntilExit()
    }
    if !folder.isEmpty { FileTree.remove(folder) }
  }

  private func process(_ arguments: [String]) -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    return process
  }

  /// Starts a server with a certificate for `name`; gives its port.
  private func serve(name: String) throws -> Int {
    let make = process([
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out",
      "cert.pem", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=\(name)",
    ])
    make.standardOutput = FileHandle.nullDevice
    try make.run()
    make.waitUntilExit()
    XCTAssertEqual(make.terminationStatus, 0)
    let output = Pipe()
    let serving = process(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-WWW"])
    serving.standardOutput = output
    try serving.run()
    server = serving
    var text = ""
    func accepting() -> Substring? { text.split(separator: "\n").first { $0.hasPrefix("ACCEPT") } }
    while accepting() == nil || !text.hasSuffix("\n"), case let data = output.fileHandleForReading.availableData,
      !data.isEmpty
    {
      text += String(decoding: data, as: UTF8.self)
    }
    let port = accepting()?.split(separator: ":").last.flatMap { Int($0) }
    return try XCTUnwrap(port, text)
  }

  private func fetch(_ address: String, _ arguments: String = "", web: VQLWebSettings = VQLWebSettings()) throws
    -> String
  {
    try onLargeStack {
      var options = VQLSessionOptions()
      options.web = web
      let session = VQLSession(options: options)
      defer { session.close() }
      var found = ""
      try session.run("SELECT Content, Response FROM http_client(url='\(address)'\(arguments))") { row in
        found = "\(row["Response"]?.integer ?? 0) \(row["Content"]?.string ?? "")"
        return .more
      }
      return found
    }
  }

  func testTrustedRootsAreAsked() throws {
    let port = try serve(name: "IP:127.0.0.1")
    let root = try String(contentsOfFile: folder + "/cert.pem", encoding: .utf8)
    var web = VQLWebSettings()
    let refused = try fetch("https://127.0.0.1:\(port)/page.txt", web: web)
    XCTAssertTrue(refused.hasPrefix("500 tls: failed to verify certificate"), refused)
    web.trustedRoots = root
    XCTAssertEqual(try fetch("https://127.0.0.1:\(port)/page.txt", web: web), "200 the content")
  }

  func testTheNameMustFit() throws {
    let port = try serve(name: "DNS:VelociraptorServer")
    var web = VQLWebSettings()
    web.trustedRoots = try String(contentsOfFile: folder + "/cert.pem", encoding: .utf8)
    let address = "https://127.0.0.1:\(port)/page.txt"
    let refused = try fetch(address, web: web)
    XCTAssertTrue(refused.contains("IP address mismatch"), refused)
    XCTAssertEqual(try fetch(address, ", skip_verify=TRUE", web: web), "200 the content")
    web.mayIgnoreCertificates = false
    let forbidden = try fetch(address, ", skip_verify=TRUE", web: web)
    XCTAssertTrue(forbidden.contains("not allowed by the agent's TLS policy"), forbidden)
  }
}
