import XCTest

@testable import VQL

/// Rules in YARA's language over content in memory.
final class YaraTests: XCTestCase {
  /// The names of the rules and strings that match, with offsets.
  private func matches(_ rules: String, in content: [UInt8]) throws -> [String] {
    let compiled = try YaraParser.rules(Array(rules.utf8), variables: [])
    let context = Context(options: VQLSessionOptions(), cancellation: Cancellation())
    var scan = YaraScan(compiled)
    scan.scan(content, at: 0, isLast: true, context)
    var conditions = YaraConditions(scan, size: Int64(content.count), variables: VQLDict(), context) { offset, count in
      let start = min(Int(offset), content.count)
      return Array(content[start..<min(content.count, start + count)])
    }
    return conditions.matching().flatMap { place in
      let rule = compiled[place]
      let found = rule.strings.indices.flatMap { index in
        scan.matches[place][index].map { "\(rule.name) \(rule.strings[index].name) \($0.offset)" }
      }
      return found.isEmpty ? [rule.name] : found
    }
  }

  private func holds(_ condition: String, strings: String = "", _ text: String = "abc abc def") throws -> Bool {
    let part = strings.isEmpty ? "" : "strings: \(strings)"
    return try !matches("rule r { \(part) condition: \(condition) }", in: Array(text.utf8)).isEmpty
  }

  func testStringsInTheirForms() throws {
    XCTAssertEqual(
      try matches(
        #"rule r { strings: $a = "B" nocase $b = "c" wide $c = { 00 ?1 [1-2] 63 } condition: any of them }"#,
        in: [0x62, 0, 0x31, 0xFF, 0x63, 0, 0x42]),
      ["r $a 0", "r $a 6", "r $b 4", "r $c 1"])
    XCTAssertEqual(
      try matches(
        #"rule r { strings: $a = /x[0-9]+/ $b = { ( 41 | 42 43 ) ~00 } condition: all of them }"#,
        in: Array("x12 BCD".utf8)), ["r $a 0", "r $b 4"])
    XCTAssertEqual(
      try matches(#"rule r { strings: $a = "word" fullword condition: $a }"#, in: Array("sword word.".utf8)),
      ["r $a 6"])
    XCTAssertEqual(
      try matches(#"rule r { strings: $a = "secret" xor(1-255) condition: $a }"#, in: "..secret".utf8.map { $0 ^ 7 }),
      ["r $a 2"])
    XCTAssertEqual(
      try matches(
        #"rule r { strings: $a = "This program" base64 condition: $a }"#,
        in: Array("AVRoaXMgcHJvZ3JhbQ==".utf8)
      ).count, 1)
  }

  func testConditions() throws {
    let two = #"$a = "abc" $b = "zzz""#
    for condition in [
      "#a == 2", "@a[2] == 4", "!a == 3", "$a at 4", "$a in (3..5)", "not $b", "1 of them", "any of ($a*)",
      "none of ($b)", "50% of them", "filesize == 11", "uint16be(0) == 0x6162", "uint8(99) == 1 or true",
      "for all i in (1..#a) : (@a[i] < 5)", "for any of them : (# > 1)", "#a in (1..9) == 1", "filesize < 1KB",
      "for 2 i in (0, 4, 8) : ($a at i)", "(1 + 2) * 3 == 9 and 7 % 4 == 3 and 0x0F & ~1 == 14",
      "\"ABC\" icontains \"b\"",
      "\"abc\" matches /^A/i", "not defined uint8(99)",
    ] { XCTAssertTrue(try holds(condition, strings: two), condition) }
    for condition in ["#a > 2", "all of them", "$a at 1", "@a[3] == 0", "2 of them", "false", "uint32(9) == 1", "$b"] {
      XCTAssertFalse(try holds(condition, strings: two), condition)
    }
  }

  func testRulesReferToRules() throws {
    XCTAssertEqual(
      try matches(
        "private rule p { condition: filesize > 1 } rule q { condition: p and not r2 }".replacing("r2", with: "false"),
        in: [1, 2]), ["q"])
    XCTAssertEqual(try matches("global rule g { condition: false } rule q { condition: true }", in: [1]), [])
  }

  func testWhatIsWrongIsSaid() throws {
    for (rules, reason) in [
      ("rule r { condition: nope }", "undefined identifier"), ("rule r { condition: $a }", "undefined string"),
      ("rule r { condition: pe.sections == 1 }", "module"), ("rule r { strings: $a = \"x\" ", "condition"),
      ("rule r { strings: $a = { 1 } condition: $a }", "hex string"),
      ("rule r { strings: $a = /(/ condition: $a }", ")"),
      ("rule r { condition: true } rule r { condition: true }", "duplicated"), ("include \"x\"", "include"),
      ("rule r { condition: " + String(repeating: "(", count: 200) + "1", "nested"),
    ] {
      XCTAssertThrowsError(try YaraParser.rules(Array(rules.utf8), variables: []), rules) { error in
        XCTAssertTrue("\(error)".contains(reason), "\(rules): \(error)")
      }
    }
  }

  func testMatchesAcrossWindowsAreFoundOnce() throws {
    let folder = try FileTree.temporaryDirectory()
    defer { FileTree.remove(folder) }
    var content = [UInt8](repeating: 0x2E, count: 400_000)
    for place in [0, 65_534, 131_070, 300_000, 399_994] {
      content.replaceSubrange(place..<place + 6, with: "needle".utf8)
    }
    try FileTree.write(content, to: folder + "/f")
    let found = try rows(
      """
      SELECT String.Offset AS O FROM yara(rules='rule r { strings: $a = "needle" condition: #a == 5 }',
        files='\(folder)/f', blocksize=65536, number=100)
      """)
    XCTAssertEqual(
      found, ["{\"O\":0}", "{\"O\":65534}", "{\"O\":131070}", "{\"O\":300000}", "{\"O\":399994}"])
  }

  /// Whatever the text of rules is, reading it ends.
  func testBrokenRulesEnd() {
    let words = [
      "rule", "r", "{", "}", "strings:", "condition:", "$a", "=", "\"x\"", "{ 4? [1-] }", "/a+/", "for", "any", "of",
      "them", "(", ")", "#a", "@a[1]", "and", "not", "uint8", "1", "..", "in", ":", "meta:", "xor(1-", "%", "<<", "\"",
    ]
    for _ in 0..<20_000 {
      let text = (0..<Int.random(in: 1...25)).compactMap { _ in words.randomElement() }.joined(separator: " ")
      _ = try? YaraParser.rules(Array(text.utf8), variables: [])
    }
  }
}
