/// How log lines are written (`--log-format`).
package enum LogFormat: String, CaseIterable, Sendable {
  /// Time, level, label, message, `key=value` pairs.
  case text
  /// One JSON object per line.
  case json
}
