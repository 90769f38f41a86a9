import Logging
import Synchronization

/// Writes a recurring warning at most once per interval, with the count of those left out.
///
/// Each kind of warning has its own `topic`. At most ``topicLimit`` topics are remembered, so a topic that is made from
/// a peer's data cannot fill the memory.
package final class RateLimitedLog: Sendable {
  /// The most topics that are told apart; later ones share one.
  package static let topicLimit = 256

  private struct Topic {
    var lastWritten: ContinuousClock.Instant
    var suppressed = 0
  }

  private let logger: Logger
  private let interval: Duration
  private let now: @Sendable () -> ContinuousClock.Instant
  private let topics = Mutex<[String: Topic]>([:])

  /// - Parameters:
  ///   - logger: where the warnings go.
  ///   - interval: the least time between two warnings of a topic.
  ///   - now: a monotonic clock; injected by tests.
  package init(
    logger: Logger, interval: Duration = .seconds(60),
    now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
  ) {
    self.logger = logger
    self.interval = interval
    self.now = now
  }

  /// Logs a warning unless one of the same topic was written less than the interval ago.
  ///
  /// - Parameters:
  ///   - topic: what the warning is about.
  ///   - message: the text; evaluated only when it is written. It should name the setting to change.
  ///   - metadata: pairs of the line; `suppressed` is added when others were left out.
  package func warning(_ topic: String, _ message: @autoclosure () -> String, metadata: Logger.Metadata = [:]) {
    log(.warning, topic, message(), metadata: metadata)
  }

  /// As ``warning(_:_:metadata:)`` with a level.
  package func log(
    _ level: Logger.Level, _ topic: String, _ message: @autoclosure () -> String, metadata: Logger.Metadata = [:]
  ) {
    guard let suppressed = admit(topic) else { return }
    var pairs = metadata
    if suppressed > 0 {
      pairs["suppressed"] = .stringConvertible(suppressed)
    }
    logger.log(level: level, "\(message())", metadata: pairs)
  }

  /// The count of suppressed events since the last line if this one may be written, else nil.
  private func admit(_ topic: String) -> Int? {
    let time = now()
    return topics.withLock { topics in
      let key = topics[topic] != nil || topics.count < Self.topicLimit ? topic : "other"
      guard let known = topics[key], known.lastWritten.duration(to: time) < interval else {
        let suppressed = topics[key]?.suppressed ?? 0
        topics[key] = Topic(lastWritten: time)
        return suppressed
      }
      topics[key]?.suppressed += 1
      return nil
    }
  }
}
