import Foundation
import PKI
import Wire
import XCTest

@testable import AgentCore

final class WritebackTests: XCTestCase {
  private func open(_ directory: TemporaryDirectory, suffix: String = ".bak", log: LogRecorder = LogRecorder()) throws
    -> Writeback
  {
    try Writeback.open(path: directory.file("state.yaml"), suffix: suffix, log: log.logger)
  }

  private func text(_ directory: TemporaryDirectory, _ name: String) throws -> String {
    try String(contentsOfFile: directory.file(name), encoding: .utf8)
  }

  private var table: Proto_VQLEventTable {
    .with {
      $0.version = 12_345_678_901_234_567
      $0.event = [Make.collector(["SELECT * FROM \"x: {y}\" -- é\n"], name: "Event.One")]
    }
  }

  /// A-1.
  func testFirstStartMakesAnIdentityAndSaysSo() throws {
    let directory = try TemporaryDirectory()
    let log = LogRecorder()
    let writeback = try open(directory, log: log)
    XCTAssertTrue(writeback.isNew)
    XCTAssertTrue(log.contains("NEW IDENTITY \(writeback.clientID)"))
    let first = try text(directory, "state.yaml")
    for key in ["install_time: ", "private_key: |\n  -----BEGIN RSA PRIVATE KEY-----", "client_id: C."] {
      XCTAssertTrue(first.contains(key), key)
    }
    for name in ["state.yaml", "state.yaml.bak"] {
      let mode = try FileManager.default.attributesOfItem(atPath: directory.file(name))[.posixPermissions] as? Int
      XCTAssertEqual(mode, 0o600)
    }
    XCTAssertFalse(log.all.joined().contains("BEGIN"), "keys are not logged")
  }

  func testTheIdentityAndAllFieldsComeBack() throws {
    let directory = try TemporaryDirectory()
    let first = try open(directory)
    try first.remember(serverPEM: "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n")
    try first.remember(eventTable: table)
    let second = try open(directory)
    XCTAssertFalse(second.isNew)
    XCTAssertEqual(second.current, first.current)
    XCTAssertEqual(second.current.eventTable, table)
    XCTAssertEqual(second.clientID, first.clientID)
  }

  /// A-2, and the other way round.
  func testEitherFileIsRebuiltFromTheOther() throws {
    for lost in ["state.yaml", "state.yaml.bak"] {
      for damage in [nil, "", "private_key: nonsense", "\u{0}\u{1}binary", "- a list"] as [String?] {
        let directory = try TemporaryDirectory()
        let first = try open(directory)
        if let damage {
          try damage.write(toFile: directory.file(lost), atomically: true, encoding: .utf8)
        } else {
          try FileManager.default.removeItem(atPath: directory.file(lost))
        }
        let log = LogRecorder()
        let second = try open(directory, log: log)
        XCTAssertEqual(second.clientID, first.clientID, "\(lost): \(damage ?? "lost")")
        XCTAssertTrue(log.contains("rebuilding it from"))
        XCTAssertTrue(try text(directory, lost).contains("BEGIN RSA PRIVATE KEY"))
      }
    }
  }

  func testOneFileWithoutASuffixHoldsEverything() throws {
    let directory = try TemporaryDirectory()
    let first = try open(directory, suffix: "")
    try first.remember(eventTable: table)
    XCTAssertEqual(try open(directory, suffix: "").current.eventTable, table)
    XCTAssertFalse(FileManager.default.fileExists(atPath: directory.file("state.yaml.bak")))
  }

  func testANewIdentityOnlyWhenBothAreGoneAndDamagedOnesAreKept() throws {
    let directory = try TemporaryDirectory()
    let first = try open(directory)
    for name in ["state.yaml", "state.yaml.bak"] {
      try "broken".write(toFile: directory.file(name), atomically: true, encoding: .utf8)
    }
    let log = LogRecorder()
    let second = try open(directory, log: log)
    XCTAssertNotEqual(second.clientID, first.clientID)
    XCTAssertTrue(log.contains("NEW IDENTITY"))
    XCTAssertEqual(try text(directory, "state.yaml.damaged"), "broken")
  }

  func testAFileThatCannotBeReadIsAnErrorAndNoNewIdentity() throws {
    let directory = try TemporaryDirectory()
    try FileManager.default.createDirectory(atPath: directory.file("state.yaml"), withIntermediateDirectories: false)
    XCTAssertThrowsError(try open(directory)) { XCTAssertTrue("\($0)".contains("state.yaml"), "\($0)") }
  }

  func testACrashInsideAWriteLeavesTheOldFile() throws {
    let directory = try TemporaryDirectory()
    let first = try open(directory)
    try "half a fi".write(toFile: directory.file("state.yaml.new"), atomically: true, encoding: .utf8)
    XCTAssertEqual(try open(directory).clientID, first.clientID)
  }

  func testAStockFileIsRead() throws {
    let directory = try TemporaryDirectory()
    let key = try RSAPrivateKey.generate()
    let pem = key.pkcs1PEM.split(separator: "\n").map { "  \($0)\n" }.joined()
    let yaml = """
      install_time: 1700000000
      private_key: |
      \(pem)client_id: C.wrong
      event_queries:
        event:
        - Query:
          - VQL: SELECT 1
            Name: X
          max_wait: 120
        version: 17
      unknown_field: 5
      """
    try yaml.write(toFile: directory.file("state.yaml"), atomically: true, encoding: .utf8)
    let writeback = try open(directory, suffix: "")
    XCTAssertEqual(writeback.clientID, key.publicKey.clientID.rawValue)
    XCTAssertEqual(writeback.current.clientID, writeback.clientID)
    XCTAssertEqual(writeback.current.installTime, 1_700_000_000)
    XCTAssertEqual(writeback.current.eventTable?.version, 17)
    XCTAssertEqual(writeback.current.eventTable?.event.first?.query.first?.name, "X")
  }
}

final class ClientInfoTests: XCTestCase {
  func testEmptyValuesAreLeftOutAndTextIsEscaped() throws {
    var settings = AgentSettings()
    settings.labels = ["a\"b", "c"]
    var facts = HostFacts()
    facts.hostname = "host"
    let row = ClientInfo.row(settings: settings, facts: facts, installTime: 7)
    let object = try JSONSerialization.jsonObject(with: Data(row.utf8)) as? [String: Any]
    XCTAssertEqual(object?["labels"] as? [String], ["a\"b", "c"])
    XCTAssertEqual(object?["hostname"] as? String, "host")
    XCTAssertEqual(object?["install_time"] as? Int, 7)
    XCTAssertNil(object?["fqdn"])
    XCTAssertTrue(row.hasSuffix("}\n"))
  }

  func testFactsOfThisHost() {
    let facts = HostFacts.current()
    XCTAssertFalse(facts.hostname.isEmpty)
    XCTAssertFalse(facts.fqdn.isEmpty)
    XCTAssertFalse(facts.architecture.isEmpty)
    XCTAssertEqual(HostFacts.release(fromOSRelease: "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"), "debian12")
    XCTAssertEqual(HostFacts.release(fromOSRelease: ""), "")
    XCTAssertEqual(HostFacts.goArchitecture("x86_64"), "amd64")
  }
}
