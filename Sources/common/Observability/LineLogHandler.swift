import Logging

/// A log handler that writes exactly one line per event.
///
/// Control characters of messages and values are escaped, so that nothing a peer sends can forge a line.
package struct LineLogHandler: LogHandler {
  package var metadataProvider: Logger.MetadataProvider?
  package var metadata: Logger.Metadata = [:]
  package var logLevel: Logger.Level

  private let label: String
  private let format: LogFormat
  private let sink: LogSink
  private let now: @Sendable () -> LogTime

  /// - Parameters:
  ///   - label: the logger's label, usually the process name (`frontend-1`).
  ///   - format: text or JSON lines.
  ///   - level: events below it are dropped.
  ///   - sink: where lines go.
  ///   - now: the wall clock; injected by tests.
  package init(
    label: String, format: LogFormat, level: Logger.Level = .info, sink: LogSink = .standardError,
    now: @escaping @Sendable () -> LogTime = { LogTime.now() }
  ) {
    self.label = label
    self.format = format
    self.logLevel = level
    self.sink = sink
    self.now = now
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    var pairs = metadata
    if let provided = metadataProvider?.get() {
      pairs.merge(provided) { _, new in new }
    }
    if let given = event.metadata {
      pairs.merge(given) { _, new in new }
    }
    if let error = event.error {
      pairs["error"] = .string(String(describing: error))
    }
    let line = LogLine(
      time: now(), level: event.level, label: label, message: event.message.description,
      pairs: pairs.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    sink.write(format == .json ? line.json : line.text)
  }
}

/// Process-wide set-up of logging; called once by each `main`.
package enum Logs {
  /// Sends every `Logger` of this process through ``LineLogHandler``.
  ///
  /// - Parameters:
  ///   - format: `--log-format`.
  ///   - level: the least level written.
  package static func bootstrap(format: LogFormat, level: Logger.Level) {
    LoggingSystem.bootstrap { label in
      LineLogHandler(label: label, format: format, level: level)
    }
  }

  /// The level for a count of `-v` flags: none is `info`, one `debug`, two or more `trace`.
  package static func level(verbosity: Int) -> Logger.Level {
    switch verbosity {
    case ..<1: return .info
    case 1: return .debug
    default: return .trace
    }
  }
}
