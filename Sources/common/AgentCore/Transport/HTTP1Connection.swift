import NIOCore
import NIOHTTP1

/// HTTP/1.1: one exchange at a time.
enum HTTP1Connection {
  /// - Returns: what runs exchanges on the channel; its place is taken.
  static func make(
    _ route: Route, _ channel: any Channel, _ timeouts: ExchangeHandler.Timeouts, proxy: ProxyURL?
  ) throws -> PooledConnection {
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHTTPClientHandlers()
    let handler = ExchangeHandler(timeouts: timeouts, proxy: proxy)
    try pipeline.addHandler(handler)
    let bound = NIOLoopBound(handler, eventLoop: channel.eventLoop)
    return PooledConnection(route, channel, speaks: "HTTP/1.1", capacity: 1) { request in
      let finished = channel.eventLoop.makePromise(of: ExchangeHandler.Finished.self)
      channel.eventLoop.execute { bound.value.start(request, promise: finished) }
      return RunningExchange(finished: finished.futureResult) {
        channel.eventLoop.execute { bound.value.cancel() }
      }
    }
  }
}
