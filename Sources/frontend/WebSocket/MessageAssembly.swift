import NIOCore
import NIOWebSocket

/// Puts messages together from frames, as a value (http.md §7, RFC 6455 §5).
struct MessageAssembly {
  enum Action: Equatable {
    case none
    /// A whole binary message.
    case message([UInt8])
    /// Answer a ping.
    case pong(ByteBuffer)
    /// The peer is there.
    case alive
    /// The peer closes.
    case closed
    /// Close with this code.
    case fail(WebSocketErrorCode)
  }

  private let limit: Int
  /// The parts so far of an unfinished message.
  private var parts: ByteBuffer?

  init(limit: Int) {
    self.limit = limit
  }

  mutating func frame(_ frame: WebSocketFrame) -> Action {
    guard frame.maskKey != nil, !frame.rsv1, !frame.rsv2, !frame.rsv3 else { return .fail(.protocolError) }
    var data = frame.unmaskedData
    switch frame.opcode {
    case .ping: return .pong(data)
    case .pong: return .alive
    case .connectionClose: return .closed
    case .binary:
      guard parts == nil else { return .fail(.protocolError) }
      parts = ByteBuffer()
    case .continuation:
      guard parts != nil else { return .fail(.protocolError) }
    case .text: return .fail(.unacceptableData)
    default: return .fail(.protocolError)
    }
    let before = parts?.readableBytes ?? 0
    // Small parts without end would cost more than they carry.
    if before + data.readableBytes > limit { return .fail(.messageTooLarge) }
    if frame.fin, before == 0 {
      parts = nil
      return .message(Array(data.readableBytesView))
    }
    parts?.writeBuffer(&data)
    guard frame.fin, let whole = parts else { return .none }
    parts = nil
    return .message(Array(whole.readableBytesView))
  }
}
