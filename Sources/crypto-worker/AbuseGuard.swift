import Envelope

/// Makes forged bodies cost their sender: an address whose bodies keep failing is refused before RSA, for a time that
/// grows with each refusal and is capped. Warm sessions behind the same address (NAT) do not pass here and are not
/// touched. Times are milliseconds of a monotonic clock.
struct AbuseGuard {
  struct Limits: Sendable {
    /// Failures that an address may have saved up; they come back one in `refill` milliseconds. Enough for all clients
    /// behind one address to fail once after the server's key was rotated.
    var burst = 32.0
    var refill = 1_000.0
    /// Milliseconds of the first refusal; each further one doubles it up to `longest`.
    var shortest: UInt64 = 1_000
    var longest: UInt64 = 60_000
    /// Addresses that are told apart; beyond it the one seen longest ago is forgotten.
    var addresses = 16_384

    /// For this machine's own address: that of a local proxy, which hides all its clients.
    static var local: Limits {
      var limits = Limits()
      limits.burst = 1_000
      limits.refill = 20
      limits.longest = 5_000
      return limits
    }
  }

  private struct Record {
    var left: Double
    var last: UInt64
    var refusals: UInt64 = 0
    var until: UInt64 = 0
  }

  private let limits: Limits
  private let local: Limits
  private var records: [String: Record] = [:]
  private var order: [String] = []
  /// Bodies of an address that are being unwrapped: what each of them is will be known too late for the next.
  private var pending: [String: Int] = [:]

  init(limits: Limits = Limits(), local: Limits = .local) {
    self.limits = limits
    self.local = local
  }

  private func limits(of address: String) -> Limits { address == "127.0.0.1" || address == "::1" ? local : limits }

  var count: Int { records.count }

  /// Whether a body of this address may cost RSA now.
  func admits(_ address: String, now: UInt64) -> Bool {
    guard !address.isEmpty, let record = records[address] else { return true }
    return now >= record.until && Double(pending[address] ?? 0) < max(1, record.left)
  }

  /// A body of this address was admitted and will cost RSA.
  mutating func began(_ address: String) {
    if !address.isEmpty { pending[address, default: 0] += 1 }
  }

  /// What `began` is over, whatever came of it.
  mutating func ended(_ address: String) {
    guard let count = pending[address] else { return }
    pending[address] = count > 1 ? count - 1 : nil
  }

  /// A body of this address failed in RSA, in its MAC or by its nonce.
  mutating func failed(_ address: String, now: UInt64) {
    guard !address.isEmpty else { return }
    let limits = limits(of: address)
    var record = records[address] ?? new(address, now, limits)
    let elapsed = now > record.last ? Double(now - record.last) : 0
    record.left = min(limits.burst, record.left + elapsed / limits.refill)
    // An address that behaved for as long as the longest refusal starts anew.
    if elapsed > Double(limits.longest) * 2 { record.refusals = 0 }
    record.last = now
    record.left -= 1
    if record.left < 0 {
      record.left = 0
      let factor: UInt64 = 1 << min(record.refusals, 16)
      record.until = now + min(limits.longest, limits.shortest * factor)
      record.refusals += 1
    }
    records[address] = record
  }

  private mutating func new(_ address: String, _ now: UInt64, _ limits: Limits) -> Record {
    if order.count >= self.limits.addresses {
      // A quarter at once: removal from the front of an array is not free.
      for old in order.prefix(max(1, self.limits.addresses / 4)) { records[old] = nil }
      order.removeFirst(max(1, self.limits.addresses / 4))
    }
    order.append(address)
    return Record(left: limits.burst, last: now)
  }
}

/// Wrapped sessions that did not decrypt: an exact repeat is refused without RSA. Only failures of the wrapping itself
/// count; a wrong MAC says nothing about the session, which may be an honest client's.
struct RefusedSessions {
  private var expires: [SessionKey: UInt64] = [:]
  private var order: [SessionKey] = []
  private let capacity: Int

  /// Milliseconds that a refusal is remembered.
  static let lifetime: UInt64 = 60_000

  init(capacity: Int = 4096) {
    self.capacity = max(1, capacity)
  }

  func contains(_ encryptedCipher: [UInt8], now: UInt64) -> Bool {
    expires[SessionKey(encryptedCipher)].map { $0 > now } ?? false
  }

  mutating func insert(_ encryptedCipher: [UInt8], now: UInt64) {
    guard encryptedCipher.count <= 1024 else { return }
    let key = SessionKey(encryptedCipher)
    if expires.updateValue(now + Self.lifetime, forKey: key) == nil { order.append(key) }
    if order.count > capacity {
      for old in order.prefix(capacity / 4 + 1) { expires[old] = nil }
      order.removeFirst(capacity / 4 + 1)
    }
  }
}
