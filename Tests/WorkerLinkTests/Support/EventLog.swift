import Foundation
import Synchronization

/// What the threads of a link or a server said, and waiting for it.
final class EventLog<Element: Sendable>: Sendable {
  private let entries = Mutex<[Element]>([])
  private let changed = DispatchSemaphore(value: 0)
  private let seconds: Double

  /// - Parameter seconds: how long `wait` waits at most.
  init(seconds: Double = 10) {
    self.seconds = seconds
  }

  func add(_ entry: Element) {
    entries.withLock { $0.append(entry) }
    changed.signal()
  }

  var all: [Element] { entries.withLock { $0 } }

  /// Waits until an entry is there.
  func wait(_ found: (Element) -> Bool) -> Bool {
    let end = DispatchTime.now() + seconds
    while !all.contains(where: found) {
      if changed.wait(timeout: end) == .timedOut { return all.contains(where: found) }
    }
    return true
  }
}
