import VQL
import Wire

/// Which log lines are errors although their level says otherwise (flows.md §4).
package struct ErrorPattern: Sendable {
  private let expression: LinearExpression?

  static let standard =
    "(?i)(Error:|Symbol.+?not found|Expecting a path arg type, not|Field.+?is required|Unexpected arg)"

  /// - Parameter pattern: empty, or one that cannot be compiled: the standard one.
  package init(_ pattern: String = "") {
    let chosen = pattern.isEmpty ? nil : try? LinearExpression(pattern)
    expression = chosen ?? (try? LinearExpression(Self.standard))
  }

  func matches(_ text: String) -> Bool {
    expression?.matches(text) ?? false
  }
}

/// Collects the log lines of a flow into messages (flows.md §4). A value; its owner guards it.
struct LogBatch {
  /// What one line means.
  enum Added: Equatable {
    case line
    /// The line's message: it becomes the collector's error.
    case error(String)
    /// To be sent at once, alone.
    case alert(Proto_LogMessage)
    /// Over the limit.
    case dropped
  }

  static let levels: Set<String> = ["DEFAULT", "ERROR", "INFO", "WARN", "DEBUG", "ALERT"]
  static let limitText = "Log Limit Exceeded - suppressing further logs"
  /// A batch larger than this is sent before its time.
  static let largeBatch = 256 << 10

  private let limit: Int
  private let pattern: ErrorPattern
  private let artifact: String
  private var pending = ""
  private var pendingRows = 0
  private var firstPending = 0
  /// Lines so far, sent or not.
  private(set) var total = 0

  init(limit: UInt64, pattern: ErrorPattern, artifact: String = "") {
    self.limit = limit == 0 ? 100_000 : Int(clamping: limit)
    self.pattern = pattern
    self.artifact = artifact
  }

  var isLarge: Bool { pending.utf8.count > Self.largeBatch }

  /// - Parameters:
  ///   - text: `LEVEL:message`, or a message of level DEFAULT.
  ///   - seconds: Unix time.
  mutating func add(_ text: String, at seconds: UInt64) -> Added {
    var (level, message) = Self.split(text)
    if level != "ERROR", pattern.matches(message) { level = "ERROR" }
    guard total < limit else {
      if total == limit { append("DEFAULT", Self.limitText, seconds) }
      // An error counts even when nobody may read the line.
      return level == "ERROR" ? .error(message) : .dropped
    }
    if level == "ALERT" {
      defer { total += 1 }
      return .alert(self.message(id: total, rows: 1, level: level, Self.line(level, message, seconds)))
    }
    append(level, message, seconds)
    return level == "ERROR" ? .error(message) : .line
  }

  private mutating func append(_ level: String, _ message: String, _ seconds: UInt64) {
    if pendingRows == 0 { firstPending = total }
    pending += Self.line(level, message, seconds)
    pendingRows += 1
    total += 1
  }

  /// The lines since the last time; nil when there are none.
  mutating func drain() -> Proto_LogMessage? {
    guard pendingRows > 0 else { return nil }
    defer {
      pending = ""
      pendingRows = 0
    }
    return message(id: firstPending, rows: pendingRows, level: "", pending)
  }

  private func message(id: Int, rows: Int, level: String, _ jsonl: String) -> Proto_LogMessage {
    var message = Proto_LogMessage()
    message.id = Int64(id)
    message.numberOfRows = UInt64(rows)
    message.jsonl = jsonl
    message.level = level
    message.artifact = artifact
    return message
  }

  static func split(_ text: String) -> (level: String, message: String) {
    guard let colon = text.prefix(9).firstIndex(of: ":") else { return ("DEFAULT", text) }
    let level = text[..<colon].uppercased()
    guard levels.contains(level) else { return ("DEFAULT", text) }
    return (level, String(text[text.index(after: colon)...]))
  }

  static func line(_ level: String, _ message: String, _ seconds: UInt64) -> String {
    "{\"client_time\":\(seconds),\"level\":\"\(level)\",\"message\":\(JSONText.quote(message))}\n"
  }
}
