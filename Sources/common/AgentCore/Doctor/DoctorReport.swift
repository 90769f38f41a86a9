import FoundationEssentials

/// What `agent doctor` found.
package struct DoctorReport: Codable, Equatable, Sendable {
  /// One thing that was looked at.
  package struct Line: Codable, Equatable, Sendable {
    /// `dns`, `connection`, `tls`, `clock`, `server.pem`, `identity`, `round-trip`, `proxy`.
    package var check: String
    /// The URL or file it is about.
    package var subject: String
    package var passed: Bool
    package var detail: String
    /// What to do about it; empty when passed.
    package var remedy: String
  }

  package private(set) var lines: [Line] = []

  package var passed: Bool { !lines.isEmpty && lines.allSatisfy(\.passed) }

  mutating func pass(_ check: String, _ subject: String, _ detail: String) {
    lines.append(Line(check: check, subject: subject, passed: true, detail: detail, remedy: ""))
  }

  mutating func fail(_ check: String, _ subject: String, _ detail: String, remedy: String) {
    lines.append(Line(check: check, subject: subject, passed: false, detail: detail, remedy: remedy))
  }

  /// For people.
  package var text: String {
    lines.map { line in
      let head = "\(line.passed ? "passed" : "FAILED")  \(line.check)  \(line.subject): \(line.detail)\n"
      return line.passed ? head : head + "        remedy: \(line.remedy)\n"
    }.joined()
  }

  /// For programs.
  package var json: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    struct Whole: Encodable {
      var passed: Bool
      var lines: [Line]
    }
    guard let data = try? encoder.encode(Whole(passed: passed, lines: lines)) else { return "{}\n" }
    return String(decoding: data, as: UTF8.self) + "\n"
  }
}
