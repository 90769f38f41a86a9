import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// HTTP/1.1 over TCP or TLS with keep-alive. One exchange per connection at a time; idle connections are used again
/// by whichever loop comes next.
package final class NIOTransport: Transport {
  private struct Connection: Sendable {
    let route: Route
    let channel: any Channel
    let handler: NIOLoopBound<ExchangeHandler>
  }

  /// Connections can be shared between requests that agree in this.
  private struct Route: Hashable, Sendable {
    let origin: String
    let proxy: ProxyURL?
  }

  /// Reader, sender and a spare.
  private static let idleLimit = 2

  private let group: MultiThreadedEventLoopGroup
  private let tls: TLSPolicy
  private let proxies: ProxyPolicy
  private let onChain: (@Sendable ([[UInt8]]) -> Void)?
  private let timeouts: ExchangeHandler.Timeouts
  private let connectTimeout: TimeAmount
  private let idle = NIOLockedValueBox<[Connection]>([])

  /// - Parameter onChain: told the certificates that a server shows, accepted or not.
  /// - Throws: when a certificate or key of the configuration cannot be read.
  package init(
    settings: AgentSettings, rules: any LeafRules, onChain: (@Sendable ([[UInt8]]) -> Void)? = nil
  ) throws {
    self.onChain = onChain
    let timeout = settings.connectionTimeout
    timeouts = ExchangeHandler.Timeouts(
      answer: .milliseconds(timeout.milliseconds), idle: .milliseconds(min(timeout, .seconds(60)).milliseconds))
    proxies = settings.proxies
    connectTimeout = .milliseconds(min(timeout, .seconds(15)).milliseconds)
    do {
      tls = try TLSPolicy(
        settings: settings.tls, caCertificate: settings.caCertificate, pinnedName: settings.pinnedServerName,
        rules: rules)
    } catch {
      throw AgentError(.configuration, "a certificate or key of the Client section cannot be used for TLS: \(error)")
    }
    group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  }

  package func close() async {
    let connections = idle.withLockedValue { idle in
      defer { idle = [] }
      return idle
    }
    for connection in connections { try? await connection.channel.close() }
    try? await group.shutdownGracefully()
  }

  package func perform(_ request: TransportRequest) async throws -> TransportAnswer {
    let proxy = proxies.proxy(for: request.url, handler: request.handler)
    let answer = try await perform(request, Route(origin: request.url.origin, proxy: proxy))
    if let proxy, !request.url.usesTLS, let refusal = ProxyAnswer.refusal(answer, of: proxy) {
      throw AgentError(.connection, refusal)
    }
    return answer
  }

  private func perform(_ request: TransportRequest, _ route: Route) async throws -> TransportAnswer {
    if let connection = takeIdle(route) {
      do {
        return try await exchange(request, on: connection)
      } catch let broken as ExchangeHandler.Broken {
        // The server closed a connection it had no more use for: not a failure of the server.
        guard broken.beforeResponse, !Task.isCancelled else { throw AgentError(.connection, broken.reason) }
      }
    }
    let connection = try await connect(to: request.url, route)
    do {
      return try await exchange(request, on: connection)
    } catch let broken as ExchangeHandler.Broken {
      throw AgentError(.connection, broken.reason)
    }
  }

  private func takeIdle(_ route: Route) -> Connection? {
    let (found, stale) = idle.withLockedValue { idle -> (Connection?, [Connection]) in
      let stale = idle.filter { $0.route != route || !$0.channel.isActive }
      idle.removeAll { $0.route != route || !$0.channel.isActive }
      return (idle.popLast(), stale)
    }
    for connection in stale { connection.channel.close(promise: nil) }
    return found
  }

  private func exchange(_ request: TransportRequest, on connection: Connection) async throws -> TransportAnswer {
    let channel = connection.channel
    let finished = try await withTaskCancellationHandler {
      try await channel.eventLoop.flatSubmit {
        let promise = channel.eventLoop.makePromise(of: ExchangeHandler.Finished.self)
        connection.handler.value.start(request, promise: promise)
        return promise.futureResult
      }.get()
    } onCancel: {
      channel.eventLoop.execute { connection.handler.value.cancel() }
    }
    if finished.keepAlive, channel.isActive {
      let isKept = idle.withLockedValue { idle in
        guard idle.count < Self.idleLimit else { return false }
        idle.append(connection)
        return true
      }
      if !isKept { channel.close(promise: nil) }
    }
    return finished.answer
  }

  // MARK: connecting

  private func connect(to url: BaseURL, _ route: Route) async throws -> Connection {
    guard url.usesTLS else { return try await connect(to: url, route, attempt: nil, refusals: RefusalBox()) }
    let refusals = RefusalBox()
    var last: any Error = AgentError(.tls, "no TLS rule applies")
    for attempt in tls.attempts {
      do {
        return try await connect(to: url, route, attempt: attempt, refusals: refusals)
      } catch {
        last = error
        // Only a refused certificate is worth the next rule; a refused connection is not.
        if refusals.reason == nil { break }
      }
    }
    guard let reason = refusals.reason else { throw last }
    let other = tls.attempts.count > 1 ? " (and by the public roots: \(last))" : ""
    throw AgentError(.tls, "TLS certificate of \(url.origin) refused: \(reason)\(other)")
  }

  private func connect(
    to url: BaseURL, _ route: Route, attempt: TLSPolicy.Attempt?, refusals: RefusalBox
  ) async throws -> Connection {
    let timeouts = timeouts
    let opening = OpeningBox()
    let addProtocol = protocolStack(url, route, attempt, refusals, opening)
    do {
      let channel = try await ClientBootstrap(group: group)
        .connectTimeout(connectTimeout)
        .channelOption(.socketOption(.so_keepalive), value: 1)
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            guard let proxy = route.proxy, url.usesTLS else { return try addProtocol(channel) }
            let tunnel = ProxyTunnel(
              to: url, through: proxy, timeout: timeouts.answer, loop: channel.eventLoop,
              addProtocol: { try addProtocol(channel) })
            opening.append(tunnel.opened)
            try channel.pipeline.syncOperations.addHandler(tunnel)
          }
        }
        .connect(host: route.proxy?.host ?? url.host, port: route.proxy?.port ?? url.port).get()
      try await opening.wait()
      let handler = try await channel.eventLoop.submit {
        NIOLoopBound(
          try channel.pipeline.syncOperations.handler(type: ExchangeHandler.self), eventLoop: channel.eventLoop)
      }.get()
      return Connection(route: route, channel: channel, handler: handler)
    } catch let error as AgentError {
      throw error
    } catch {
      let place = route.proxy.map { "the proxy \($0)" } ?? url.origin
      throw AgentError(.connection, "cannot connect to \(place): \(ConnectionFailure.text(error))")
    }
  }

  /// What adds the handlers of the connection to the server itself, in a tunnel or not.
  private func protocolStack(
    _ url: BaseURL, _ route: Route, _ attempt: TLSPolicy.Attempt?, _ refusals: RefusalBox, _ opening: OpeningBox
  ) -> @Sendable (any Channel) throws -> Void {
    let (tls, timeouts, onChain) = (tls, timeouts, onChain)
    return { channel in
      let pipeline = channel.pipeline.syncOperations
      if let attempt {
        try pipeline.addHandler(tls.handler(for: url, attempt: attempt, report: refusals.set, onChain: onChain))
        let gate = HandshakeGate(timeout: timeouts.answer, loop: channel.eventLoop)
        opening.append(gate.opened)
        try pipeline.addHandler(gate)
      }
      try pipeline.addHTTPClientHandlers()
      try pipeline.addHandler(ExchangeHandler(timeouts: timeouts, proxy: attempt == nil ? route.proxy : nil))
    }
  }
}

/// When the parts of a connection are ready. Kept outside the pipeline, which is empty after a failure.
private final class OpeningBox: Sendable {
  private let futures = NIOLockedValueBox<[EventLoopFuture<Void>]>([])
  func append(_ future: EventLoopFuture<Void>) { futures.withLockedValue { $0.append(future) } }

  /// Each part may add the next one.
  func wait() async throws {
    while let next = futures.withLockedValue({ $0.isEmpty ? nil : $0.removeFirst() }) { try await next.get() }
  }
}

/// Why the certificate of a connection was refused.
private final class RefusalBox: Sendable {
  private let box = NIOLockedValueBox<String?>(nil)
  var reason: String? { box.withLockedValue { $0 } }
  func set(_ reason: String) { box.withLockedValue { $0 = reason } }
}
