/// What went wrong in the agent, as a code that callers compare and a text that an operator reads.
///
/// Equality looks at the code only, so that details can be added without breaking a caller.
package struct AgentError: Error, Equatable, Sendable, CustomStringConvertible {
  package enum Code: String, Sendable {
    /// The configuration asks for something this agent cannot do, or lacks something it needs.
    case configuration
    /// The state file or the queue file cannot be read or written.
    case state
    /// No connection, or one that ended before its answer was complete.
    case connection
    /// server.pem is not the certificate of our server (crypto.md §4).
    case serverCertificate
    /// A TLS certificate was refused (http.md §8).
    case tls
    /// A flow request cannot be run.
    case request
    /// The agent is stopping.
    case stopping
  }

  package let code: Code
  package let message: String

  package init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  package var description: String { message }

  package static func == (left: AgentError, right: AgentError) -> Bool { left.code == right.code }
}
