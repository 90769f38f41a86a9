import Glibc
import Synchronization

/// A place that takes whole lines; lines of several threads are never mixed.
package final class LogSink: Sendable {
  private let output: Mutex<@Sendable (String) -> Void>

  package init(_ output: @escaping @Sendable (String) -> Void) {
    self.output = Mutex(output)
  }

  /// File descriptor 2, written without buffering.
  package static let standardError = LogSink { line in
    var rest = Array(line.utf8)[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
      if written > 0 {
        rest = rest.dropFirst(written)
      } else if errno != EINTR {
        return
      }
    }
  }

  /// Writes one line, which ends in a line feed.
  package func write(_ line: String) {
    output.withLock { $0(line) }
  }
}
