import Foundation
import Synchronization

/// What a started process writes, line by line, while it runs.
package final class ProcessOutput: Sendable {
  private struct State {
    var lines: [String] = []
    var rest = ""
    var ended = false
  }

  private let state = Mutex(State())
  private let condition = NSCondition()
  private let kept: Int

  /// - Parameter kept: about how many of the last lines are kept.
  package init(keeping kept: Int = .max) {
    self.kept = kept
  }

  /// The lines so far.
  package var lines: [String] { state.withLock { $0.lines } }

  /// Reads until the end, on a thread of its own: a dispatch source on a pipe that ends now and then takes the whole
  /// process with it when many processes are killed.
  package func follow(_ handle: FileHandle) {
    Thread.detachNewThread { [self] in
      while true {
        let data = handle.availableData
        take(data)
        if data.isEmpty { return }
      }
    }
  }

  private func take(_ data: Data) {
    condition.lock()
    state.withLock { state in
      if data.isEmpty { state.ended = true }
      let parts = (state.rest + String(decoding: data, as: UTF8.self)).split(
        separator: "\n", omittingEmptySubsequences: false)
      state.lines += parts.dropLast().map(String.init)
      if state.lines.count > kept { state.lines.removeFirst(kept / 2) }
      state.rest = parts.last.map(String.init) ?? ""
    }
    condition.broadcast()
    condition.unlock()
  }

  /// Waits until a line holds the text.
  ///
  /// - Returns: the line; nil when the time is over or the process has ended without it.
  package func wait(for text: String, seconds: Double) -> String? {
    let end = Date(timeIntervalSinceNow: seconds)
    condition.lock()
    defer { condition.unlock() }
    while true {
      let (found, ended) = state.withLock { state in (state.lines.first { $0.contains(text) }, state.ended) }
      if let found { return found }
      if ended || !condition.wait(until: end) { return nil }
    }
  }
}
