import ArgumentParser
import Foundation

/// `--format` of commands that print rows.
enum RowFormat: String, ExpressibleByArgument, CaseIterable {
  case table
  case jsonl
  case csv
}

/// Prints rows in batches as they come.
///
/// JSONL is the stored text. A table takes its columns and their widths from the batch that first shows them, and
/// begins anew when a row has another column. CSV (RFC 4180) has the columns of the first batch. Where rows of several
/// artifacts or sources follow each other, tables have their name as a heading, and rows of the other formats have it in
/// the column `_Artifact`.
struct RowPrinter {
  private let format: RowFormat
  private let width: Int?
  private let output: (String) -> Void
  private var columns: [String] = []
  private var widths: [Int] = []
  private var hasWarned = false
  private var section: String?
  private(set) var count = 0

  init(_ format: RowFormat, width: Int? = Terminal.width, output: @escaping (String) -> Void = Terminal.print) {
    self.format = format
    self.width = width
    self.output = output
  }

  /// - Parameters:
  ///   - lines: JSON objects, one each.
  ///   - source: put before the columns, when rows of several clients are mixed.
  ///   - section: the artifact or source of these rows, when there may be several.
  mutating func print(
    _ lines: [String], source: (column: String, value: String)? = nil, section: String? = nil
  ) {
    guard !lines.isEmpty else { return }
    if let section, section != self.section { begin(section) }
    count += lines.count
    if format == .jsonl, source == nil, section == nil {
      output(lines.joined(separator: "\n") + "\n")
      return
    }
    let rows = lines.map { line in
      var row = JSONRow(line) ?? JSONRow(members: [JSONRow.Member(key: "_row", value: line)])
      if let section, format != .table {
        row.members.insert(.init(key: "_Artifact", value: JSONText.quoted(section)), at: 0)
      }
      if let source { row.members.insert(.init(key: source.column, value: JSONText.quoted(source.value)), at: 0) }
      return row
    }
    switch format {
    case .jsonl: output(rows.map(JSONText.object).joined(separator: "\n") + "\n")
    case .table: table(rows)
    case .csv: csv(rows)
    }
  }

  private mutating func begin(_ section: String) {
    self.section = section
    columns = []
    if format != .jsonl, count > 0 { output(format == .csv ? "\r\n" : "\n") }
    if format == .table { output(Terminal.printable(section) + "\n") }
  }

  private static func columns(of rows: [JSONRow]) -> [String] {
    var seen: Set<String> = []
    return rows.flatMap(\.members).map(\.key).filter { seen.insert($0).inserted }
  }

  private static func cells(_ row: JSONRow, _ columns: [String]) -> [String] {
    let values = Dictionary(row.members.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
    return columns.map { values[$0].map(JSONRow.display) ?? "" }
  }

  private mutating func table(_ rows: [JSONRow]) {
    let present = Self.columns(of: rows)
    let isNew = !Set(present).isSubset(of: columns)
    if isNew {
      if !columns.isEmpty { output("\n") }
      columns = present
    }
    let cells = rows.map { Self.cells($0, columns).map(Terminal.printable) }
    if isNew {
      let header = columns.map(Terminal.printable)
      widths = TableLayout.widths([header] + cells, within: width)
      output(TableLayout.line(header, widths) + "\n")
      output(TableLayout.line(widths.map { String(repeating: "-", count: $0) }, widths) + "\n")
    }
    output(cells.map { TableLayout.line($0, widths) + "\n" }.joined())
  }

  private mutating func csv(_ rows: [JSONRow]) {
    let present = Self.columns(of: rows)
    if columns.isEmpty {
      columns = present
      output(columns.map(Self.csvCell).joined(separator: ",") + "\r\n")
    } else if !hasWarned, !Set(present).isSubset(of: columns) {
      hasWarned = true
      let extra = present.filter { !columns.contains($0) }.joined(separator: ", ")
      Terminal.note("microraptor: later rows have more columns (\(extra)); use --format jsonl to see them")
    }
    output(rows.map { Self.cells($0, columns).map(Self.csvCell).joined(separator: ",") + "\r\n" }.joined())
  }

  static func csvCell(_ text: String) -> String {
    let needsQuotes = text.utf8.contains { [0x22, 0x2C, 0x0A, 0x0D].contains($0) }
    guard needsQuotes || text.first == " " || text.last == " " else { return text }
    return "\"" + text.replacingOccurrences(of: "\"", with: "\"\"") + "\""
  }
}

/// Widths and lines of a text table.
enum TableLayout {
  private static let gap = 2
  private static let least = 4

  /// The width of each column: its widest cell; when the sum is too wide, the widest columns give way.
  static func widths(_ rows: [[String]], within limit: Int?) -> [Int] {
    var widths = rows.first.map { Array(repeating: 0, count: $0.count) } ?? []
    for row in rows {
      for (index, cell) in row.enumerated() where index < widths.count {
        widths[index] = max(widths[index], Terminal.columns(cell))
      }
    }
    guard let limit else { return widths }
    var excess = widths.reduce(0, +) + gap * max(0, widths.count - 1) - limit
    while excess > 0, let index = widths.indices.max(by: { widths[$0] < widths[$1] }), widths[index] > least {
      // Down to the next widest, or as far as needed.
      let next = widths.enumerated().filter { $0.offset != index }.map(\.element).max() ?? least
      let cut = min(excess, max(1, widths[index] - max(next, least)))
      widths[index] -= cut
      excess -= cut
    }
    return widths
  }

  static func line(_ cells: [String], _ widths: [Int]) -> String {
    var result = ""
    for (cell, width) in zip(cells, widths) {
      let shown = cut(cell, to: width)
      result += shown + String(repeating: " ", count: max(0, width - Terminal.columns(shown)) + gap)
    }
    while result.last == " " { result.removeLast() }
    return result
  }

  static func cut(_ text: String, to width: Int) -> String {
    guard Terminal.columns(text) > width else { return text }
    var result = ""
    var used = 1
    for character in text {
      used += Terminal.columns(character)
      if used > width { break }
      result.append(character)
    }
    return width > 0 ? result + "…" : ""
  }

  /// A whole table with a header, for short lists.
  static func table(_ header: [String], _ rows: [[String]], within limit: Int? = Terminal.width) -> String {
    let safe = rows.map { $0.map(Terminal.printable) }
    let widths = widths([header] + safe, within: limit)
    return ([header] + safe).map { line($0, widths) + "\n" }.joined()
  }
}

/// Writing small JSON.
enum JSONText {
  static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case let control where control.value < 0x20:
        let hex = String(control.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  static func object(_ row: JSONRow) -> String {
    "{" + row.members.map { quoted($0.key) + ":" + $0.value }.joined(separator: ",") + "}"
  }
}
