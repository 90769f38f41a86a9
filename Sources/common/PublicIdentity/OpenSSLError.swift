import CLibCrypto

/// A call of libcrypto that failed. The text is for logs: it names the step, never key material.
package struct OpenSSLError: Error, Sendable, CustomStringConvertible {
  /// The step that failed.
  package let step: String
  /// libcrypto's own reason, when it gave one.
  package let reason: String

  package var description: String { reason.isEmpty ? step : "\(step): \(reason)" }

  /// Takes the newest entry of this thread's error queue and empties the queue.
  package init(_ step: String) {
    self.step = step
    let code = ERR_peek_last_error()
    ERR_clear_error()
    reason = code == 0 ? "" : ERR_reason_error_string(code).map { String(cString: $0) } ?? ""
  }
}
