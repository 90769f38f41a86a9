import CLibCrypto
import Foundation
import PKI
import PublicIdentity
import Synchronization

/// Keys of many clients in little time: each pair of a few primes gives one. Pairs share primes, so these keys are
/// worthless for anything but load tests.
enum ClientKeys {
  /// - Returns: `count` keys with different client ids.
  static func make(_ count: Int) throws -> [RSAPrivateKey] {
    var needed = 2
    while needed * (needed - 1) / 2 < count + count / 1000 { needed += 1 }
    let primes = PrimeList()
    DispatchQueue.concurrentPerform(iterations: needed) { _ in primes.addOne() }
    let found = primes.all
    guard found.count == needed else { throw Trouble("libcrypto made no primes") }
    var pairs: [(Int, Int)] = []
    for first in 0..<needed {
      for second in (first + 1)..<needed where pairs.count < count { pairs.append((first, second)) }
    }
    return try pairs.map { try key(found[$0.0], found[$0.1]) }
  }

  /// The key of two primes, by way of its PKCS#1 form.
  private static func key(_ first: Prime, _ second: Prime) throws -> RSAPrivateKey {
    let context = BN_CTX_new()
    defer { BN_CTX_free(context) }
    let numbers = Numbers()
    let (p, q) = (first.number, second.number)
    let (one, e, n, d) = (try numbers.new(1), try numbers.new(65537), try numbers.new(), try numbers.new())
    let (p1, q1, phi) = (try numbers.new(), try numbers.new(), try numbers.new())
    let (dp, dq, inverse) = (try numbers.new(), try numbers.new(), try numbers.new())
    guard BN_mul(n, p, q, context) == 1, BN_sub(p1, p, one) == 1, BN_sub(q1, q, one) == 1,
      BN_mul(phi, p1, q1, context) == 1, BN_mod_inverse(d, e, phi, context) != nil,
      BN_div(nil, dp, d, p1, context) == 1, BN_div(nil, dq, d, q1, context) == 1,
      BN_mod_inverse(inverse, q, p, context) != nil
    else { throw Trouble("libcrypto could not make a key of two primes") }
    var content: [UInt8] = [2, 1, 0]
    for number in [n, e, d, p, q, dp, dq, inverse] { content += DER.integer(number) }
    return try RSAPrivateKey(pem: PEM.encode("RSA PRIVATE KEY", DER.sequence(content)))
  }

  /// Owns the numbers of one computation.
  private final class Numbers {
    private var owned: [OpaquePointer] = []

    func new(_ value: UInt = 0) throws -> OpaquePointer {
      guard let number = BN_new(), BN_set_word(number, value) == 1 else { throw Trouble("out of memory") }
      owned.append(number)
      return number
    }

    deinit { for number in owned { BN_free(number) } }
  }

  /// Sendable although it holds a BIGNUM: it is never changed after it was made.
  private final class Prime: @unchecked Sendable {
    let number: OpaquePointer

    init(owning number: OpaquePointer) { self.number = number }

    deinit { BN_free(number) }
  }

  private final class PrimeList: Sendable {
    private let primes = Mutex<[Prime]>([])

    var all: [Prime] { primes.withLock { $0 } }

    /// Adds a prime of 1024 bits, of which 65537 is a possible exponent.
    func addOne() {
      for _ in 0..<8 {
        guard let number = BN_new() else { return }
        let prime = Prime(owning: number)
        guard BN_generate_prime_ex(number, 1024, 0, nil, nil, nil) == 1 else { return }
        if BN_mod_word(number, 65537) != 1 { return primes.withLock { $0.append(prime) } }
      }
    }
  }

  private enum DER {
    static func integer(_ number: OpaquePointer) -> [UInt8] {
      let bytes = [UInt8](unsafeUninitializedCapacity: (Int(BN_num_bits(number)) + 7) / 8) { buffer, count in
        count = max(0, Int(BN_bn2bin(number, buffer.baseAddress)))
      }
      let isNegative = (bytes.first ?? 0x80) >= 0x80
      return [2] + length(bytes.count + (isNegative ? 1 : 0)) + (isNegative ? [0] : []) + bytes
    }

    static func sequence(_ content: [UInt8]) -> [UInt8] { [0x30] + length(content.count) + content }

    private static func length(_ count: Int) -> [UInt8] {
      if count < 128 { return [UInt8(count)] }
      if count < 256 { return [0x81, UInt8(count)] }
      return [0x82, UInt8(count >> 8), UInt8(count & 255)]
    }
  }
}
