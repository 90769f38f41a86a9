import Dispatch
import Foundation

/// Wakes the other processes that share a database file, within a millisecond: who has announced a change writes to a
/// side file, and the others watch it with inotify. It carries nothing; what changed is in the table `changes`.
///
/// A ring may be lost (a process that is killed between its commit and the ring), so the listener looks by itself now
/// and then too.
final class ChangeBell: Sendable {
  private let path: String
  private let file: Int32

  /// - Parameter path: of the database.
  init(besides path: String) throws {
    self.path = "\(path)-signal"
    file = open(self.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw StoreError.errno(errno, "cannot open \(path)-signal") }
  }

  deinit {
    close(file)
  }

  func ring() {
    var byte = UInt8(ascii: "*")
    _ = pwrite(file, &byte, 1, 0)
  }

  /// Calls `body` after each ring, from any process, on a queue of its own.
  /// - Returns: nil when the system has no watch to give; then only looking by oneself is left.
  func listen(_ body: @escaping @Sendable () -> Void) -> Listener? {
    let watch = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
    guard watch >= 0 else { return nil }
    guard inotify_add_watch(watch, path, UInt32(IN_MODIFY)) >= 0 else {
      close(watch)
      return nil
    }
    return Listener(watch, body)
  }

  /// Listens until it is cancelled.
  ///
  /// Unchecked is safe: a dispatch source may be used from any thread, and this one is only cancelled.
  final class Listener: @unchecked Sendable {
    private let source: any DispatchSourceRead

    fileprivate init(_ watch: Int32, _ body: @escaping @Sendable () -> Void) {
      let source = DispatchSource.makeReadSource(
        fileDescriptor: watch, queue: DispatchQueue(label: "microraptor.store.bell"))
      source.setEventHandler { @Sendable in
        Self.drain(watch)
        body()
      }
      source.setCancelHandler { @Sendable in close(watch) }
      source.activate()
      self.source = source
    }

    deinit {
      source.cancel()
    }

    /// Many rings are one.
    private static func drain(_ watch: Int32) {
      withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 8) { buffer in
        while read(watch, buffer.baseAddress, buffer.count) > 0 {}
      }
    }
  }
}
