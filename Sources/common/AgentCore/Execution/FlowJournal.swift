import FoundationEssentials
import Glibc
import Logging
import SwiftProtobuf
import Synchronization
import Wire

/// Which flows this agent runs and ran, so that a request that is sent again is answered and not run again, also after
/// a restart, and so that a flow that died with the process is reported (client.md §6.3 and §7).
final class FlowJournal: Sendable {
  static let remembered = 20

  private struct State {
    var running: [String] = []
    var finished: [(id: String, stats: Proto_FlowStats)] = []
  }

  private struct File: Codable {
    var running: [String]
    var finished: [Entry]

    struct Entry: Codable {
      var id: String
      /// Serialized FlowStats.
      var stats: Data
    }
  }

  private let path: String?
  private let log: Logger
  private let state: Mutex<State>

  /// - Parameter path: where it is kept; nil: in memory.
  init(path: String?, log: Logger) {
    self.path = path
    self.log = log
    var loaded = State()
    if let path, let bytes = try? AtomicFile.read(path) {
      if let file = try? JSONDecoder().decode(File.self, from: Data(bytes)) {
        loaded.running = file.running
        loaded.finished = file.finished.compactMap { entry in
          (try? Proto_FlowStats(serializedBytes: entry.stats)).map { (entry.id, $0) }
        }
      } else {
        log.warning("The flow journal \(path) is damaged and starts anew")
      }
    }
    state = Mutex(loaded)
  }

  /// Flows that were running when the process ended, once.
  func takeLost() -> [String] {
    state.withLock { state in
      defer { state.running = [] }
      return state.running
    }
  }

  func started(_ id: String) {
    change { $0.running.append(id) }
  }

  func finished(_ id: String, _ stats: Proto_FlowStats) {
    change { state in
      state.running.removeAll { $0 == id }
      state.finished.removeAll { $0.id == id }
      state.finished.append((id, stats))
      if state.finished.count > Self.remembered { state.finished.removeFirst() }
    }
  }

  func stats(of id: String) -> Proto_FlowStats? {
    state.withLock { $0.finished.last { $0.id == id }?.stats }
  }

  private func change(_ body: (inout State) -> Void) {
    state.withLock { state in
      body(&state)
      guard let path else { return }
      do {
        let entries = try state.finished.map { File.Entry(id: $0.id, stats: try $0.stats.serializedBytes()) }
        let file = File(running: state.running, finished: entries)
        try AtomicFile.write(Array(try JSONEncoder().encode(file)), to: path)
      } catch {
        log.error("The flow journal \(path) cannot be written: \(error)")
      }
    }
  }
}
