import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// Connections that post one body after another to a server on loopback, on a thread of their own.
final class PostLoad: Sendable {
  /// The next body of a connection; nil ends it.
  typealias Bodies = @Sendable (_ connection: Int) -> [UInt8]?

  struct Window {
    var requestsPerSecond: Double
    /// Seconds of the processes' processor time for each request.
    var cpuPerRequest: Double
  }

  fileprivate let answered = Atomic<Int>(0)
  fileprivate let failed = Atomic<Int>(0)
  /// Nanoseconds of the slowest answer since the last question.
  fileprivate let slowest = Atomic<UInt64>(0)
  fileprivate let status: Int
  fileprivate let path: String
  fileprivate let bodies: Bodies
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

  /// - Parameter status: of a right answer.
  init(port: Int, path: String, connections: Int, status: Int, bodies: @escaping Bodies) async throws {
    self.path = path
    self.status = status
    self.bodies = bodies
    let tls = try Self.tls()
    for number in 0..<connections {
      _ = try await ClientBootstrap(group: group)
        .connectTimeout(.seconds(10))
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(NIOSSLClientHandler(context: tls, serverHostname: nil))
            try pipeline.addHTTPClientHandlers()
            try pipeline.addHandler(PostHandler(load: self, number: number))
          }
        }
        .connect(host: "127.0.0.1", port: port).get()
    }
  }

  /// A context that accepts any certificate.
  static func tls() throws -> NIOSSLContext {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateVerification = .none
    return try NIOSSLContext(configuration: configuration)
  }

  /// Lets it run and looks at the processes meanwhile: medians of several windows after a warm-up.
  /// - Parameter cpu: seconds of processor time used so far.
  func measure(rounds: Int, seconds: Double, cpu: () throws -> Double) async throws -> Window {
    try await Task.sleep(for: .seconds(min(1, seconds)))
    var rates: [Double] = []
    var costs: [Double] = []
    for _ in 0..<rounds {
      let (count, used, start) = (answered.load(ordering: .relaxed), try cpu(), Clock.now())
      try await Task.sleep(for: .seconds(seconds))
      let done = Double(answered.load(ordering: .relaxed) - count)
      guard done > 0 else { throw Trouble("the server does not answer; failures: \(failed.load(ordering: .relaxed))") }
      costs.append((try cpu() - used) / done)
      rates.append(done / Clock.seconds(since: start))
    }
    let bad = failed.load(ordering: .relaxed)
    guard bad == 0 else { throw Trouble("\(bad) requests failed") }
    return Window(requestsPerSecond: Statistics.median(rates), cpuPerRequest: Statistics.median(costs))
  }

  /// Requests that were answered otherwise than expected, or not at all.
  var failures: Int { failed.load(ordering: .relaxed) }
  var answers: Int { answered.load(ordering: .relaxed) }

  /// Seconds of the slowest answer since the last question.
  func takeSlowest() -> Double { Double(slowest.exchange(0, ordering: .relaxed)) / 1e9 }

  func stop() async { try? await group.shutdownGracefully() }
}

/// One connection; lives on its event loop.
private final class PostHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  private let load: PostLoad
  private let number: Int
  private var started: UInt64 = 0

  init(load: PostLoad, number: Int) {
    self.load = load
    self.number = number
  }

  func channelActive(context: ChannelHandlerContext) { post(context) }

  private func post(_ context: ChannelHandlerContext) {
    guard let body = load.bodies(number) else { return }
    started = Clock.now()
    let headers: HTTPHeaders = [
      "Host": "127.0.0.1", "User-Agent": "Velociraptor", "Content-Type": "application/binary",
      "Content-Length": String(body.count),
    ]
    let head = HTTPRequestHead(version: .http1_1, method: .POST, uri: load.path, headers: headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if !body.isEmpty {
      context.write(wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: body)))), promise: nil)
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      if Int(head.status.code) != load.status { load.failed.add(1, ordering: .relaxed) }
    case .body: break
    case .end:
      load.answered.add(1, ordering: .relaxed)
      load.slowest.max(Clock.now() - started, ordering: .relaxed)
      post(context)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    load.failed.add(1, ordering: .relaxed)
    context.close(promise: nil)
  }
}
