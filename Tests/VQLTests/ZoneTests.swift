import XCTest

@testable import VQL

final class ZoneTests: XCTestCase {
  private func rule(_ zone: String, _ seconds: Int64) throws -> String {
    let file = try XCTUnwrap(ZoneFile.named(zone), "tzdata has \(zone)")
    let rule = file.rule(at: seconds)
    return "\(rule.name) \(rule.offset)\(rule.isDaylight ? " daylight" : "")"
  }

  func testZonesOfTheSystem() throws {
    // 2023-01-15 and 2023-07-15, noon UTC.
    XCTAssertEqual(try rule("Europe/Berlin", 1_673_784_000), "CET 3600")
    XCTAssertEqual(try rule("Europe/Berlin", 1_689_422_400), "CEST 7200 daylight")
    XCTAssertEqual(try rule("America/New_York", 1_689_422_400), "EDT -14400 daylight")
    XCTAssertEqual(try rule("Asia/Kolkata", 1_689_422_400), "IST 19800")
    // South of the equator the year begins with daylight saving time.
    XCTAssertEqual(try rule("Australia/Sydney", 1_673_784_000), "AEDT 39600 daylight")
  }

  func testTheSecondOfAChange() throws {
    // 2023-03-26T01:00:00Z.
    XCTAssertEqual(try rule("Europe/Berlin", 1_679_792_399), "CET 3600")
    XCTAssertEqual(try rule("Europe/Berlin", 1_679_792_400), "CEST 7200 daylight")
  }

  func testBeyondTheTable() throws {
    // 2100-01-15 and 2100-07-15: only the footer knows.
    XCTAssertEqual(try rule("Europe/Berlin", 4_103_697_600), "CET 3600")
    XCTAssertEqual(try rule("Europe/Berlin", 4_119_336_000), "CEST 7200 daylight")
    XCTAssertFalse(try rule("Europe/Berlin", .min).isEmpty)
  }

  func testFooters() throws {
    func rule(_ text: String, _ seconds: Int64) throws -> String {
      let rule = try XCTUnwrap(ZoneFooter(Array(text.utf8))).rule(at: seconds)
      return "\(rule.name) \(rule.offset)"
    }
    XCTAssertEqual(try rule("<+0330>-3:30", 0), "+0330 12600")
    // 2023-03-12T07:00:00Z is the change in New York.
    XCTAssertEqual(try rule("EST5EDT,M3.2.0,M11.1.0", 1_678_604_399), "EST -18000")
    XCTAssertEqual(try rule("EST5EDT,M3.2.0,M11.1.0", 1_678_604_400), "EDT -14400")
    // Julian day 60 is 1 March also in the leap year 2024.
    XCTAssertEqual(try rule("A0B,J60/0,J300", 1_709_251_199), "A 0")
    XCTAssertEqual(try rule("A0B,J60/0,J300", 1_709_251_200), "B 3600")
    XCTAssertNil(ZoneFooter([]))
    XCTAssertNil(ZoneFooter(Array("EST5EDT,M13.2.0,M11.1.0".utf8)))
  }

  func testNamesCannotLeaveTheFolder() {
    XCTAssertNil(ZoneFile.named("../../etc/localtime"))
    XCTAssertNil(ZoneFile.named("/etc/localtime"))
    XCTAssertNil(ZoneFile.named("No/Such"))
  }

  func testDamagedFilesAreRefused() throws {
    let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: "/usr/share/zoneinfo/Europe/Berlin")))
    XCTAssertNotNil(ZoneFile(bytes))
    for count in stride(from: 0, to: bytes.count, by: 7) { _ = ZoneFile(Array(bytes.prefix(count))) }
    for place in bytes.indices {
      var damaged = bytes
      damaged[place] ^= 0xFF
      _ = ZoneFile(damaged)?.rule(at: 1_689_422_400)
    }
  }
}
