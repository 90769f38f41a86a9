/// SipHash-2-4: a keyed hash for routing, so that nobody outside can compute which worker a body goes to.
package struct SipHash: Sendable {
  private let k0: UInt64
  private let k1: UInt64

  /// - Parameter key: 16 bytes are used; a shorter key is filled with zeros.
  package init(key: [UInt8]) {
    func word(_ start: Int) -> UInt64 {
      (0..<8).reduce(0) { result, index in
        let byte = start + index < key.count ? key[start + index] : 0
        return result | UInt64(byte) << UInt64(8 * index)
      }
    }
    k0 = word(0)
    k1 = word(8)
  }

  package func hash(_ bytes: some Collection<UInt8>) -> UInt64 {
    var v0 = k0 ^ 0x736f_6d65_7073_6575
    var v1 = k1 ^ 0x646f_7261_6e64_6f6d
    var v2 = k0 ^ 0x6c79_6765_6e65_7261
    var v3 = k1 ^ 0x7465_6462_7974_6573
    var word: UInt64 = 0
    var filled: UInt64 = 0
    var count: UInt64 = 0
    func round() {
      v0 &+= v1
      v1 = (v1 << 13 | v1 >> 51) ^ v0
      v0 = v0 << 32 | v0 >> 32
      v2 &+= v3
      v3 = (v3 << 16 | v3 >> 48) ^ v2
      v0 &+= v3
      v3 = (v3 << 21 | v3 >> 43) ^ v0
      v2 &+= v1
      v1 = (v1 << 17 | v1 >> 47) ^ v2
      v2 = v2 << 32 | v2 >> 32
    }
    func absorb(_ block: UInt64) {
      v3 ^= block
      round()
      round()
      v0 ^= block
    }
    for byte in bytes {
      word |= UInt64(byte) << (8 * filled)
      filled += 1
      count &+= 1
      if filled == 8 {
        absorb(word)
        word = 0
        filled = 0
      }
    }
    absorb(word | (count & 0xff) << 56)
    v2 ^= 0xff
    for _ in 0..<4 { round() }
    return v0 ^ v1 ^ v2 ^ v3
  }
}
