import Configuration
import Observability
import Synchronization
import WorkerLink

/// Keeps the link's workers as the configuration and the names in it say, while the process runs.
final class WorkerFollower: Sendable {
  /// Between two look-ups of a name.
  static let interval = Duration.seconds(5)

  private let directory: Mutex<WorkerDirectory>
  private let apply: @Sendable ([String]) -> Void
  private let resolve: NameLookUp.Resolver
  private let limited: RateLimitedLog

  /// - Parameters:
  ///   - resolve: injected by tests.
  ///   - apply: takes the workers' endpoints when they may have changed.
  init(
    _ directory: WorkerDirectory, limited: RateLimitedLog, resolve: @escaping NameLookUp.Resolver = NameLookUp.system,
    apply: @escaping @Sendable ([String]) -> Void
  ) {
    self.directory = Mutex(directory)
    self.limited = limited
    self.resolve = resolve
    self.apply = apply
  }

  /// The configuration names other workers.
  func configure(_ endpoints: [WorkerEndpoint]) {
    let workers = directory.withLock { directory in
      directory.configure(endpoints)
      return directory.workers
    }
    apply(workers)
  }

  /// Looks up all names once.
  func lookUp() async {
    let names = directory.withLock { $0.names }
    guard !names.isEmpty else { return }
    let before = directory.withLock { $0.workers }
    for name in names {
      guard case .dns(let host, _) = name else { continue }
      let found = await resolve(host)
      switch directory.withLock({ $0.resolved(name, found) }) {
      case nil: break
      case .unknownName(let name):
        limited.warning(
          "dns", "no address was found for crypto-workers; those known stay", metadata: ["name": "\(name)"])
      case .unsafeAddresses(let name, let count):
        limited.warning(
          "dns-plain", "\(count) addresses of crypto-workers are left out: they need CryptoWorkers.curve",
          metadata: ["name": "\(name)"])
      }
    }
    let workers = directory.withLock { $0.workers }
    if workers != before { apply(workers) }
  }

  /// Looks names up again and again, until cancelled.
  func run(every interval: Duration = WorkerFollower.interval) async {
    while !Task.isCancelled {
      await lookUp()
      try? await Task.sleep(for: interval)
    }
  }
}
