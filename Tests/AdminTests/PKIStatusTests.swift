import Configuration
import Foundation
import PKI
import XCTest

@testable import microraptor

final class PKIStatusTests: XCTestCase {
  private func report(_ space: KeyWorkspace, days: Double) throws -> PKIReport {
    var collector = CertificateCollector()
    try collector.add(directory: space.directory)
    return PKIReport(
      statuses: CertificateStatus.check(
        collector.items, caPEM: collector.caPEM, now: KeyWorkspace.now.addingTimeInterval(days * 86_400)))
  }

  func testADeploymentsCertificates() throws {
    let space = try KeyWorkspace()
    try space.generate()
    let fresh = try report(space, days: 0)
    XCTAssertFalse(fresh.needsAttention)
    let uses = Dictionary(grouping: fresh.statuses, by: \.use).mapValues(\.count)
    XCTAssertEqual(uses, [.ca: 4, .message: 2, .tls: 1])
    XCTAssertTrue(fresh.statuses.allSatisfy { $0.isIssuedByCA == true })
    XCTAssertTrue(fresh.table.contains("microraptor config reissue"))
    XCTAssertFalse(fresh.table.contains("PRIVATE KEY"))
    let late = try report(space, days: 340)
    XCTAssertTrue(late.needsAttention)
    XCTAssertEqual(late.table.split(separator: "\n").filter { $0.hasPrefix("ATTENTION") }.count, 3, late.table)
    let objects = try JSONSerialization.jsonObject(with: Data(late.json.utf8)) as? [[String: Any]]
    XCTAssertEqual(objects?.count, 7)
    XCTAssertEqual(objects?.first { $0["use"] as? String == "tls" }?["days_left"] as? Int, 25)
    XCTAssertEqual(objects?.first { $0["use"] as? String == "tls" }?["issuer_ok"] as? Bool, true)
  }

  func testAFileThatWasNotCopiedIsSeen() throws {
    let space = try KeyWorkspace()
    try space.generate()
    let old = try space.text("frontend.config.yaml")
    var rotation = try KeyRotation(directory: space.directory, caKey: nil, now: KeyWorkspace.now)
    _ = try rotation.rotate(acceptDays: 30, validityDays: 365)
    let rotated = try report(space, days: 0)
    XCTAssertFalse(rotated.needsAttention)
    XCTAssertEqual(rotated.statuses.filter { $0.use == .previousMessage }.count, 1)
    try ConfigFile.write(old, to: space.path("frontend.config.yaml"))
    let mixed = try report(space, days: 0)
    XCTAssertTrue(mixed.needsAttention)
    XCTAssertTrue(mixed.table.contains("different message certificates"))
  }

  func testTLSFilesAndUnreadableOnes() throws {
    let space = try KeyWorkspace()
    let file = space.root + "/frontend.yaml"
    try ConfigFile.write("Frontend: {tls_certificate_filename: \(space.root)/none.pem}\n", to: file)
    var collector = CertificateCollector()
    try collector.add(file: file)
    let report = PKIReport(
      statuses: CertificateStatus.check(collector.items, caPEM: nil, now: KeyWorkspace.now))
    XCTAssertTrue(report.needsAttention)
    XCTAssertTrue(report.table.contains("it cannot be read"))
    let missing = KeyWorkspace.refusal { try collector.add(directory: space.root + "/none") }
    XCTAssertTrue(missing.contains("cannot be read"), missing)
  }
}
