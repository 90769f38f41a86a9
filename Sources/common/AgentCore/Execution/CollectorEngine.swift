import Wire

/// What runs queries, as far as the executor is concerned. The VQL engine stands behind it in `QueryRunner`; tests put
/// their own there.
package protocol CollectorEngine: Sendable {
  /// - Throws: when an artifact that came with the request cannot be compiled.
  func makeSession(_ request: EngineRequest) throws -> any EngineSession
}

/// One collector's scope: its statements run in it one after the other, on one thread.
package protocol EngineSession: AnyObject, Sendable {
  /// Runs the statements of a text; `sink` returns false when it wants no more rows.
  func run(_ text: String, sink: (EngineRow) throws -> Bool) throws
  /// Makes `run` end soon. May be called from any thread.
  func cancel(reason: String)
  /// Ends the scope and runs its destructors.
  func close()
}

/// A row as the executor needs it.
package struct EngineRow {
  package var columns: [String]
  /// Appends the row as one JSON object, without a line feed.
  package var appendJSON: (inout [UInt8]) -> Void

  package init(columns: [String], appendJSON: @escaping (inout [UInt8]) -> Void) {
    self.columns = columns
    self.appendJSON = appendJSON
  }
}

/// What a collector asks of the engine.
package struct EngineRequest: Sendable {
  package var sessionID: String
  package var environment: [(key: String, value: String)] = []
  package var artifacts: [Proto_Artifact] = []
  /// `LEVEL:text`.
  package var log: @Sendable (String) -> Void
  /// Called at each operation: a row that was read, a file that was opened.
  package var operation: @Sendable () -> Void
  package var uploads: (any UploadTarget)?

  package init(
    sessionID: String, log: @escaping @Sendable (String) -> Void, operation: @escaping @Sendable () -> Void
  ) {
    self.sessionID = sessionID
    self.log = log
    self.operation = operation
  }
}
