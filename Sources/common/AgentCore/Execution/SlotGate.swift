/// The places of flows that are not urgent (`Client.concurrency`), first come, first served.
///
/// `@unchecked Sendable`: state is used under `condition` only.
final class SlotGate: @unchecked Sendable {
  private let condition = ThreadCondition()
  private let places: Int
  private var holders: Set<String> = []
  private var waiting: [String] = []

  init(places: Int) {
    self.places = max(1, places)
  }

  /// Takes a place in the line, so that flows run in the order in which they came.
  func join(_ id: String) {
    condition.lock()
    defer { condition.unlock() }
    if !waiting.contains(id) { waiting.append(id) }
  }

  /// Waits for a place, at most that many seconds. One who waits again keeps the place in the line.
  func acquire(_ id: String, atMost seconds: Double) -> Bool {
    condition.lock()
    defer { condition.unlock() }
    if !waiting.contains(id) { waiting.append(id) }
    let deadline = ThreadCondition.Deadline(after: seconds)
    while holders.count >= places || waiting.first != id {
      guard condition.wait(until: deadline) else { return false }
    }
    waiting.removeFirst()
    holders.insert(id)
    condition.broadcast()
    return true
  }

  /// Gives the place back, or leaves the line.
  func release(_ id: String) {
    condition.lock()
    defer { condition.unlock() }
    holders.remove(id)
    waiting.removeAll { $0 == id }
    condition.broadcast()
  }
}

/// Wakes one thread.
///
/// `@unchecked Sendable`: state is used under `condition` only.
final class ThreadSignal: @unchecked Sendable {
  private let condition = ThreadCondition()
  private var isSet = false

  func signal() {
    condition.lock()
    isSet = true
    condition.signal()
    condition.unlock()
  }

  /// Returns at a signal since the last call, or after that many seconds.
  func wait(atMost seconds: Double) {
    condition.lock()
    defer { condition.unlock() }
    let deadline = ThreadCondition.Deadline(after: seconds)
    while !isSet {
      guard condition.wait(until: deadline) else { return }
    }
    isSet = false
  }
}
