import Glibc

/// Text for people on the standard streams; log lines go through the log.
package enum StandardStream {
  case output
  case error

  /// Writes and flushes; what cannot be written (a closed pipe) is dropped.
  package func write(_ text: String) {
    let descriptor: Int32 = self == .output ? STDOUT_FILENO : STDERR_FILENO
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { return }
      rest = rest.dropFirst(written)
    }
  }
}
