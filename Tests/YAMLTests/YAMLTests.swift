import XCTest
import YAML

final class YAMLTests: XCTestCase {
  /// The tree in one line: scalars in `'` when their style makes them texts.
  private func shape(_ text: String, uniqueKeys: Bool = true) throws -> String {
    func shape(_ node: YAMLNode) -> String {
      switch node.content {
      case .scalar(let text, let isPlain): return isPlain ? text : "'\(text)'"
      case .sequence(let items): return "[\(items.map(shape).joined(separator: ", "))]"
      case .mapping(let pairs):
        return "{\(pairs.map { "\(shape($0.key)): \(shape($0.value))" }.joined(separator: ", "))}"
      }
    }
    return shape(try YAMLNode.parse(text, uniqueKeys: uniqueKeys))
  }

  private func error(_ text: String) -> YAMLError? {
    do {
      _ = try YAMLNode.parse(text)
      return nil
    } catch {
      return error
    }
  }

  func testStylesAndCollections() throws {
    XCTAssertEqual(
      try shape("a: 1\nb: \"1\"\nc: [x, 'y z']\nd:\n- |\n  one\n  two\n- {}\n"),
      "{a: 1, b: '1', c: [x, 'y z'], d: ['one\ntwo\n', {}]}")
  }

  func testLinesStartAtOne() throws {
    guard case .mapping(let pairs) = try YAMLNode.parse("a: 1\n\nb:\n  c: 2\n").content else { return XCTFail() }
    XCTAssertEqual(pairs.map(\.key.line), [1, 3])
    XCTAssertEqual(pairs.map(\.value.line), [1, 4])
  }

  func testNullIsPlain() throws {
    XCTAssertTrue(try YAMLNode.parse("~").isNull)
    XCTAssertFalse(try YAMLNode.parse("'~'").isNull)
    XCTAssertEqual(try shape("a:\nb: 1"), "{a: , b: 1}")
  }

  func testAliasesAreReplaced() throws {
    XCTAssertEqual(try shape("a: &x [1, 2]\nb: *x\n"), "{a: [1, 2], b: [1, 2]}")
    XCTAssertNotNil(error("b: *x\n"))
  }

  func testAliasesCannotFillTheMemory() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1...9 {
      let reference = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
      text += "a\(level): &a\(level) [\(reference)]\n"
    }
    XCTAssertEqual(error(text)?.reason, .tooLarge)
    XCTAssertEqual(error(String(repeating: "[", count: 5_000))?.reason, .tooLarge)
  }

  func testMistakesHaveTheirPlaceAndNotTheText() {
    let secret = "pass: word\n  bad: [unclosed\n"
    let found = error(secret)
    XCTAssertEqual(found?.line, 2)
    XCTAssertFalse(found?.description.contains("unclosed") ?? true)
    XCTAssertEqual(error("")?.reason, .empty)
    XCTAssertEqual(error("# only a comment\n")?.reason, .empty)
    XCTAssertEqual(error("a: 1\na: 2\n")?.reason, .repeatedKey("a"))
    XCTAssertEqual(error("a: 1\na: 2\n")?.line, 2)
    XCTAssertNotNil(error("a: \u{1}\n"))
  }

  func testTheLastOfRepeatedKeysCountsWhereAllowed() throws {
    XCTAssertEqual(try shape("a: 1\nb: 2\na: 3", uniqueKeys: false), "{a: 3, b: 2}")
  }

  func testOnlyTheFirstDocumentIsRead() throws {
    XCTAssertEqual(try shape("---\na: 1\n---\nb: 2\n"), "{a: 1}")
  }

  func testWritingAndReadingBack() throws {
    let pem = "-----BEGIN X-----\nabc=\n-----END X-----\n"
    let written = try YAMLOutput.mapping([
      (.scalar("pem", .plain), .scalar(pem, .literal)),
      (.scalar("number as text", .plain), .scalar("12", .doubleQuoted)),
      (
        .scalar("list", .plain), .sequence([.scalar("a: b", .plain), .scalar("ü", .plain), .scalar("", .doubleQuoted)])
      ),
      (.scalar("empty", .plain), .mapping([])),
    ]).text()
    XCTAssertTrue(written.contains("pem: |\n  -----BEGIN X-----\n"), written)
    XCTAssertTrue(written.contains("ü"), written)
    XCTAssertEqual(
      try shape(written),
      "{pem: '\(pem)', number as text: '12', list: ['a: b', ü, ''], empty: {}}")
  }

  func testALongLineIsNotFolded() throws {
    let long = String(repeating: "word ", count: 200) + "end"
    XCTAssertEqual(try YAMLOutput.scalar(long, .plain).text().split(separator: "\n").first.map(String.init), long)
  }
}
