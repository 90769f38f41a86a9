/// Collects the rows of one statement into response parts (flows.md §3). A value; its owner guards it.
struct PartBuilder {
  struct Limits: Equatable {
    var rows: Int
    var bytes: Int
    var wait: Duration
  }

  struct Part: Equatable {
    var number: Int
    var rows: Int
    var columns: [String]
    var jsonl: [UInt8]
  }

  private let limits: Limits
  private var columns: [String] = []
  private var rows = 0
  private var jsonl: [UInt8] = []
  private var nextNumber = 0
  /// When the last part was sent, or the statement began.
  private var since: Instant

  init(limits: Limits, at now: Instant) {
    self.limits = limits
    since = now
  }

  /// - Returns: a part when it is complete.
  mutating func add(_ row: EngineRow, at now: Instant) -> Part? {
    if nextNumber == 0, rows == 0 { columns = row.columns }
    row.appendJSON(&jsonl)
    jsonl.append(UInt8(ascii: "\n"))
    rows += 1
    guard rows >= limits.rows || jsonl.count > limits.bytes else { return due(at: now) }
    return take(at: now)
  }

  /// A part when its rows have waited long enough.
  mutating func due(at now: Instant) -> Part? {
    now - since >= limits.wait ? take(at: now) : nil
  }

  /// What there is; nil without rows.
  mutating func take(at now: Instant) -> Part? {
    guard rows > 0 else { return nil }
    defer {
      rows = 0
      jsonl = []
      nextNumber += 1
      since = now
    }
    return Part(number: nextNumber, rows: rows, columns: columns, jsonl: jsonl)
  }
}

enum ByteCount {
  /// `512 B`, `1.2 kB`, `34 MB`: as the reference writes sizes in log lines.
  static func text(_ count: Int) -> String {
    guard count >= 1000 else { return "\(count) B" }
    var value = Double(count)
    var unit = "B"
    for next in ["kB", "MB", "GB", "TB"] where value >= 1000 {
      value /= 1000
      unit = next
    }
    let tenths = Int((value * 10).rounded())
    return tenths < 100 ? "\(tenths / 10).\(tenths % 10) \(unit)" : "\(Int(value.rounded())) \(unit)"
  }
}
