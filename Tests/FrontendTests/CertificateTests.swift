import Configuration
import Foundation
import Logging
import NIOSSL
import Synchronization
import XCTest

@testable import frontend

/// TLS certificates that are replaced while the process runs, and when their end is spoken of.
final class CertificateTests: XCTestCase {
  private var directory = URL(fileURLWithPath: "/")

  override func setUpWithError() throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("mr-tls-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  }

  override func tearDown() { try? FileManager.default.removeItem(at: directory) }

  /// A port whose certificate lies in two files, and the files' paths.
  private func files(_ certificate: TestCertificate) throws -> (ServerTLS, certificate: URL, key: URL) {
    let places = (directory.appendingPathComponent("live.pem"), directory.appendingPathComponent("live.key"))
    try replace(places.0, certificate.certificate)
    try replace(places.1, certificate.key)
    var frontend = FrontendSection()
    frontend.tls = .files(certificate: places.0.path, privateKey: places.1.path)
    let tls = try XCTUnwrap(ServerTLS.make(frontend, ClientSection()))
    return (tls, places.0, places.1)
  }

  /// As certbot does: a link that points elsewhere from one moment to the next.
  private func replace(_ link: URL, _ target: String) throws {
    let new = link.appendingPathExtension("new")
    try FileManager.default.createSymbolicLink(atPath: new.path, withDestinationPath: target)
    guard rename(new.path, link.path) == 0 else { throw TestFailure("rename") }
  }

  private func der(_ certificate: TestCertificate) throws -> [UInt8] {
    try XCTUnwrap(NIOSSLCertificate.fromPEMFile(certificate.certificate).first).toDERBytes()
  }

  private func certificate(of server: TestServer) async throws -> [UInt8] {
    let client = try await RawClient.connect(port: server.port, tls: ["http/1.1"])
    try await client.send("GET /server.pem HTTP/1.1\r\nHost: x\r\n\r\n")
    try await client.read(to: "PEM\n")
    await client.close()
    return try XCTUnwrap(client.certificate)
  }

  func testANewCertificateIsTakenUpAndABrokenOneIsNot() async throws {
    let first = try TestCertificate(in: directory, name: "first")
    let second = try TestCertificate(in: directory, name: "second", days: 300)
    let (firstDER, secondDER) = (try der(first), try der(second))
    let (tls, certificateLink, keyLink) = try files(first)
    let server = try await TestServer(tls: tls)
    let log = LogLines()
    let watcher = CertificateWatcher(tls: tls, logger: Logger(label: "test") { _ in log.handler() })
    let watching = Task { await watcher.run(every: .milliseconds(10)) }
    defer { watching.cancel() }
    let before = try await certificate(of: server)
    XCTAssertEqual(before, firstDER)
    let kept = try await RawClient.connect(port: server.port, tls: ["http/1.1"])
    try await kept.send("GET /server.pem HTTP/1.1\r\nHost: x\r\n\r\n")
    try await kept.read(to: "PEM\n")

    // Half of a change: the pair does not fit, so the one before stays.
    try replace(certificateLink, second.certificate)
    try await eventually("a line about the broken pair") { log.has("was not taken up") }
    let meanwhile = try await certificate(of: server)
    XCTAssertEqual(meanwhile, firstDER)

    try replace(keyLink, second.key)
    try await eventually("the new one is in use") { log.has("the new TLS certificate is in use") }
    let after = try await certificate(of: server)
    XCTAssertEqual(after, secondDER)
    XCTAssertGreaterThan(tls.validity.upperBound, Int64(Date().timeIntervalSince1970) + 299 * 86_400)

    try Data("garbage".utf8).write(to: certificateLink)
    try await eventually("another line") { log.count("was not taken up") == 2 }
    let last = try await certificate(of: server)
    XCTAssertEqual(last, secondDER)
    try await kept.send("GET /server.pem HTTP/1.1\r\nHost: x\r\n\r\n")
    try await kept.read(to: "PEM\n")
    XCTAssertEqual(kept.certificate, firstDER, "a connection keeps what it began with")
    await server.stop()
  }

  func testWhenTheEndIsSpokenOf() {
    let day: Int64 = 86_400
    var watch = ExpiryWatch()
    let validity: ClosedRange<Int64> = 0...(365 * day)
    XCTAssertNil(watch.check(validity, now: 200 * day))
    XCTAssertEqual(watch.check(validity, now: 276 * day), .soon(days: 89))
    XCTAssertNil(watch.check(validity, now: 276 * day + 3_600), "once a day")
    XCTAssertEqual(watch.check(validity, now: 277 * day), .soon(days: 88))
    XCTAssertEqual(watch.check(validity, now: 336 * day), .near(days: 29))
    XCTAssertEqual(watch.check(validity, now: 359 * day), .urgent(days: 6))
    XCTAssertNil(watch.check(validity, now: 359 * day + 10))
    XCTAssertEqual(watch.check(validity, now: 365 * day), .expired)
  }

  /// A certificate of 90 days, as Let's Encrypt gives them, is not nagged about from its first day.
  func testAShortLife() {
    let day: Int64 = 86_400
    var watch = ExpiryWatch()
    XCTAssertNil(watch.check(0...(90 * day), now: day))
    XCTAssertNil(watch.check(0...(90 * day), now: 59 * day))
    XCTAssertEqual(watch.check(0...(90 * day), now: 61 * day), .near(days: 29))
  }
}

/// Log lines in memory.
final class LogLines: Sendable {
  private let lines = Mutex<[String]>([])

  func has(_ text: String) -> Bool { count(text) > 0 }
  func count(_ text: String) -> Int { lines.withLock { $0.filter { $0.contains(text) }.count } }
  func handler() -> any LogHandler { Handler(lines: self) }

  private struct Handler: LogHandler {
    let lines: LogLines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.lines.withLock { $0.append("\(event.message)") } }
  }
}
