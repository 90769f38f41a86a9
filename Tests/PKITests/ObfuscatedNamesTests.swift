import PublicIdentity
import XCTest

/// wire.md §6, against tokens that `openssl enc -aes-256-cbc` made.
final class ObfuscatedNamesTests: XCTestCase {
  private let names = ObfuscatedNames(nonce: "o16/H5U1Ee0=")
  private let stats = "$87b4abb4dd550e77bce78ccd887504b222863fdd278641e707785e8964991275"
  private let info =
    "$97073aa1d51b04f8518e10923feef3287507ece115c96bc485f48a1504e23e836f52cbf91ab57d6ef25b86b3b567d079"

  func testTokens() {
    XCTAssertEqual(names.name(behind: Array(stats.utf8)), "Generic.Client.Stats")
    XCTAssertEqual(names.name(behind: Array(info.utf8)), "Generic.Client.Info/BasicInformation")
    XCTAssertNil(ObfuscatedNames(nonce: "another").name(behind: Array(stats.utf8)))
    for text in [
      "", "$", "$00ff", stats + "00", String(stats.dropFirst()), stats.uppercased(),
      "$" + String(repeating: "f", count: 64),
    ] {
      XCTAssertNil(names.name(behind: Array(text.utf8)), text)
    }
  }

  func testTokensInsideText() {
    XCTAssertEqual(
      names.restoring("{\"message\":\"Starting \(stats). costs $5, \(info)\"}"),
      "{\"message\":\"Starting Generic.Client.Stats. costs $5, Generic.Client.Info/BasicInformation\"}")
    XCTAssertNil(names.restoring("nothing here for $5 or $abcdef"))
    XCTAssertNil(names.restoring(""))
  }
}
