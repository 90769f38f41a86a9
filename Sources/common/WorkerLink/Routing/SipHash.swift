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

  package func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var state = State(k0, k1)
    let whole = bytes.count & ~7
    var offset = 0
    while offset < whole {
      state.absorb(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
      offset += 8
    }
    var last = UInt64(truncatingIfNeeded: bytes.count & 0xff) << 56
    for index in whole..<bytes.count { last |= UInt64(bytes[index]) << UInt64(8 * (index - whole)) }
    return state.finish(last)
  }

  package func hash(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { hash($0) } }

  /// The hash of two words, the first one first, little endian.
  package func hash(_ first: UInt64, _ second: UInt64) -> UInt64 {
    var state = State(k0, k1)
    state.absorb(first)
    state.absorb(second)
    return state.finish(16 << 56)
  }

  private struct State {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64

    init(_ k0: UInt64, _ k1: UInt64) {
      v0 = k0 ^ 0x736f_6d65_7073_6575
      v1 = k1 ^ 0x646f_7261_6e64_6f6d
      v2 = k0 ^ 0x6c79_6765_6e65_7261
      v3 = k1 ^ 0x7465_6462_7974_6573
    }

    mutating func absorb(_ block: UInt64) {
      v3 ^= block
      round()
      round()
      v0 ^= block
    }

    /// - Parameter last: the bytes that fill no word, with the count of all in the highest byte.
    mutating func finish(_ last: UInt64) -> UInt64 {
      absorb(last)
      v2 ^= 0xff
      for _ in 0..<4 { round() }
      return v0 ^ v1 ^ v2 ^ v3
    }

    private mutating func round() {
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
  }
}
