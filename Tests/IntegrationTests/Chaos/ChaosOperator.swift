import Foundation
import Synchronization

/// An operator who queues queries for random clients by the real command, whatever happens around it.
final class ChaosOperator: Sendable {
  private struct State {
    var queued: Set<String> = []
    var failures = 0
    var isOver = false
  }

  private let config: String
  private let clients: [String]
  private let state = Mutex(State())

  init(config: String, clients: [String]) {
    self.config = config
    self.clients = clients
  }

  /// Flows that the command said it queued.
  var queued: Set<String> { state.withLock { $0.queued } }
  var failures: Int { state.withLock { $0.failures } }

  func end() { state.withLock { $0.isOver = true } }

  /// Queues until the end; blocks its thread.
  func run() {
    var round = 0
    while !state.withLock({ $0.isOver }) {
      round += 1
      // Now and then everybody is asked at once.
      let whom = round % 8 == 1 ? ["--all"] : [clients.randomElement() ?? ""]
      ask(whom)
      usleep(.random(in: 50_000...300_000))
    }
  }

  private func ask(_ whom: [String]) {
    let arguments = ["query", "--config", config, "--no-wait"] + whom + ["SELECT * FROM info()"]
    guard let result = try? RunningProcess.run("microraptor", arguments), result.status == 0 else {
      // It may or may not have been queued: then it is run once or not at all.
      state.withLock { $0.failures += 1 }
      return
    }
    let flows = result.output.split(separator: "\n").compactMap { $0.split(separator: " ").first.map(String.init) }
    state.withLock { $0.queued.formUnion(flows) }
  }
}
