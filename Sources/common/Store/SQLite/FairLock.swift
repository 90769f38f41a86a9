import Foundation

/// Processes that write one SQLite file take turns through this lock. SQLite's own waiting is not fair: a process that
/// commits at full speed can starve another for seconds.
///
/// There are two locks. Who wants its turn takes `next` first, waits for `turn` and gives `next` back: a process that
/// has just written finds `next` taken and cannot overtake the one that waits. The kernel frees both when a process
/// dies. Threads that use the same `FairLock` are not kept apart: the writer has one thread.
final class FairLock: Sendable {
  private let next: Int32
  private let turn: Int32

  /// - Parameter path: of the database; the side files lie beside it.
  init(besides path: String) throws {
    next = open("\(path)-next", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard next >= 0 else { throw StoreError.errno(errno, "cannot open \(path)-next") }
    turn = open("\(path)-turn", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard turn >= 0 else {
      let code = errno
      close(next)
      throw StoreError.errno(code, "cannot open \(path)-turn")
    }
  }

  deinit {
    close(turn)
    close(next)
  }

  /// Waits for the turn, runs `body`, and passes the turn on.
  /// - Throws: `.busy` when the turn did not come within `timeout`; else what `body` throws.
  func withTurn<Result>(timeout: Duration, _ body: () throws -> Result) throws -> Result {
    let deadline = ContinuousClock.now.advanced(by: timeout)
    try wait(for: next, until: deadline)
    do {
      try wait(for: turn, until: deadline)
    } catch {
      flock(next, LOCK_UN)
      throw error
    }
    flock(next, LOCK_UN)
    defer { flock(turn, LOCK_UN) }
    return try body()
  }

  /// flock has no timeout: it is tried again, soon at first, then more seldom.
  private func wait(for descriptor: Int32, until deadline: ContinuousClock.Instant) throws {
    var pause: UInt32 = 50
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      guard errno == EWOULDBLOCK || errno == EINTR else { throw StoreError.errno(errno, "cannot lock the store") }
      guard ContinuousClock.now < deadline else {
        throw StoreError(.busy, "another process holds the store's write lock; end it if it hangs")
      }
      usleep(pause)
      pause = min(pause * 5 / 4, 1_000)
    }
  }
}
