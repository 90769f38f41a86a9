import NIOCore

/// A token bucket; time is given by the caller, in nanoseconds.
struct TokenBucket {
  private let rate: Double
  private let burst: Double
  private var tokens: Double
  private var last: UInt64?

  /// - Parameters:
  ///   - rate: tokens per second.
  ///   - burst: the most that are saved up.
  init(rate: Double, burst: Double) {
    self.rate = rate
    self.burst = burst
    tokens = burst
  }

  mutating func take(now: UInt64) -> Bool {
    if let last, now > last { tokens = min(burst, tokens + Double(now - last) * rate / 1_000_000_000) }
    last = now
    guard tokens >= 1 else { return false }
    tokens -= 1
    return true
  }
}

/// Closes connections above the allowed rate at once and without a byte, before a handshake costs anything
/// (http.md §8, load shedding).
final class AcceptLimiter: ChannelInboundHandler {
  typealias InboundIn = Channel

  private var bucket: TokenBucket
  private let shed: @Sendable () -> Void

  init(perSecond: Int, shed: @escaping @Sendable () -> Void) {
    // A burst of one second: agents that come back together after a restart are not an attack.
    bucket = TokenBucket(rate: Double(perSecond), burst: Double(max(10, perSecond)))
    self.shed = shed
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if bucket.take(now: NIODeadline.now().uptimeNanoseconds) {
      context.fireChannelRead(data)
    } else {
      shed()
      unwrapInboundIn(data).close(promise: nil)
    }
  }
}
