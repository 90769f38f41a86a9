import NIOCore
import NIOHTTP2
import Synchronization

/// The connections of this process, so that they can be told that it is stopping.
final class ConnectionRegistry: Sendable {
  /// Sent to each connection when the process stops: its next answer is its last.
  struct Drain: Sendable {}

  private let channels = Mutex<[ObjectIdentifier: any Channel]>([:])

  /// Knows the channel until it is closed.
  func add(_ channel: any Channel) {
    let id = ObjectIdentifier(channel)
    channels.withLock { $0[id] = channel }
    channel.closeFuture.whenComplete { [weak self] _ in
      _ = self?.channels.withLock { $0.removeValue(forKey: id) }
    }
  }

  var count: Int { channels.withLock { $0.count } }

  /// HTTP/1.1 and websockets: the next answer ends the connection. HTTP/2: GOAWAY, and the end after the last stream.
  func drain() {
    for channel in all {
      channel.eventLoop.execute {
        let isHTTP2 = (try? channel.pipeline.syncOperations.handler(type: NIOHTTP2Handler.self)) != nil
        if isHTTP2 {
          channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        } else {
          channel.pipeline.fireUserInboundEventTriggered(Drain())
        }
      }
    }
  }

  func closeAll() async {
    let all = all
    for channel in all { channel.close(promise: nil) }
    for channel in all { try? await channel.closeFuture.get() }
  }

  private var all: [any Channel] { channels.withLock { Array($0.values) } }
}
