/// Damages inputs at random; the same seed gives the same inputs.
struct Mutator {
  private var state: UInt64
  private let samples: [[UInt8]]
  /// The longest input in bytes.
  private let limit: Int

  init(seed: UInt64, samples: [[UInt8]], limit: Int = 4_096) {
    state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    self.samples = samples.isEmpty ? [[]] : samples
    self.limit = limit
  }

  private mutating func number(_ below: Int) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return below > 0 ? Int(state >> 1) % below : 0
  }

  private static let interesting: [UInt8] = [0, 1, 16, 17, 0x7f, 0x80, 0xfe, 0xff]

  mutating func next() -> [UInt8] {
    var bytes = samples[number(samples.count)]
    for _ in 0...number(6) { change(&bytes) }
    return bytes.count > limit ? Array(bytes.prefix(limit)) : bytes
  }

  private mutating func change(_ bytes: inout [UInt8]) {
    let place = number(bytes.count + 1)
    switch number(8) {
    case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8(number(8))
    case 1 where place < bytes.count: bytes[place] = UInt8(number(256))
    case 2 where place < bytes.count: bytes[place] = Self.interesting[number(Self.interesting.count)]
    case 3: bytes.insert(UInt8(number(256)), at: place)
    case 4 where place < bytes.count: bytes.removeSubrange(place..<min(bytes.count, place + 1 + number(16)))
    case 5: bytes = Array(bytes.prefix(place))
    case 6:
      let part = bytes[place..<min(bytes.count, place + number(64))]
      bytes.insert(contentsOf: Array(part), at: number(bytes.count + 1))
    default:
      let other = samples[number(samples.count)]
      let start = number(other.count + 1)
      bytes.insert(contentsOf: other[start..<min(other.count, start + number(128))], at: place)
    }
  }
}
