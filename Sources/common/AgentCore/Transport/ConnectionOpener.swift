import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import NIOSSL

/// Opens connections: TCP or a proxy's tunnel, TLS by the deployment's rules, then what the server speaks.
struct ConnectionOpener: Sendable {
  let group: MultiThreadedEventLoopGroup
  let tls: TLSPolicy
  let timeouts: ExchangeHandler.Timeouts
  let connectTimeout: TimeAmount
  /// `fallback_addresses`: where to connect instead, when a name or an address does not work (client.md §1).
  let fallbacks: [String: String]
  let onChain: (@Sendable ([[UInt8]]) -> Void)?
  let log: Logger
  /// The certificates that the log spoke of last.
  let lastShown = ChainRecorder()

  /// - Returns: a connection with one place taken.
  /// - Throws: `AgentError` with what an operator needs to know.
  func open(_ request: TransportRequest, _ route: Route) async throws -> PooledConnection {
    guard request.url.usesTLS else { return try await open(request, route, attempt: nil, refusals: RefusalBox()) }
    let refusals = RefusalBox()
    var last: any Error = AgentError(.tls, "no TLS rule applies")
    for attempt in tls.attempts {
      do {
        let connection = try await open(request, route, attempt: attempt, refusals: refusals)
        if attempt == .publicRoots { note(refusals.chain, of: request.url) }
        return connection
      } catch {
        last = error
        // Only a refused certificate is worth the next rule; a refused connection is not.
        if refusals.reason == nil { break }
      }
    }
    guard let reason = refusals.reason else { throw last }
    let other = tls.attempts.count > 1 ? " (and by the public roots: \(last))" : ""
    let shown = CertificateFacts.text(Array(refusals.chain.prefix(1)))
    throw AgentError(.tls, "TLS certificate of \(request.url.origin) refused: \(reason)\(other). It shows: \(shown)")
  }

  /// A certificate of a public root was accepted: TLS ends at a load balancer, a proxy or a device that inspects it.
  private func note(_ chain: [[UInt8]], of url: BaseURL) {
    guard chain != lastShown.chain else { return }
    lastShown.set(chain)
    log.notice(
      """
      \(url.origin): its TLS certificate is not of this deployment's authority; TLS ends at a proxy or is inspected on \
      the way, messages stay sealed. It shows: \(CertificateFacts.text(Array(chain.prefix(1))))
      """)
  }

  private func open(
    _ request: TransportRequest, _ route: Route, attempt: TLSPolicy.Attempt?, refusals: RefusalBox
  ) async throws -> PooledConnection {
    let (host, port) = (route.proxy?.host ?? request.url.host, route.proxy?.port ?? request.url.port)
    do {
      return try await open(request, route, to: host, port, attempt, refusals)
    } catch let failure as NotConnected {
      let key = (host.contains(":") ? "[\(host)]" : host) + ":\(port)"
      guard let fallback = fallbacks[key], let (otherHost, otherPort) = Self.split(fallback) else {
        throw AgentError(.connection, failure.text)
      }
      log.warning("\(failure.text); trying the fallback address \(fallback)")
      do {
        return try await open(request, route, to: otherHost, otherPort, attempt, refusals)
      } catch let second as NotConnected {
        throw AgentError(.connection, "\(failure.text); fallback address \(fallback): \(second.reason)")
      }
    }
  }

  /// There is no TCP connection.
  private struct NotConnected: Error {
    var place: String
    var reason: String
    var text: String { "cannot connect to \(place): \(reason)" }
  }

