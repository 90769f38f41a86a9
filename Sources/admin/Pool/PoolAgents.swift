import AgentCore
import Configuration
import Foundation
import Logging
import Synchronization

/// Many whole agents in one process, each with its own key and state.
final class PoolAgents: Sendable {
  let agents: [Agent]
  let meter = PoolMeter()
  private let ground: TransportGround

  /// Opens the agents' state; those that have none get a key, which takes a processor a tenth of a second each.
  ///
  /// - Parameters:
  ///   - directory: where the states are and stay, so that a later pool has the same clients.
  ///   - progress: told how many are ready.
  init(
    config: ClientConfig, count: Int, directory: String, threads: Int, progress: @escaping @Sendable (Int) -> Void
  ) throws {
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    let settings = try Self.settings(config)
    let quiet = Logger(label: "pool") { _ in SwiftLogNoOpLogHandler() }
    let rules = try DeploymentLeafRules(caCertificate: settings.caCertificate)
    let ground = try TransportGround(settings: settings, rules: rules, log: quiet, threads: threads)
    self.ground = ground
    let facts = HostFacts.current()
    let meter = meter
    let made = Mutex<(ready: [Int: Agent], failure: (any Error)?)>(([:], nil))
    DispatchQueue.concurrentPerform(iterations: count) { index in
      guard made.withLock({ $0.failure == nil }) else { return }
      do {
        var own = settings
        own.writebackPath = directory + "/agent-\(index + 1).writeback.yaml"
        var parts = Agent.Parts(transport: MeasuredTransport(NIOTransport(on: ground), meter))
        parts.facts = facts
        let agent = try Agent(
          settings: own, engine: { VQLEngine(settings: own, installTime: $0) }, parts: parts, log: quiet)
        let number = made.withLock { made in
          made.ready[index] = agent
          return made.ready.count
        }
        progress(number)
      } catch {
        made.withLock { $0.failure = error }
      }
    }
    let result = made.withLock { $0 }
    if let failure = result.failure { throw failure }
    agents = (0..<count).compactMap { result.ready[$0] }
  }

  /// One state file, nothing on disk but that, and no watchdog, which would watch the pool and not the agent.
  private static func settings(_ config: ClientConfig) throws -> AgentSettings {
    var settings = try AgentSettings(config: config)
    settings.writebackSuffix = ""
    settings.queuePath = nil
    settings.nannyDelay = nil
    settings.memoryLimit = nil
    return settings
  }

  /// Runs the agents until the task is cancelled; they start evenly over `ramp`.
  func run(ramp: Duration) async {
    let step = ramp / max(1, agents.count)
    await withTaskGroup(of: Void.self) { group in
      for (index, agent) in agents.enumerated() {
        group.addTask { [meter] in
          guard (try? await Task.sleep(for: step * index)) != nil else { return }
          do {
            _ = try await withTaskCancellationHandler {
              try await agent.run()
            } onCancel: {
              agent.stop()
            }
          } catch {
            meter.failed(error)
          }
        }
      }
      await group.waitForAll()
    }
    await ground.close()
  }
}
