import NIOCore
import Synchronization

/// What is known about one TCP connection, shared by all its requests.
final class Connection: Sendable {
  /// The socket's channel, also for streams of HTTP/2.
  let channel: any Channel
  /// Runs the exchanges of this connection on its event loop.
  let executor: LoopExecutor
  private let source: Mutex<SocketAddress?>
  private let text = Mutex<String?>(nil)

  init(channel: any Channel) {
    self.channel = channel
    executor = LoopExecutor(channel.eventLoop)
    source = Mutex(nil)
  }

  /// Who is at the other end: the peer, or whom a trusted proxy names in its PROXY header.
  var peer: SocketAddress? { source.withLock { $0 } ?? channel.remoteAddress }

  /// The peer as `ip:port`.
  var peerText: String {
    text.withLock { text in
      if let text { return text }
      let made = TrustedProxies.text(of: peer)
      text = made
      return made
    }
  }

  /// Whether a proxy's TCP stands between us and the agent, so that ours says nothing about the agent.
  var isRelayed: Bool { source.withLock { $0 != nil } }

  func setSource(_ address: SocketAddress) {
    source.withLock { $0 = address }
    text.withLock { $0 = nil }
  }

  /// What TCP knows of bytes under way.
  struct Outstanding: Sendable, Equatable {
    /// Segments that were sent and not acknowledged.
    var unacknowledged: Int
    /// Times in a row that the oldest of them was sent again for nothing.
    var retransmissions: Int
    /// Milliseconds since the last segment with data was sent.
    var sinceSent: Int
    var isWritable: Bool

    /// Nothing is under way: the other end has taken what was sent.
    var isSettled: Bool { unacknowledged == 0 && isWritable }

    /// The other end does not react: three retransmissions or some seconds without an acknowledgement. Not fewer,
    /// because bytes that were sent a moment ago are still on their way.
    var isSilent: Bool { !isWritable || (unacknowledged > 0 && (retransmissions >= 3 || sinceSent >= 3_000)) }
  }

  /// - Returns: nil when the channel is no TCP socket.
  func outstanding() async -> Outstanding? {
    guard let provider = channel as? any SocketOptionProvider, let info = try? await provider.getTCPInfo().get() else {
      return nil
    }
    return Outstanding(
      unacknowledged: Int(info.tcpi_unacked), retransmissions: Int(info.tcpi_retransmits),
      sinceSent: Int(info.tcpi_last_data_sent), isWritable: channel.isWritable)
  }
}