  private func open(
    _ request: TransportRequest, _ route: Route, to host: String, _ port: Int, _ attempt: TLSPolicy.Attempt?,
    _ refusals: RefusalBox
  ) async throws -> PooledConnection {
    let loop = group.next()
    let ready = loop.makePromise(of: PooledConnection.self)
    let stack = ProtocolStack(opener: self, request: request, route: route, attempt: attempt, refusals: refusals)
    let channel: any Channel
    do {
      channel = try await ClientBootstrap(group: loop)
        .connectTimeout(connectTimeout)
        .channelOption(.socketOption(.so_keepalive), value: 1)
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture { try stack.add(to: channel, ready) }
        }
        .connect(host: host, port: port).get()
    } catch {
      ready.fail(error)
      let place = route.proxy.map { "the proxy \($0)" } ?? request.url.origin
      throw NotConnected(place: place, reason: ConnectionFailure.text(error))
    }
    request.onProgress?()
    do {
      let connection = try await withTaskCancellationHandler {
        try await ready.futureResult.get()
      } onCancel: {
        channel.close(promise: nil)
      }
      request.onProgress?()
      return connection
    } catch let error as AgentError {
      channel.close(promise: nil)
      throw error
    } catch {
      channel.close(promise: nil)
      throw AgentError(.connection, "cannot connect to \(request.url.origin): \(ConnectionFailure.text(error))")
    }
  }

  /// Host and port of an address of the configuration, which has checked it.
  private static func split(_ address: String) -> (String, Int)? {
    guard let colon = address.lastIndex(of: ":"), let port = Int(address[address.index(after: colon)...]) else {
      return nil
    }
    return (String(address[..<colon].filter { $0 != "[" && $0 != "]" }), port)
  }
}

/// The layers of one connection, each of which adds the next when it stands.
private struct ProtocolStack: Sendable {
  let opener: ConnectionOpener
  let request: TransportRequest
  let route: Route
  let attempt: TLSPolicy.Attempt?
  let refusals: RefusalBox

  private var url: BaseURL { request.url }

  func add(to channel: any Channel, _ ready: EventLoopPromise<PooledConnection>) throws {
    // By a proxy, plain HTTP needs no tunnel.
    guard let proxy = route.proxy, url.usesTLS || url.isWebSocket else { return try addTLS(to: channel, ready) }
    let tunnel = ProxyTunnel(
      to: url, through: proxy, timeout: opener.timeouts.answer, loop: channel.eventLoop,
      addProtocol: { try addTLS(to: channel, ready) })
    tunnel.opened.cascadeFailure(to: ready)
    try channel.pipeline.syncOperations.addHandler(tunnel)
  }

  private func addTLS(to channel: any Channel, _ ready: EventLoopPromise<PooledConnection>) throws {
    guard let attempt else { return try addProtocol(to: channel, nil, ready) }
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(
      opener.tls.handler(
        for: url, attempt: attempt, report: refusals.set,
        onChain: { [onChain = opener.onChain] chain in
          refusals.saw(chain)
          onChain?(chain)
        }))
    let gate = TLSGate(timeout: opener.timeouts.answer, loop: channel.eventLoop) { chosen in
      try addProtocol(to: channel, chosen, ready)
    }
    gate.opened.cascadeFailure(to: ready)
    try pipeline.addHandler(gate)
  }

  private func addProtocol(
    to channel: any Channel, _ chosen: String?, _ ready: EventLoopPromise<PooledConnection>
  ) throws {
    let timeouts = opener.timeouts
    if let name = route.webSocket {
      try WebSocketConnection.make(route, channel, timeouts, url: url, handler: name, ready: ready)
      let timer = channel.eventLoop.scheduleTask(in: timeouts.answer) {
        ready.fail(AgentError(.connection, "\(url.origin) does not answer the request for a websocket"))
      }
      return ready.futureResult.whenComplete { _ in timer.cancel() }
    }
    let connection =
      chosen == "h2"
      ? try HTTP2Connection.make(route, channel, timeouts)
      : try HTTP1Connection.make(route, channel, timeouts, proxy: attempt == nil ? route.proxy : nil)
    ready.succeed(connection)
  }
}

/// The certificates of a connection, and why our rules refused them.
private final class RefusalBox: Sendable {
  private let box = NIOLockedValueBox<(reason: String?, chain: [[UInt8]])>((nil, []))
  var reason: String? { box.withLockedValue { $0.reason } }
  var chain: [[UInt8]] { box.withLockedValue { $0.chain } }
  func set(_ reason: String) { box.withLockedValue { $0.reason = reason } }
  func saw(_ chain: [[UInt8]]) { box.withLockedValue { $0.chain = chain } }
}
