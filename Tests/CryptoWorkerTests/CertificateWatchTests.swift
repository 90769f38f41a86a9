import Foundation
import Logging
import Observability
import PKI
import Synchronization
import XCTest

@testable import crypto_worker

final class CertificateWatchTests: XCTestCase {
  private final class Lines: Sendable {
    private let entries = Mutex<[(Logger.Level, String)]>([])
    func add(_ level: Logger.Level, _ text: String) { entries.withLock { $0.append((level, text)) } }
    func take() -> [(Logger.Level, String)] {
      entries.withLock { entries in
        defer { entries = [] }
        return entries
      }
    }
  }

  private struct Handler: LogHandler {
    let lines: Lines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) { lines.add(event.level, "\(event.message)") }
  }

  private let start = Date(timeIntervalSince1970: 1_800_000_000)

  func testWarningsAndMetric() throws {
    let authority = try CertificateAuthority.create(now: start)
    let key = try RSAPrivateKey.generate()
    let certificate = try authority.issueMessageCertificate(for: key.publicKey, now: start, validityDays: 100)
    let lines = Lines()
    let now = DateBox(start)
    let watch = CertificateWatch(
      items: [
        CertificateItem(file: "w.yaml", key: "Frontend.certificate", use: .message, pem: certificate.pem),
        CertificateItem(file: "w.yaml", key: "old", use: .previousMessage, pem: certificate.pem),
      ], logger: Logger(label: "t") { _ in Handler(lines: lines) }, now: { now.value })
    let registry = MetricsRegistry()
    watch.register(registry)
    watch.report()
    XCTAssertEqual(lines.take().count, 0)
    for (days, level) in [(11.0, Logger.Level.notice), (71, .warning), (94, .error), (101, .error)] {
      now.value = start.addingTimeInterval(days * 86_400)
      watch.report()
      let found = lines.take()
      XCTAssertEqual(found.map(\.0), [level], "\(days)")
      XCTAssertTrue(found.allSatisfy { $0.1.contains("microraptor config reissue") }, "\(found)")
    }
    let text = registry.render()
    XCTAssertTrue(text.contains("certificate_expiry_seconds{use=\"message\"} -86400\n"), text)
    XCTAssertTrue(text.contains("certificate_expiry_seconds{use=\"previous_message\"} -86400\n"), text)
  }

  private final class DateBox: Sendable {
    private let date: Mutex<Date>
    init(_ date: Date) { self.date = Mutex(date) }
    var value: Date {
      get { date.withLock { $0 } }
      set { date.withLock { $0 = newValue } }
    }
  }
}
