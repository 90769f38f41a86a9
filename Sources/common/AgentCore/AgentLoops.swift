import Logging
import Synchronization

/// How the loops ended: why the agent ends, or nil when they are to be started anew.
typealias LoopsEnd = Result<Agent.End, any Error>?

/// The first reason to end the loops; later ones are ignored.
final class FirstOutcome: Sendable {
  private let outcome = Mutex<LoopsEnd?>(nil)
  private let bell = Doorbell()

  func set(_ end: LoopsEnd) {
    outcome.withLock { if $0 == nil { $0 = .some(end) } }
    bell.ring()
  }

  func wait(clock: any AgentClock) async -> LoopsEnd {
    while true {
      if let outcome = outcome.withLock({ $0 }) { return outcome }
      await bell.wait(until: nil, clock: clock)
    }
  }
}

/// One reader and one sender, from their start until something ends them. A loop that is stuck is left behind: nothing
/// waits for it, and what it does later has no effect.
struct AgentLoops: Sendable {
  let reader: ReaderDriver
  let sender: SenderDriver
  private let clock: any AgentClock
  private let sending: Task<Void, any Error>

  /// Starts the sender; the reader begins in `run`.
  ///
  /// - Parameter hooks: what the loops need from the rest of the agent.
  static func start(
    settings: AgentSettings, clock: any AgentClock, pulse: Pulse, queue: OutboundQueue, link: Link, log: Logger,
    hooks: (SenderDriver) -> ReaderDriver.Hooks
  ) -> AgentLoops {
    let sender = SenderDriver(
      link: link, queue: queue, settings: settings, clock: BeatingClock(clock, pulse, .sender), log: log)
    let hooks = hooks(sender)
    let reader = ReaderDriver(
      link: link, settings: settings, clock: BeatingClock(clock, pulse, .reader), log: log, hooks: hooks)
    let sending = Task { try await sender.run(dispatch: hooks.dispatch, enrol: hooks.enrol) }
    return AgentLoops(reader: reader, sender: sender, clock: clock, sending: sending)
  }

  /// - Parameters:
  ///   - watch: starts tasks that may end the loops too; they are cancelled at the end.
  ///   - untilDone: runs the reader.
  /// - Returns: why the agent ends. The sender goes on then, until `end`. Nil: the loops were left, start others.
  func run(
    watch: (FirstOutcome) -> [Task<Void, Never>],
    untilDone: @escaping @Sendable (ReaderDriver) async throws -> Void
  ) async -> Result<Agent.End, any Error>? {
    let first = FirstOutcome()
    let tasks =
      watch(first) + [
        Task { [reader] in
          do {
            try await untilDone(reader)
            first.set(.success(.done))
          } catch {
            first.set(.failure(error))
          }
        },
        Task { [sending] in
          if case .failure(let error) = await sending.result { first.set(.failure(error)) }
        },
      ]
    let end = await withTaskCancellationHandler {
      await first.wait(clock: clock)
    } onCancel: {
      first.set(.success(.stopped))
    }
    for task in tasks { task.cancel() }
    if end == nil { sending.cancel() }
    return end
  }

  /// Ends the sender; what it did not deliver stays in the queue.
  func end() async {
    sending.cancel()
    _ = await sending.result
  }
}
