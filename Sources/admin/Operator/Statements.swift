import VQL

/// The statements of a VQL text; one `VQLRequest` each.
enum Statements {
  /// - Throws: `CommandFailure` with the position and the reason when the text does not parse.
  static func split(_ text: String) throws -> [String] {
    let statements: [String]
    do throws(VQLError) {
      statements = try VQLParser.split(text)
    } catch {
      throw CommandFailure(.usage, "the query does not parse: \(error)")
    }
    guard !statements.isEmpty else { throw CommandFailure(.usage, "the query is empty") }
    return statements
  }
}
