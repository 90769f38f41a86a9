import Foundation
import PKI
import PublicIdentity
import Synchronization
import WorkerLink

/// A worker process, a link to it, and clients whose sessions it knows.
struct WorkerBench {
  let deployment: Deployment
  let link: WorkerLink
  let clients: [LoadClient]

  /// - Parameters:
  ///   - count: clients.
  ///   - capacity: of the worker's session cache.
  ///   - coldThreads: as many as cores without it.
  init(_ settings: Settings, clients count: Int, capacity: Int? = nil, coldThreads: Int? = nil) throws {
    deployment = try Deployment(settings)
    if let capacity {
      try deployment.edit("crypto-worker.config.yaml") { text in
        text.split(separator: "\n", omittingEmptySubsequences: false).map {
          $0.contains("expected_clients:") ? "    expected_clients: \(capacity)" : String($0)
        }
        .joined(separator: "\n")
      }
    }
    try deployment.startWorker(extra: coldThreads.map { ["--cold-threads", "\($0)"] } ?? [])
    link = try WorkerLink(
      endpoints: [deployment.workerEndpoint], routingSecret: [UInt8](repeating: 1, count: 32), notes: { _ in })
    clients = try deployment.clients(ClientKeys.make(count))
    try waitForWorker()
    try meet(clients)
  }

  func waitForWorker() throws {
    let end = Clock.now() + 20_000_000_000
    while link.snapshot.usableWorkers.isEmpty, Clock.now() < end { usleep(5000) }
    guard !link.snapshot.usableWorkers.isEmpty else { throw Trouble("the worker does not come up") }
  }

  /// Makes sessions known to the worker, in both directions.
  func meet(_ clients: [LoadClient]) throws {
    let requests = try clients.map {
      WorkerRequest.confirm(
        body: try $0.seal([LoadClient.checkIn]), publicKey: $0.key.publicKey.pkcs1DER, acknowledge: true)
    }
    _ = try RequestPump(link, requests, total: requests.count).run(window: 64)
  }

  /// RSA private operations of the worker so far.
  func privateOperations() throws -> UInt64 {
    let found = Mutex<UInt64?>(nil)
    let done = DispatchSemaphore(value: 0)
    link.submit(.health, timeout: 10_000) { outcome in
      if case .reply(.health(let health)) = outcome { found.withLock { $0 = health.rsaPrivateOperations } }
      done.signal()
    }
    done.wait()
    guard let operations = found.withLock({ $0 }) else { throw Trouble("the worker does not tell its health") }
    return operations
  }

  func stop() {
    link.stop()
    deployment.stop()
  }
}

/// Keeps some requests in flight until all are answered.
final class RequestPump: Sendable {
  private struct State {
    var next = 0
    var answered = 0
    var failed = 0
    /// Answers «overloaded», after which the request was sent again.
    var refused = 0
  }

  private let link: WorkerLink
  private let requests: [WorkerRequest]
  private let total: Int
  private let retries: Bool
  private let state = Mutex(State())
  private let done = DispatchSemaphore(value: 0)

  /// - Parameter retries: whether a request that is refused for load comes again a moment later.
  init(_ link: WorkerLink, _ requests: [WorkerRequest], total: Int, retries: Bool = false) {
    self.link = link
    self.requests = requests
    self.total = total
    self.retries = retries
  }

  var refused: Int { state.withLock { $0.refused } }

  /// - Returns: seconds.
  func run(window: Int, seconds: Int = 120) throws -> Double {
    let start = Clock.now()
    for _ in 0..<min(window, total) { submitNext() }
    guard done.wait(timeout: .now() + .seconds(seconds)) == .success else { throw Trouble("answers are missing") }
    let failed = state.withLock { $0.failed }
    guard failed == 0 else { throw Trouble("\(failed) of \(total) requests failed") }
    return Clock.seconds(since: start)
  }

  private func submitNext() {
    let number = state.withLock { state -> Int? in
      guard state.next < total else { return nil }
      state.next += 1
      return state.next - 1
    }
    if let number { submit(requests[number % requests.count]) }
  }

  private func submit(_ request: WorkerRequest) {
    link.submit(request, timeout: 60_000) { [self] outcome in
      switch outcome {
      case .reply(.overloaded) where retries, .overloaded where retries:
        state.withLock { $0.refused += 1 }
        // Agents that are told so come back much later.
        DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(250)) { self.submit(request) }
        return
      default: break
      }
      let ended = state.withLock { state in
        if case .reply(.opened) = outcome {} else { state.failed += 1 }
        state.answered += 1
        return state.answered == total
      }
      if ended { done.signal() } else { submitNext() }
    }
  }
}
