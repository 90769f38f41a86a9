import NIOCore
import Synchronization

/// A rate of bytes: what is above it has to wait. Time is given by the caller, in nanoseconds.
struct ByteRate {
  private let rate: Double
  private let burst: Double
  /// Negative when more was taken than there was.
  private var tokens: Double
  private var last: UInt64?

  /// - Parameters:
  ///   - rate: bytes per second, above 0.
  ///   - burst: bytes that may come at once.
  init(rate: Int, burst: Int) {
    self.rate = Double(max(1, rate))
    self.burst = Double(burst)
    tokens = Double(burst)
  }

  /// Takes bytes that have arrived.
  /// - Returns: nanoseconds until the next ones may be read; 0 for at once.
  mutating func take(_ count: Int, now: UInt64) -> Int64 {
    if let last, now > last { tokens = min(burst, tokens + Double(now - last) * rate / 1_000_000_000) }
    last = now
    tokens -= Double(count)
    guard tokens < 0 else { return 0 }
    return Int64(min(-tokens / rate, 3_600) * 1_000_000_000)
  }
}

/// `Frontend.resources.per_client_upload_rate` and `global_upload_rate`: bytes per second of bodies (http.md §4 step 4).
final class UploadRates: Sendable {
  private static let clientBurst = 102_400
  private static let globalBurst = 1_048_576

  private let perClient: Int
  private let global: Mutex<ByteRate?>

  /// - Parameters: bytes per second; 0 for no limit.
  init(perClient: Int = 0, global: Int = 0) {
    self.perClient = perClient
    self.global = Mutex(global > 0 ? ByteRate(rate: global, burst: Self.globalBurst) : nil)
  }

  /// The rate of one request; nil for no limit.
  func ofRequest() -> ByteRate? {
    perClient > 0 ? ByteRate(rate: perClient, burst: Self.clientBurst) : nil
  }

  /// Takes bytes that have arrived.
  /// - Parameter own: the request's own rate.
  /// - Returns: how long nothing more may be read from it; nil for at once.
  func take(_ count: Int, own: inout ByteRate?) -> TimeAmount? {
    let now = NIODeadline.now().uptimeNanoseconds
    let shared = global.withLock { $0?.take(count, now: now) ?? 0 }
    let wait = max(shared, own?.take(count, now: now) ?? 0)
    return wait > 0 ? .nanoseconds(wait) : nil
  }
}
