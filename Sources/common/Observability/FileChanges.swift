import Dispatch
import Glibc
import Synchronization

/// Says whether files have changed since one last looked. Some programs replace a link, some a file, some write into it.
package struct FileChanges: Sendable {
  private struct Stamp: Equatable, Sendable {
    var inode: UInt64
    var size: Int64
    var modified: Int64

    init?(path: String) {
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      inode = UInt64(status.st_ino)
      size = Int64(status.st_size)
      modified = Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
    }
  }

  private var paths: [String]
  private var seen: [Stamp?]

  /// As the files are now is how they are known.
  package init(_ paths: [String]) {
    self.paths = paths
    seen = paths.map(Stamp.init)
  }

  /// Whether one of the files is another than at the last look; also when they are other files now.
  package mutating func look(at paths: [String]) -> Bool {
    let now = paths.map(Stamp.init)
    defer {
      self.paths = paths
      seen = now
    }
    return paths != self.paths || now != seen
  }

  /// Whether one of the files is another than at the last look.
  package mutating func look() -> Bool { look(at: paths) }
}

/// SIGHUP, which by custom means: read your files again.
package final class HangupSignal: Sendable {
  private let raised = Atomic<Bool>(false)
  /// Dispatch sources are safe to use from any thread.
  private nonisolated(unsafe) let source: any DispatchSourceSignal

  /// Takes over SIGHUP: from now on it does not end the process.
  package init() {
    source = DispatchSource.makeSignalSource(signal: SIGHUP, queue: DispatchQueue(label: "microraptor.hangup"))
    source.setEventHandler { @Sendable [weak self] in self?.raised.store(true, ordering: .relaxed) }
    source.activate()
  }

  deinit { source.cancel() }

  /// Whether the signal came since the last question.
  package func take() -> Bool { raised.exchange(false, ordering: .relaxed) }
}
