import XCTest

@testable import VQL

final class RegexTests: XCTestCase {
  private func groups(_ pattern: String, _ text: String, ignoreCase: Bool = false) throws -> [String?]? {
    let regex = try Regex(Array(pattern.utf8), ignoreCase: ignoreCase)
    let input = Array(text.utf8)
    return regex.firstMatch(input).map { match in
      (0...regex.groupCount).map { number in
        Regex.group(number, of: match, in: input).map { String(decoding: $0, as: UTF8.self) }
      }
    }
  }

  func testLeftmostFirst() throws {
    XCTAssertEqual(try groups("a|ab", "xab"), ["a"])
    XCTAssertEqual(try groups("(a+)(b*?)(b*)", "aabb"), ["aabb", "aa", "", "bb"])
    XCTAssertEqual(try groups("(?U)(a+)(b*)", "aabb"), ["a", "a", ""])
    XCTAssertEqual(try groups("(a)|(b)", "b"), ["b", nil, "b"])
    XCTAssertEqual(try groups("x{2,3}", "xxxx"), ["xxx"])
  }

  func testAssertions() throws {
    XCTAssertEqual(try groups("^b", "a\nb"), nil)
    XCTAssertEqual(try groups("(?m)^b$", "a\nb\nc"), ["b"])
    XCTAssertEqual(try groups("\\bfoo\\b", "a foo b"), ["foo"])
    XCTAssertEqual(try groups("\\bfoo\\b", "afoo b"), nil)
    XCTAssertEqual(try groups("a$", "ba"), ["a"])
  }

  func testClasses() throws {
    XCTAssertEqual(try groups("[[:alpha:]]+", "12ab3"), ["ab"])
    XCTAssertEqual(try groups("\\pL+", "1é2"), ["é"])
    XCTAssertEqual(try groups("[^a-c]+", "abxyc"), ["xy"])
    XCTAssertEqual(try groups("straße", "STRAßE", ignoreCase: true), ["STRAßE"])
    XCTAssertEqual(try groups("\\x{1F600}|\\x41", "A"), ["A"])
    XCTAssertEqual(try groups("\\Qa.b\\E", "a.b"), ["a.b"])
  }

  func testErrors() {
    for pattern in ["(", "a)", "[a", "*", "a**", "\\1", "(?=a)", "\\", "(?P<n>a)(?P<n>b)", "a{1001}", "(?P<>x)"] {
      XCTAssertThrowsError(try Regex(Array(pattern.utf8), ignoreCase: false), pattern)
    }
  }

  func testTimeIsLinear() throws {
    let regex = try Regex(Array("(a*)*(a|aa)+$".utf8), ignoreCase: true)
    let input = [UInt8](repeating: 97, count: 20_000) + [98]
    let start = Date()
    XCTAssertFalse(regex.matches(input))
    XCTAssertNil(regex.firstMatch(input))
    XCTAssertLessThan(Date().timeIntervalSince(start), 2)
  }

  func testBadBytesActAsReplacementCharacters() throws {
    let regex = try Regex(Array("^.\\x{FFFD}.$".utf8), ignoreCase: false)
    XCTAssertTrue(regex.matches([0xFF, 0xFE, 0xC3]))
  }
}
