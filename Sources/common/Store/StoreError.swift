/// Why the store could not do what was asked. Equal by code; the text names the remedy.
package struct StoreError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Sendable {
    /// Locked by somebody else, or more waits than the store takes: try again.
    case busy
    case full
    case readOnly
    case corrupt
    /// The schema was written by a newer version of this software.
    case newerSchema
    /// Not there, cannot be opened, lost, or closed.
    case unavailable
    case notFound
    /// The caller's values cannot be stored.
    case invalid
    case internalError
  }

  package var code: Code
  package var message: String
  package var file: String
  package var line: UInt

  package init(_ code: Code, _ message: String, file: String = #fileID, line: UInt = #line) {
    self.code = code
    self.message = message
    self.file = file
    self.line = line
  }

  /// Whether the same call may succeed later without anybody's help or after an administrator freed the resource; a
  /// frontend answers 503 and the agent keeps its data.
  package var isTransient: Bool {
    switch code {
    case .busy, .full, .readOnly, .unavailable: true
    case .corrupt, .newerSchema, .notFound, .invalid, .internalError: false
    }
  }

  package static func == (left: StoreError, right: StoreError) -> Bool { left.code == right.code }

  package var description: String { "\(message) [\(code.rawValue)]" }
}

/// What `Store.health()` found.
package enum StoreHealth: Sendable, Equatable {
  case healthy
  case unhealthy(StoreError)
}
