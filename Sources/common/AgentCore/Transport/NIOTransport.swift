import Glibc
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOTLS

/// HTTP/1.1 over TCP or TLS with keep-alive. One exchange per connection at a time; idle connections are used again
/// by whichever loop comes next.
package final class NIOTransport: Transport {
  private struct Connection: Sendable {
    let origin: String
    let channel: any Channel
    let handler: NIOLoopBound<ExchangeHandler>
  }

  /// Reader, sender and a spare.
  private static let idleLimit = 2

  private let group: MultiThreadedEventLoopGroup
  private let tls: TLSPolicy
  private let timeouts: ExchangeHandler.Timeouts
  private let connectTimeout: TimeAmount
  private let idle = NIOLockedValueBox<[Connection]>([])

  /// - Throws: when a certificate or key of the configuration cannot be read.
  package init(settings: AgentSettings, rules: any LeafRules) throws {
    let timeout = settings.connectionTimeout
    timeouts = ExchangeHandler.Timeouts(
      answer: .milliseconds(timeout.milliseconds), idle: .milliseconds(min(timeout, .seconds(60)).milliseconds))
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
    if let connection = takeIdle(request.url.origin) {
      do {
        return try await exchange(request, on: connection)
      } catch let broken as ExchangeHandler.Broken {
        // The server closed a connection it had no more use for: not a failure of the server.
        guard broken.beforeResponse, !Task.isCancelled else { throw AgentError(.connection, broken.reason) }
      }
    }
    let connection = try await connect(to: request.url)
    do {
      return try await exchange(request, on: connection)
    } catch let broken as ExchangeHandler.Broken {
      throw AgentError(.connection, broken.reason)
    }
  }

  private func takeIdle(_ origin: String) -> Connection? {
    let (found, stale) = idle.withLockedValue { idle -> (Connection?, [Connection]) in
      let stale = idle.filter { $0.origin != origin || !$0.channel.isActive }
      idle.removeAll { $0.origin != origin || !$0.channel.isActive }
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

  private func connect(to url: BaseURL) async throws -> Connection {
    guard url.usesTLS else { return try await connect(to: url, attempt: nil, refusals: RefusalBox()) }
    let refusals = RefusalBox()
    var last: any Error = AgentError(.tls, "no TLS rule applies")
    for attempt in tls.attempts {
      do {
        return try await connect(to: url, attempt: attempt, refusals: refusals)
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
    to url: BaseURL, attempt: TLSPolicy.Attempt?, refusals: RefusalBox
  ) async throws -> Connection {
    let tls = tls
    let timeouts = timeouts
    do {
      let channel = try await ClientBootstrap(group: group)
        .connectTimeout(connectTimeout)
        .channelOption(.socketOption(.so_keepalive), value: 1)
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            if let attempt {
              try pipeline.addHandler(tls.handler(for: url, attempt: attempt, report: refusals.set))
              try pipeline.addHandler(HandshakeGate(timeout: timeouts.answer, loop: channel.eventLoop))
            }
            try pipeline.addHTTPClientHandlers()
            try pipeline.addHandler(ExchangeHandler(timeouts: timeouts))
          }
        }
        .connect(host: url.host, port: url.port).get()
      let handler = try await channel.eventLoop.flatSubmit {
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          let handler = try pipeline.handler(type: ExchangeHandler.self)
          return (
            NIOLoopBound(handler, eventLoop: channel.eventLoop),
            try? pipeline.handler(type: HandshakeGate.self).opened
          )
        }
      }.get()
      if let opened = handler.1 { try await opened.get() }
      return Connection(origin: url.origin, channel: channel, handler: handler.0)
    } catch let error as AgentError {
      throw error
    } catch {
      throw AgentError(.connection, "cannot connect to \(url.origin): \(ConnectionFailure.text(error))")
    }
  }
}

/// What an operator needs to read of a failed connection.
enum ConnectionFailure {
  static func text(_ error: any Error) -> String {
    if let error = error as? NIOConnectionError {
      if let reason = error.connectionErrors.first?.error { return text(reason) }
      if error.dnsAError != nil || error.dnsAAAAError != nil { return "the name \(error.host) cannot be resolved" }
    }
    if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
    if case ChannelError.connectTimeout(let time) = error {
      return "no answer in \(time.nanoseconds / 1_000_000_000) s"
    }
    return String(describing: error)
  }
}

/// Why the certificate of a connection was refused.
private final class RefusalBox: Sendable {
  private let box = NIOLockedValueBox<String?>(nil)
  var reason: String? { box.withLockedValue { $0 } }
  func set(_ reason: String) { box.withLockedValue { $0 = reason } }
}

/// Tells when the TLS handshake is done, and bounds its time.
private final class HandshakeGate: ChannelInboundHandler {
  typealias InboundIn = NIOAny

  private let promise: EventLoopPromise<Void>
  private let timer: Scheduled<Void>

  var opened: EventLoopFuture<Void> { promise.futureResult }

  init(timeout: TimeAmount, loop: any EventLoop) {
    let promise = loop.makePromise(of: Void.self)
    self.promise = promise
    timer = loop.scheduleTask(in: timeout) { promise.fail(AgentError(.connection, "the TLS handshake takes too long")) }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent { finish(.success(())) }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish(.failure(AgentError(.connection, "TLS: \(error)")))
    context.fireErrorCaught(error)
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(.failure(AgentError(.connection, "the connection was closed inside the TLS handshake")))
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish(.failure(AgentError(.connection, "the connection was closed inside the TLS handshake")))
  }

  private func finish(_ result: Result<Void, any Error>) {
    timer.cancel()
    promise.completeWith(result)
  }
}
