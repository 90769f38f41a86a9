import Foundation

/// One thing that is measured; gives one or more figures.
struct Benchmark: Sendable {
  let name: String
  let abstract: String
  let run: @Sendable (Settings) async throws -> [Figure]
}

/// A reason why something could not be measured.
struct Trouble: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// What a figure has to reach.
enum Goal: Sendable {
  case atLeast(Double)
  case atMost(Double)
  /// Value divided by the limit of the same run.
  case ratioAtLeast(Double)
  case ratioAtMost(Double)
  /// Shown, and neither met nor missed.
  case none

  var text: String {
    switch self {
    case .atLeast(let value): "≥ \(Number.text(value))"
    case .atMost(let value): "≤ \(Number.text(value))"
    case .ratioAtLeast(let value): "ratio ≥ \(Number.text(value))"
    case .ratioAtMost(let value): "ratio ≤ \(Number.text(value))"
    case .none: "–"
    }
  }

  func isMet(_ value: Double, ratio: Double?) -> Bool? {
    switch self {
    case .atLeast(let least): value >= least
    case .atMost(let most): value <= most
    case .ratioAtLeast(let least): (ratio ?? 0) >= least
    case .ratioAtMost(let most): (ratio ?? .infinity) <= most
    case .none: nil
    }
  }
}

/// A measured value beside its limit and target.
struct Figure: Codable, Sendable {
  var name: String
  var value: Double?
  var unit: String
  /// What the machine can do at most, measured in this run.
  var limit: Double?
  var limitName: String?
  var ratio: Double?
  var target: String
  /// Nil when the figure has no target; a figure that could not be measured is not met.
  var met: Bool?
  var note: String?

  init(
    _ name: String, _ value: Double, _ unit: String, limit: (name: String, value: Double)? = nil, goal: Goal = .none,
    note: String? = nil
  ) {
    self.name = name
    self.value = value
    self.unit = unit
    self.limit = limit?.value
    limitName = limit?.name
    ratio = limit.map { $0.value > 0 ? value / $0.value : 0 }
    target = goal.text
    met = goal.isMet(value, ratio: ratio)
    self.note = note
  }

  static func failed(_ name: String, _ reason: String, goal: Goal = .none) -> Figure {
    var figure = Figure(name, 0, "", note: reason)
    figure.value = nil
    figure.target = goal.text
    figure.met = false
    return figure
  }
}

enum Report {
  static func json(_ figures: [Figure]) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(figures), as: UTF8.self)
  }

  static func table(_ figures: [Figure]) -> String {
    var lines = ["| Figure | Value | Limit, same run | Ratio | Target | Met |", "|---|---|---|---|---|---|"]
    for figure in figures {
      let value = figure.value.map { "\(Number.text($0)) \(figure.unit)" } ?? "–"
      let limit = figure.limit.map { "\(Number.text($0)) (\(figure.limitName ?? ""))" } ?? "–"
      let ratio = figure.ratio.map { String(format: "%.2f", $0) } ?? "–"
      let met = figure.met.map { $0 ? "yes" : "**no**" } ?? "–"
      let name = figure.note.map { "\(figure.name) – \($0)" } ?? figure.name
      lines.append("| \(name) | \(value) | \(limit) | \(ratio) | \(figure.target) | \(met) |")
    }
    let counted = figures.compactMap(\.met)
    let met = counted.filter { $0 }.count
    return lines.joined(separator: "\n") + "\n\n\(met) of \(counted.count) figures with a target are met.\n"
  }
}

enum Number {
  /// Three significant digits, with separators for thousands.
  static func text(_ value: Double) -> String {
    guard value.isFinite else { return "∞" }
    if abs(value) >= 1000 { return grouped(Int(value.rounded())) }
    if abs(value) >= 100 || value == value.rounded() { return String(format: "%.0f", value) }
    return abs(value) >= 10 ? String(format: "%.1f", value) : String(format: "%.2f", value)
  }

  private static func grouped(_ value: Int) -> String {
    var digits = Array(String(abs(value)))
    var position = digits.count - 3
    while position > 0 {
      digits.insert(",", at: position)
      position -= 3
    }
    return (value < 0 ? "-" : "") + String(digits)
  }
}

extension String {
  func padded(to width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
