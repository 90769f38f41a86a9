import XCTest

@testable import VQL

final class ParserTests: XCTestCase {
  func testErrorsCarryPositions() {
    XCTAssertThrowsError(try VQLParser.check("SELECT 1 AS A\nFROM scope();")) { error in
      let failure = error as? VQLError
      XCTAssertEqual(failure?.code, .syntax)
      XCTAssertEqual(failure?.line, 2)
      XCTAssertEqual(failure?.column, 13)
    }
  }

  func testStatementsAreSplitInCanonicalForm() throws {
    let parts = try VQLParser.split("let x<=1+2 /* c */ select x,* from range( end=3 ) where x>1 and x limit 2")
    XCTAssertEqual(parts, ["LET x <= 1 + 2", "SELECT x, * FROM range(end=3) WHERE x > 1  AND x LIMIT 2"])
  }

  func testDeepNestingIsRefused() {
    let text = "SELECT " + String(repeating: "(", count: 5000) + "1" + String(repeating: ")", count: 5000)
    XCTAssertThrowsError(try VQLParser.check(text + " AS A FROM scope()"))
  }
}
