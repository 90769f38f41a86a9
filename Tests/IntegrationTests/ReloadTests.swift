import Foundation
import XCTest

/// What changes while the processes run: the list of workers, keys and certificates.
final class ReloadTests: XCTestCase {
  private var deployment: Deployment!

  override func tearDown() { deployment?.stopAll() }

  private func edit(_ name: String, _ change: (String) -> String) throws {
    let path = deployment.path(name)
    try change(deployment.text(name)).write(toFile: path + ".new", atomically: false, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path + ".new")
    XCTAssertEqual(rename(path + ".new", path), 0)
  }

  /// A worker leaves the list, and another comes; nothing is restarted and nothing fails.
  func testTheListOfWorkersChanges() throws {
    deployment = try Deployment(workers: 2)
    try deployment.startAll(workers: 2)
    let frontend = try deployment.process("frontend-1")
    try frontend.wait(for: "worker-2.sock")
    let client = try deployment.client()
    try client.enroll()
    let first = "ipc://\(deployment.path("run/worker-1.sock"))"
    let second = "ipc://\(deployment.path("run/worker-2.sock"))"
    try edit("frontend.config.yaml") { text in
      text.split(separator: "\n", omittingEmptySubsequences: false).filter { !$0.contains(second) }
        .joined(separator: "\n")
    }
    try frontend.wait(for: "taken out of the configuration")
    try deployment.kill("worker-2")
    for _ in 0..<5 { try client.deliver([ScriptedClient.checkIn]) }
    let third = "ipc://\(deployment.path("run/worker-3.sock"))"
    try deployment.startWorker(3)
    try edit("frontend.config.yaml") { $0.replacingOccurrences(of: first, with: third) }
    try frontend.wait(for: "up worker=\(third)")
    try deployment.kill("worker-1")
    for _ in 0..<5 { try client.deliver([ScriptedClient.checkIn]) }
    // A file that is wrong changes nothing.
    try edit("frontend.config.yaml") { $0.replacingOccurrences(of: "CryptoWorkers:", with: "NoSuchSection:") }
    try frontend.wait(for: "the changed configuration is not used")
    try client.deliver([ScriptedClient.checkIn])
  }

  /// `config rotate` under running processes: who has the old certificate goes on, who comes gets the new one.
  func testKeysAreRotatedWithoutARestart() throws {
    deployment = try Deployment()
    try deployment.startAll()
    let old = try deployment.client()
    try old.enroll()
    try old.deliver([ScriptedClient.checkIn])
    let before = try deployment.messageCertificate()
    let operations = try deployment.metric("worker-1", "rsa_decrypt_op")
    let result = try RunningProcess.run("microraptor", ["config", "rotate", "--directory", deployment.directory.path])
    XCTAssertEqual(result.status, 0, result.errors)
    try deployment.process("worker-1").wait(for: "the new message key is in use")
    try deployment.process("frontend-1").wait(for: "the new message certificate is served")
    XCTAssertNotEqual(try deployment.messageCertificate(), before)
    try old.deliver([ScriptedClient.checkIn])
    XCTAssertEqual(try deployment.metric("worker-1", "rsa_decrypt_op"), operations, "its session goes on")
    let new = try deployment.client()
    try new.enroll()
    try new.deliver([ScriptedClient.checkIn])
    XCTAssertGreaterThan(try deployment.metric("frontend-1", "certificate_expiry_seconds{use=\"message\"}"), 86_400)
    XCTAssertGreaterThan(try deployment.metric("frontend-1", "certificate_expiry_seconds{use=\"tls\"}"), 86_400)
  }
}
