import NIOCore
import Synchronization

/// What connections must agree in to be shared.
struct Route: Hashable, Sendable {
  let origin: String
  let proxy: ProxyURL?
  /// Websockets: each handler has a connection of its own (http.md §7).
  var webSocket: String?

  /// Whether both lead to one server in the same way.
  func isBeside(_ other: Route) -> Bool { origin == other.origin && proxy == other.proxy }
}

/// An exchange that was begun.
struct RunningExchange: Sendable {
  /// Fails with `ExchangeHandler.Broken`.
  let finished: EventLoopFuture<ExchangeHandler.Finished>
  /// Ends it soon; may be called from anywhere.
  let cancel: @Sendable () -> Void
}

/// One connection to a server, whatever it speaks.
final class PooledConnection: Sendable {
  let route: Route
  let channel: any Channel
  /// For log lines: `HTTP/2`, `HTTP/1.1`, `a websocket`.
  let speaks: String
  private let places: Mutex<ConnectionPlaces>
  private let begin: @Sendable (TransportRequest) -> RunningExchange

  /// One place is taken from the beginning.
  init(
    _ route: Route, _ channel: any Channel, speaks: String, capacity: Int,
    begin: @escaping @Sendable (TransportRequest) -> RunningExchange
  ) {
    self.route = route
    self.channel = channel
    self.speaks = speaks
    self.begin = begin
    places = Mutex(ConnectionPlaces(capacity: capacity))
  }

  /// Takes a place; each success is followed by one `release`.
  func reserve() -> Bool { channel.isActive && places.withLock { $0.reserve() } }

  func release() {
    if places.withLock({ $0.release() }) { channel.close(promise: nil) }
  }

  /// Nothing begins here any more; the connection ends with its last exchange.
  func retire() {
    if places.withLock({ $0.retire() }) { channel.close(promise: nil) }
  }

  func allow(atMost count: Int) { places.withLock { $0.allow(atMost: count) } }

  var isIdle: Bool { places.withLock { $0.isIdle } }

  /// Whether it can still be of use.
  var isOpen: Bool { channel.isActive && !places.withLock { $0.isRetired } }

  /// Runs one exchange in a reserved place.
  ///
  /// - Throws: `ExchangeHandler.Broken`.
  func exchange(_ request: TransportRequest) async throws -> ExchangeHandler.Finished {
    let running = begin(request)
    return try await withTaskCancellationHandler {
      try await running.finished.get()
    } onCancel: {
      running.cancel()
    }
  }
}

/// The open connections of one agent. Those to a server that was left are closed as soon as they are idle.
final class ConnectionPool: Sendable {
  /// Reader, sender and a spare.
  private static let idleLimit = 2

  private let connections = Mutex<[PooledConnection]>([])

  /// A connection with a place for one more exchange; nil: a new one is needed.
  func reserve(_ route: Route) -> PooledConnection? {
    let (found, left) = connections.withLock { all -> (PooledConnection?, [PooledConnection]) in
      let left = all.filter { !$0.route.isBeside(route) || !$0.isOpen }
      all.removeAll { !$0.route.isBeside(route) || !$0.isOpen }
      return (all.last { $0.route == route && $0.reserve() }, left)
    }
    for connection in left { connection.retire() }
    return found
  }

  /// Keeps a new connection, whose first place is reserved. When another one has room already, that one is used and
  /// the new one closed: two loops that connect at the same time share what comes first.
  func add(_ new: PooledConnection) -> PooledConnection {
    let known = connections.withLock { all -> PooledConnection? in
      if let known = all.last(where: { $0.route == new.route && $0.speaks == new.speaks && $0.reserve() }) {
        return known
      }
      all.append(new)
      return nil
    }
    guard let known else { return new }
    new.retire()
    new.release()
    return known
  }

  /// An exchange on it is over.
  func release(_ connection: PooledConnection, keep: Bool) {
    if !keep { connection.retire() }
    connection.release()
    let surplus = connections.withLock { all -> PooledConnection? in
      all.removeAll { !$0.isOpen }
      let idle = all.filter { $0.route == connection.route && $0.isIdle }
      guard idle.count > Self.idleLimit, let first = idle.first else { return nil }
      all.removeAll { $0 === first }
      return first
    }
    surplus?.retire()
  }

  func removeAll() -> [PooledConnection] {
    connections.withLock { all in
      defer { all = [] }
      return all
    }
  }
}
