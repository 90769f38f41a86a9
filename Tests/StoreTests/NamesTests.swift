import PublicIdentity
import XCTest

@testable import Store

final class NamesTests: XCTestCase {
  func testFlowIDsAreTimeThenRandomInBase32Hex() throws {
    let id = FlowID.make(at: Timestamp(seconds: 1_700_000_000), random: 0xDEAD_BEEF)
    XCTAssertEqual(id.text.utf8.count, 15)
    // 0x6553F100 DEADBEEF by hand: 01100 10101 01001 11111 00010 00000 00110 11110 10101 10110 11111 01110 1111(0)
    XCTAssertEqual(id.text, "F.CL9V206ULMVEU")
    XCTAssertNotNil(FlowID(id.text))
  }

  func testMalformedFlowIDsAreRefused() {
    for text in ["", "F.", "F", "F.abc", "F.../..", "F.CL9V206ULMVEW", "G.CL9V206ULMVEU", "F.CL9V206ULMVEU\0", "F..H"] {
      XCTAssertNil(FlowID(text), text)
    }
    XCTAssertNotNil(FlowID("F.CL9V206ULMVEU.H"))
  }

  func testSessionsAreSplitAtTheFirstSlash() {
    guard let flow = FlowID("F.CL9V206ULMVEU") else { return XCTFail("a good id was refused") }
    XCTAssertEqual(SessionID("F.CL9V206ULMVEU"), .flow(flow, child: nil))
    XCTAssertEqual(SessionID("F.CL9V206ULMVEU/3"), .flow(flow, child: "3"))
    XCTAssertEqual(SessionID("F.Monitoring"), .monitoring)
    XCTAssertEqual(SessionID("F.Status"), .status)
    XCTAssertEqual(SessionID("E.Foreman"), .wellKnown("E.Foreman"))
    for text in [
      "", "F.CL9V206ULMVEU/", "F.CL9V206ULMVEU/../x", "F.CL9V206ULMVEU/a/b", "/etc/passwd", "F.Monitoring/1",
    ] {
      XCTAssertNil(SessionID(text), text)
    }
  }

  func testArtifactNames() {
    for text in ["Custom.Query", "Generic.Client.Info/BasicInformation", "A/Two words", "Linux.Sys_1-x"] {
      XCTAssertNotNil(ArtifactName(text), text)
    }
    let long = String(repeating: "a", count: 257)
    for text in ["", "$6f", "A/", "/A", "A/B/C", "A B", "A\n", "../x/y", "Ä", "A\0", long] {
      XCTAssertNil(ArtifactName(text), text)
    }
  }

  func testTimestampsRoundDown() {
    XCTAssertEqual(Timestamp(microseconds: -1).seconds, -1)
    XCTAssertEqual(Timestamp(microseconds: -1).day, -1)
    XCTAssertEqual(Timestamp(seconds: 86_400).day, 1)
    XCTAssertEqual(Timestamp(seconds: 1).advanced(by: .milliseconds(1_500)).microseconds, 2_500_000)
  }

  func testUploadComponentsStayOneEntryEach() {
    XCTAssertEqual(UploadFiles.component("passwd"), "passwd")
    XCTAssertEqual(UploadFiles.component(".."), "%2E%2E")
    XCTAssertEqual(UploadFiles.component("."), "%2E")
    XCTAssertEqual(UploadFiles.component("a/b\0c"), "a%2Fb%00c")
    XCTAssertEqual(UploadFiles.component("..%2F"), "..%252F")
    XCTAssertEqual(UploadFiles.component(""), "%")
    XCTAssertEqual(UploadFiles.component("Öl"), "Öl")
    let long = UploadFiles.component(String(repeating: "ü", count: 500))
    XCTAssertLessThanOrEqual(long.utf8.count, 255)
    XCTAssertNotEqual(long, UploadFiles.component(String(repeating: "ü", count: 501)))
  }
}
