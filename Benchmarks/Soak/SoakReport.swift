import Foundation

/// What a soak has shown.
struct SoakReport: Codable, Sendable {
  struct Incident: Codable, Sendable {
    var kind: String
    var seconds: Double
    /// What the agents said about it: warnings, errors, waits.
    var lines: [String]
  }

  var minutes: Double
  var agents: Int
  var incidents: [Incident] = []
  var verdict = SoakLedger.Verdict()
  var endedAgents: [String] = []

  var isClean: Bool { verdict.isClean && endedAgents.isEmpty }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  func text() -> String {
    var lines = ["\(agents) agents, \(Number.text(minutes)) minutes, \(incidents.count) failures"]
    let kinds = Dictionary(grouping: incidents, by: \.kind).sorted { $0.key < $1.key }
    for (kind, all) in kinds {
      let noticed = all.filter { !$0.lines.isEmpty }
      lines.append("  \(kind.padded(to: 26)) \(all.count) times, agents spoke of \(noticed.count)")
      if let example = noticed.last?.lines.first { lines.append("      \(example.prefix(180))") }
    }
    lines += [
      "queries \(verdict.flows), rows \(verdict.rows): \(verdict.missingRows) missing, \(verdict.doubledRows) doubled, "
        + "\(verdict.unfinished.count) unfinished, \(verdict.failed.count) failed",
      "agents that ended: \(endedAgents.isEmpty ? "none" : endedAgents.joined(separator: ", "))",
      isClean ? "clean" : "NOT CLEAN",
    ]
    lines += (verdict.unfinished + verdict.failed).prefix(20).map { "  \($0)" }
    return lines.joined(separator: "\n")
  }
}
