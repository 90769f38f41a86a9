import Logging
import NIOCore
import NIOPosix

/// What the transports of one process can share: event loops, TLS contexts, proxies.
package struct TransportGround: Sendable {
  fileprivate let group: MultiThreadedEventLoopGroup
  fileprivate let opener: ConnectionOpener
  fileprivate let proxies: ProxyPolicy
  fileprivate let log: Logger

  /// - Parameters:
  ///   - threads: event loops.
  ///   - onChain: told the certificates that a server shows, accepted or not.
  /// - Throws: when a certificate or key of the configuration cannot be read.
  package init(
    settings: AgentSettings, rules: any LeafRules,
    log: Logger = Logger(label: "transport") { _ in SwiftLogNoOpLogHandler() }, threads: Int = 1,
    onChain: (@Sendable ([[UInt8]]) -> Void)? = nil
  ) throws {
    let timeout = settings.connectionTimeout
    let timeouts = ExchangeHandler.Timeouts(
      answer: .milliseconds(timeout.milliseconds), idle: .milliseconds(min(timeout, .seconds(60)).milliseconds),
      webSocketSilence: .milliseconds(settings.webSocketPingWait.milliseconds / 10 * 11))
    let tls: TLSPolicy
    do {
      tls = try TLSPolicy(
        settings: settings.tls, caCertificate: settings.caCertificate, pinnedName: settings.pinnedServerName,
        rules: rules)
    } catch {
      throw AgentError(.configuration, "a certificate or key of the Client section cannot be used for TLS: \(error)")
    }
    proxies = settings.proxies
    group = MultiThreadedEventLoopGroup(numberOfThreads: threads)
    opener = ConnectionOpener(
      group: group, tls: tls, timeouts: timeouts,
      connectTimeout: .milliseconds(min(timeout, .seconds(15)).milliseconds), fallbacks: settings.fallbackAddresses,
      onChain: onChain, log: log)
    self.log = log
  }

  /// Ends the event loops; no transport on it can be used afterwards.
  package func close() async { try? await group.shutdownGracefully() }
}

/// HTTP/2 where the server offers it, HTTP/1.1 with keep-alive otherwise, websockets for `wss://` and `ws://`.
package final class NIOTransport: Transport {
  private let ground: TransportGround
  private let ownsGround: Bool
  private let pool = ConnectionPool()

  /// A transport with connections of its own on shared ground, which outlives it.
  package init(on ground: TransportGround) {
    self.ground = ground
    ownsGround = false
  }

  /// - Parameter onChain: told the certificates that a server shows, accepted or not.
  /// - Throws: when a certificate or key of the configuration cannot be read.
  package init(
    settings: AgentSettings, rules: any LeafRules,
    log: Logger = Logger(label: "transport") { _ in SwiftLogNoOpLogHandler() },
    onChain: (@Sendable ([[UInt8]]) -> Void)? = nil
  ) throws {
    ground = try TransportGround(settings: settings, rules: rules, log: log, onChain: onChain)
    ownsGround = true
  }

  package func close() async {
    for connection in pool.removeAll() { try? await connection.channel.close() }
    if ownsGround { await ground.close() }
  }

  package func perform(_ request: TransportRequest) async throws -> TransportAnswer {
    guard request.body == nil else { return try await exchange(request) }
    var request = request
    request.url = try request.url.httpForm()
    return try await exchange(request)
  }

  private func exchange(_ request: TransportRequest) async throws -> TransportAnswer {
    let url = request.url
    let proxy = ground.proxies.proxy(for: url, handler: request.handler)
    let route = Route(origin: url.origin, proxy: proxy, webSocket: url.isWebSocket ? request.handler : nil)
    let answer = try await exchange(request, route)
    if let proxy, !url.usesTLS, !url.isWebSocket, let refusal = ProxyAnswer.refusal(answer, of: proxy) {
      throw AgentError(.connection, refusal)
    }
    return answer
  }

  private func exchange(_ request: TransportRequest, _ route: Route) async throws -> TransportAnswer {
    if let connection = pool.reserve(route) {
      do {
        return try await exchange(request, on: connection)
      } catch let broken as ExchangeHandler.Broken {
        // The server closed a connection it had no more use for: not a failure of the server.
        guard broken.beforeResponse, !Task.isCancelled else { throw AgentError(.connection, broken.reason) }
      }
    }
    let opened = try await ground.opener.open(request, route)
    let connection = pool.add(opened)
    if connection === opened {
      let way = route.proxy.map { " through the proxy \($0)" } ?? ""
      ground.log.info("Connected to \(route.origin)\(way) by \(connection.speaks)")
    }
    do {
      return try await exchange(request, on: connection)
    } catch let broken as ExchangeHandler.Broken {
      throw AgentError(.connection, broken.reason)
    }
  }

  private func exchange(_ request: TransportRequest, on connection: PooledConnection) async throws -> TransportAnswer {
    do {
      let finished = try await connection.exchange(request)
      pool.release(connection, keep: finished.keepAlive)
      return finished.answer
    } catch {
      // What broke one stream may have broken the connection; a stream that we ended has not.
      pool.release(connection, keep: Task.isCancelled)
      throw error
    }
  }
}
