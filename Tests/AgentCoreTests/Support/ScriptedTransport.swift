import Synchronization

@testable import AgentCore

/// A transport without a network: answers as it is told, and records when it was asked.
final class ScriptedTransport: Transport {
  struct Call: Sendable {
    var at: Duration
    var url: String
    var handler: String
  }

  typealias Handler = @Sendable (TransportRequest, Int) async throws -> TransportAnswer

  private let clock: ManualClock
  private let handler: Handler
  private let recorded = Mutex<[Call]>([])

  /// - Parameter handler: given each request and its number, from 1.
  init(_ clock: ManualClock, _ handler: @escaping Handler) {
    self.clock = clock
    self.handler = handler
  }

  var calls: [Call] { recorded.withLock { $0 } }

  func times(of handler: String) -> [Duration] { calls.filter { $0.handler == handler }.map(\.at) }

  func perform(_ request: TransportRequest) async throws -> TransportAnswer {
    let number = recorded.withLock { calls in
      calls.append(Call(at: clock.passed, url: request.url.text, handler: request.handler))
      return calls.count
    }
    return try await handler(request, number)
  }

  func close() async {}
}

/// A session that seals nothing: for tests of what happens around it.
struct PlainSession: ServerSession {
  func accept(serverPEM: [UInt8], rekey: Bool) throws -> String { "VelociraptorServer" }
  func seal(lists: [[UInt8]], compressed: Bool) throws -> [UInt8] { lists.flatMap { $0 } }
  /// An empty body is no answer; any other one is an answer without jobs.
  func open(_ body: [UInt8]) throws -> [[UInt8]]? { body.isEmpty ? nil : [] }
}
