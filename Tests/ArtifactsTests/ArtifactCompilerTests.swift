import VQL
import Wire
import XCTest

@testable import Artifacts

/// What an artifact becomes (vql/flows.md §6).
final class ArtifactCompilerTests: XCTestCase {
  private func compile(
    _ name: String, _ parameters: [String: String] = [:], _ definitions: String...
  ) throws -> [Proto_VQLCollectorArgs] {
    var library = ArtifactLibrary()
    for text in definitions { library.add(try VQLArtifact(yaml: text)) }
    return try ArtifactCompiler(library).collectors(of: name, parameters: parameters)
  }

  private func assertThrows(
    _ code: ArtifactError.Code, naming text: String, _ body: () throws -> Void, line: UInt = #line
  ) {
    XCTAssertThrowsError(try body(), line: line) { error in
      XCTAssertEqual((error as? ArtifactError)?.code, code, line: line)
      XCTAssertTrue("\(error)".contains(text), "\(error)", line: line)
    }
  }

  func testPreambleEnvironmentAndNames() throws {
    let collectors = try compile(
      "A.B", ["Most": "7"],
      """
      name: A.B
      precondition: SELECT OS FROM info() WHERE OS = 'linux'
      export: LET Two = 2
      resources: {timeout: 30, max_batch_rows: 50, cpu_limit: 20}
      parameters:
        - {name: Most, type: int, default: "3"}
        - {name: Deep, type: bool}
        - {name: a-b, default: text}
      sources:
        - name: First
          query: |
            -- a comment
            LET X = SELECT * FROM range(end=Most)
            SELECT _value FROM X
        - query: SELECT Two FROM scope()
      """)
    XCTAssertEqual(collectors.count, 1)
    let collector = try XCTUnwrap(collectors.first)
    XCTAssertEqual(
      collector.query.map(\.vql),
      [
        "LET Most <= int(int=Most)",
        "LET Deep <= get(field='Deep') = TRUE OR get(field='Deep') =~ '^(Y|TRUE|YES|OK)$'",
        "LET Two = 2", "LET X = SELECT * FROM range(end=Most)", "SELECT _value FROM X", "SELECT Two FROM scope()",
      ])
    XCTAssertEqual(collector.query.map(\.name), ["", "", "", "", "A.B/First", "A.B"])
    XCTAssertEqual(collector.env.map { "\($0.key)=\($0.value)" }, ["Most=7", "Deep=", "a-b=text"])
    XCTAssertTrue(collector.precondition.hasPrefix("LET Most <= int(int=Most)\n"))
    XCTAssertTrue(collector.precondition.hasSuffix("\nSELECT OS FROM info() WHERE OS = 'linux'"))
    XCTAssertEqual(collector.timeout, 30)
    XCTAssertEqual(collector.maxRow, 50)
    XCTAssertEqual(collector.cpuLimit, 20)
  }

  func testSourcesWithPreconditionsRunApart() throws {
    let text = """
      name: A
      %
      sources:
        - {name: L, precondition: SELECT 1 FROM scope(), query: SELECT 2 FROM scope()}
        - {name: W, query: SELECT 3 FROM scope()}
      """
    let apart = try compile("A", [:], text.replacing("%", with: "type: CLIENT"))
    XCTAssertEqual(apart.map { $0.query.map(\.name) }, [["A/L"], ["A/W"]])
    XCTAssertEqual(apart.map(\.precondition), ["SELECT 1 FROM scope()", ""])
    // With a precondition of the artifact they run together, and only that one counts.
    let together = try compile("A", [:], text.replacing("%", with: "precondition: SELECT 9 FROM scope()"))
    XCTAssertEqual(together.map { $0.query.map(\.name) }, [["A/L", "A/W"]])
    XCTAssertEqual(together.map(\.precondition), ["SELECT 9 FROM scope()"])
  }

  func testEventSourcesRunApartWithTheirOwnPrecondition() throws {
    let collectors = try compile(
      "E", [:],
      """
      name: E
      type: CLIENT_EVENT
      precondition: SELECT 9 FROM scope()
      sources:
        - {name: One, precondition: SELECT 1 FROM scope(), query: SELECT * FROM clock()}
        - {name: Two, query: SELECT * FROM clock()}
      """)
    XCTAssertEqual(collectors.map { $0.query.map(\.name) }, [["E/One"], ["E/Two"]])
    XCTAssertEqual(collectors.map(\.precondition), ["SELECT 1 FROM scope()", "SELECT 9 FROM scope()"])
    XCTAssertEqual(collectors.map(\.maxWait), [0, 0], "the server chooses when it gives the table out")
  }

  func testDefinitionsOfCallsTravelAlong() throws {
    let collectors = try compile(
      "Top", [:],
      """
      name: Top
      imports: [Shared]
      sources: [{query: "SELECT * FROM Artifact.Custom.Middle(x=1)"}]
      """,
      """
      name: Custom.Middle
      description: not sent
      parameters: [{name: x, type: int, default: 4, description: not sent}]
      sources: [{query: "LET Y = 1 SELECT * FROM Artifact.Leaf()"}]
      """,
      """
      name: Leaf
      imports: [Shared]
      sources: [{query: "SELECT * FROM Artifact.Custom.Middle(x=2)"}]
      """,
      """
      name: Shared
      export: LET Common = 1
      sources: [{query: "SELECT 1 FROM scope()"}]
      """)
    let collector = try XCTUnwrap(collectors.first)
    XCTAssertEqual(collector.query.map(\.vql), ["LET Common = 1", "SELECT * FROM Artifact.Custom.Middle(x=1)"])
    XCTAssertEqual(collector.artifacts.map(\.name), ["Custom.Middle", "Leaf", "Shared"])
    let middle = try XCTUnwrap(collector.artifacts.first)
    XCTAssertEqual(middle.description_p, "")
    XCTAssertEqual(middle.parameters.map(\.default), ["4"])
    XCTAssertEqual(middle.sources.map(\.queries), [["LET Y = 1", "SELECT * FROM Artifact.Leaf()"]])
    XCTAssertEqual(middle.sources.map(\.query), [""])
  }

  func testErrorsNameWhatExists() throws {
    let text = """
      name: Linux.Thing
      parameters: [{name: Deep}, {name: Wide}]
      sources: [{query: "SELECT 1 FROM scope()"}]
      """
    assertThrows(.unknownArtifact, naming: "Linux.Thing") { _ = try compile("Linux.Think", [:], text) }
    assertThrows(.unknownParameter, naming: "Deep, Wide") { _ = try compile("Linux.Thing", ["deep": "1"], text) }
    assertThrows(.malformed, naming: "Broken does not parse") {
      _ = try compile("Broken", [:], "name: Broken\nsources: [{query: SELEC}]")
    }
    assertThrows(.malformed, naming: "no sources") { _ = try compile("Empty", [:], "name: Empty") }
    assertThrows(.unknownArtifact, naming: "needs No.Such") {
      _ = try compile("Calls", [:], "name: Calls\nsources: [{query: 'SELECT * FROM Artifact.No.Such()'}]")
    }
  }
}
