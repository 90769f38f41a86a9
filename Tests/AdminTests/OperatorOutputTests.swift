import Foundation
import XCTest

@testable import microraptor

/// What operators see: tables that fit, rows that stay as they are, text that cannot steer a terminal.
final class OperatorOutputTests: XCTestCase {
  private func printed(
    _ format: RowFormat, width: Int? = nil, source: (column: String, value: String)? = nil, _ batches: [String]...
  ) -> String {
    let result = Box()
    var printer = RowPrinter(format, width: width) { result.text += $0 }
    for batch in batches { printer.print(batch, source: source) }
    return result.text
  }

  private final class Box {
    var text = ""
  }

  func testJSONLIsTheStoredText() {
    let lines = [#"{"b" : 1.0,"a":"\u00e4"}"#, #"{}"#]
    XCTAssertEqual(printed(.jsonl, lines), lines.joined(separator: "\n") + "\n")
  }

  func testJSONLOfSeveralClientsBeginsWithTheClient() {
    XCTAssertEqual(
      printed(.jsonl, source: ("Client", "a\"b"), [#"{"x":[1, 2]}"#]), #"{"Client":"a\"b","x":[1, 2]}"# + "\n")
  }

  func testTableKeepsTheOrderOfColumnsAndBeginsAnewWithNewOnes() {
    let text = printed(
      .table, [#"{"Pid":1,"Name":"init"}"#, #"{"Pid":20,"Name":null}"#], [#"{"Pid":300,"Name":"x"}"#],
      [#"{"Pid":4,"Extra":{"a":[1,2]}}"#])
    XCTAssertEqual(
      text,
      """
      Pid  Name
      ---  ----
      1    init
      20
      300  x

      Pid  Extra
      ---  -----------
      4    {"a":[1,2]}

      """)
  }

  func testRowsOfSeveralSourcesAreToldApart() {
    func printed(_ format: RowFormat) -> String {
      let result = Box()
      var printer = RowPrinter(format, width: nil) { result.text += $0 }
      printer.print([#"{"a":1}"#], section: "A/One")
      printer.print([#"{"a":2}"#], section: "A/One")
      printer.print([#"{"b":3}"#], section: "A/Two")
      return result.text
    }
    XCTAssertEqual(printed(.table), "A/One\na\n-\n1\n2\n\nA/Two\nb\n-\n3\n")
    XCTAssertEqual(
      printed(.jsonl),
      #"{"_Artifact":"A/One","a":1}"# + "\n" + #"{"_Artifact":"A/One","a":2}"# + "\n" + #"{"_Artifact":"A/Two","b":3}"#
        + "\n"
    )
    XCTAssertEqual(printed(.csv), "_Artifact,a\r\nA/One,1\r\nA/One,2\r\n\r\n_Artifact,b\r\nA/Two,3\r\n")
  }

  func testTablesFitTheTerminal() {
    let wide = String(repeating: "wide ", count: 40)
    let text = printed(.table, width: 40, [#"{"Name":"short","Text":"\#(wide)","Other":"\#(wide)"}"#])
    for line in text.split(separator: "\n") {
      XCTAssertLessThanOrEqual(Terminal.columns(String(line)), 40, String(line))
    }
    XCTAssertTrue(text.contains("short"))
    XCTAssertTrue(text.contains("…"))
  }

  func testWideCharactersCountTwice() {
    XCTAssertEqual(Terminal.columns("日本"), 4)
    XCTAssertEqual(TableLayout.cut("日本語", to: 4), "日…")
  }

  func testCSV() {
    let text = printed(.csv, [#"{"a":"x,y","b":"say \"hi\"","c":{"k":1}}"#], [#"{"c":true,"a":"l1\nl2"}"#])
    XCTAssertEqual(text, "a,b,c\r\n\"x,y\",\"say \"\"hi\"\"\",\"{\"\"k\"\":1}\"\r\n\"l1\nl2\",,true\r\n")
  }

  func testControlCharactersAreShownNotSent() {
    let text = printed(.table, ["{\"a\\u001b[2J\":\"\\u001b]0;x\\u0007\\u202e\"}"])
    XCTAssertFalse(text.unicodeScalars.contains("\u{1B}"))
    XCTAssertFalse(text.unicodeScalars.contains("\u{202E}"))
    XCTAssertTrue(text.contains("\\x1b]0;x\\x7"))
  }

  func testRowsThatAreNoObjectsAreStillShown() {
    XCTAssertEqual(printed(.table, ["[1]"]), "_row\n----\n[1]\n")
  }

  func testMembersKeepTheirText() {
    let row = JSONRow(#" { "a" : 1.50 , "b":{"x":"}"},"c":"\"","d":[ "]" ] ,"e":null}"#)
    XCTAssertEqual(row?.members.map(\.key), ["a", "b", "c", "d", "e"])
    XCTAssertEqual(row?.members.map(\.value), ["1.50", #"{"x":"}"}"#, #""\"""#, #"[ "]" ]"#, "null"])
    for bad in ["", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1", "[1]", "{\"a\":\"", "{a:1}"] {
      XCTAssertNil(JSONRow(bad), bad)
    }
    XCTAssertEqual(JSONRow("{}")?.members, [])
  }

  func testRandomRowsAreNeverAFault() {
    let alphabet = Array("{}[]\",:\\ an1".unicodeScalars)
    for _ in 0..<5_000 {
      let scalars = (0..<Int.random(in: 0...30)).compactMap { _ in alphabet.randomElement() }
      _ = JSONRow(String(String.UnicodeScalarView(scalars)))
    }
  }

  func testLogLines() {
    let jsonl =
      #"{"client_time":0,"level":"ERROR","message":"no\nway"}"# + "\n" + #"{"level":"INFO","message":"x"}"# + "\n"
    XCTAssertEqual(LogText.lines(jsonl).first, "1970-01-01T00:00:00Z ERROR no\\nway")
    XCTAssertEqual(LogText.errors(jsonl), ["no\\nway"])
  }
}
