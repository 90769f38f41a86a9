/// Unpacks bzip2 data block by block.
final class Bzip2Source: ByteSource {
  private var bits: BitReader
  private var blockSize = 0
  private var pending: [UInt8] = []
  private var place = 0
  private var isAtEnd = false

  init(_ outer: ByteSource) throws {
    bits = BitReader(outer)
    super.init()
    guard try readHeader() else { throw CallError("bzip2: not a bzip2 file") }
  }

  override func read(_ maximum: Int) throws -> [UInt8]? {
    guard maximum > 0 else { return nil }
    while place >= pending.count {
      guard !isAtEnd else { return nil }
      place = 0
      pending = try nextBlock()
    }
    let end = min(pending.count, place + maximum)
    defer { place = end }
    return Array(pending[place..<end])
  }

  /// `BZh` and the size of blocks in units of 100,000 bytes; false at the end of the data.
  private func readHeader() throws -> Bool {
    guard try bits.hasMore() else { return false }
    guard try bits.take(8) == 0x42, try bits.take(8) == 0x5A, try bits.take(8) == 0x68 else {
      throw CallError("bzip2: not a bzip2 file")
    }
    let level = try bits.take(8)
    guard (0x31...0x39).contains(level) else { throw CallError("bzip2: bad block size") }
    blockSize = Int(level - 0x30) * 100_000
    return true
  }

  private func nextBlock() throws -> [UInt8] {
    let magic = UInt64(try bits.take(24)) << 24 | UInt64(try bits.take(24))
    if magic == 0x1772_4538_5090 {
      _ = try bits.take(32)
      bits.alignToByte()
      // Files may hold several streams one after the other.
      if try !readHeader() { isAtEnd = true }
      return []
    }
    guard magic == 0x3141_5926_5359 else { throw CallError("bzip2: damaged data") }
    let checksum = try bits.take(32)
    guard try bits.take(1) == 0 else { throw CallError("bzip2: randomised blocks are not supported") }
    let origin = Int(try bits.take(24))
    let out = try expandRuns(invert(try symbols(), origin))
    guard Self.checksum(out) == checksum else { throw CallError("bzip2: wrong checksum") }
    return out
  }

  // MARK: Huffman codes

  private struct Code {
    private var limits = [Int32](repeating: -1, count: 22)
    private var bases = [Int32](repeating: 0, count: 22)
    private var permutation: [UInt16] = []

    init(_ lengths: [UInt8]) throws {
      for length in 1...20 {
        for (symbol, own) in lengths.enumerated() where Int(own) == length { permutation.append(UInt16(symbol)) }
      }
      var code: Int32 = 0
      var index: Int32 = 0
      for length in 1...20 {
        let count = Int32(lengths.count { Int($0) == length })
        bases[length] = index - code
        limits[length] = count > 0 ? code + count - 1 : -1
        code += count
        index += count
        guard code <= 1 << Int32(length) else { throw CallError("bzip2: bad code") }
        code <<= 1
      }
    }

    func next(_ bits: inout BitReader) throws -> Int {
      var code: Int32 = 0
      for length in 1...20 {
        code = code << 1 | Int32(try bits.take(1))
        if limits[length] >= 0, code <= limits[length] {
          let place = Int(code + bases[length])
          guard permutation.indices.contains(place) else { break }
          return Int(permutation[place])
        }
      }
      throw CallError("bzip2: bad code")
    }
  }

  /// The bytes of a block before the transform is undone.
  private func symbols() throws -> [UInt8] {
    var used: [UInt8] = []
    let groups = try bits.take(16)
    for group in 0..<16 where groups >> UInt32(15 - group) & 1 == 1 {
      let members = try bits.take(16)
      for member in 0..<16 where members >> UInt32(15 - member) & 1 == 1 { used.append(UInt8(group * 16 + member)) }
    }
    let codeCount = Int(try bits.take(3))
    let selectorCount = Int(try bits.take(15))
    guard !used.isEmpty, (2...6).contains(codeCount), selectorCount > 0 else { throw CallError("bzip2: damaged block") }
    var order = Array(0..<codeCount)
    var selectors: [Int] = []
    selectors.reserveCapacity(selectorCount)
    for _ in 0..<selectorCount {
      var place = 0
      while try bits.take(1) == 1 {
        place += 1
        guard place < codeCount else { throw CallError("bzip2: damaged block") }
      }
      let selected = order.remove(at: place)
      order.insert(selected, at: 0)
      selectors.append(selected)
    }
    let symbolCount = used.count + 2
    let codes = try (0..<codeCount).map { _ in try readCode(symbolCount) }
    return try decode(used, codes, selectors, endOfBlock: symbolCount - 1)
  }

  private func readCode(_ symbolCount: Int) throws -> Code {
    var lengths: [UInt8] = []
    var length = Int(try bits.take(5))
    for _ in 0..<symbolCount {
      while true {
        guard (1...20).contains(length) else { throw CallError("bzip2: bad code") }
        guard try bits.take(1) == 1 else { break }
        length += try bits.take(1) == 1 ? -1 : 1
      }
      lengths.append(UInt8(length))
    }
    return try Code(lengths)
  }

  private func decode(_ used: [UInt8], _ codes: [Code], _ selectors: [Int], endOfBlock: Int) throws -> [UInt8] {
    var recent = used
    var out: [UInt8] = []
    out.reserveCapacity(blockSize)
    var run = 0
    var runBit = 1
    var group = -1
    var left = 0
    while true {
      if left == 0 {
        group += 1
        left = 50
        guard group < selectors.count else { throw CallError("bzip2: damaged block") }
      }
      left -= 1
      let symbol = try codes[selectors[group]].next(&bits)
      if symbol <= 1 {
        run += runBit << symbol
        runBit <<= 1
        guard run <= blockSize else { throw CallError("bzip2: damaged block") }
        continue
      }
      if run > 0 {
        guard out.count + run <= blockSize else { throw CallError("bzip2: damaged block") }
        out.append(contentsOf: repeatElement(recent[0], count: run))
        run = 0
        runBit = 1
      }
      if symbol == endOfBlock { return out }
      guard symbol - 1 < recent.count, out.count < blockSize else { throw CallError("bzip2: damaged block") }
      let byte = recent.remove(at: symbol - 1)
      recent.insert(byte, at: 0)
      out.append(byte)
    }
  }

  // MARK: transform and runs

  private func invert(_ block: [UInt8], _ origin: Int) throws -> [UInt8] {
    guard block.indices.contains(origin) else { throw CallError("bzip2: damaged block") }
    var starts = [Int](repeating: 0, count: 256)
    for byte in block { starts[Int(byte)] += 1 }
    var total = 0
    for value in starts.indices {
      let count = starts[value]
      starts[value] = total
      total += count
    }
    var next = [UInt32](repeating: 0, count: block.count)
    for (place, byte) in block.enumerated() {
      next[starts[Int(byte)]] = UInt32(place)
      starts[Int(byte)] += 1
    }
    var out: [UInt8] = []
    out.reserveCapacity(block.count)
    var place = Int(next[origin])
    for _ in block.indices {
      out.append(block[place])
      place = Int(next[place])
    }
    return out
  }

  /// Four equal bytes are followed by how many more there are.
  private func expandRuns(_ bytes: [UInt8]) throws -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count)
    var same = 0
    var last: UInt8?
    for byte in bytes {
      if same == 4, let value = last {
        out.append(contentsOf: repeatElement(value, count: Int(byte)))
        same = 0
        last = nil
        continue
      }
      same = byte == last ? same + 1 : 1
      last = byte
      out.append(byte)
    }
    return out
  }

  private static let table: [UInt32] = (0..<256).map { value in
    (0..<8).reduce(UInt32(value) << 24) { crc, _ in crc & 0x8000_0000 != 0 ? crc << 1 ^ 0x04C1_1DB7 : crc << 1 }
  }

  private static func checksum(_ bytes: [UInt8]) -> UInt32 {
    ~bytes.reduce(UInt32.max) { $0 << 8 ^ table[Int(UInt8(truncatingIfNeeded: $0 >> 24) ^ $1)] }
  }
}

/// Bits of a source, the highest of each byte first.
struct BitReader {
  private let source: ByteSource
  private var buffer: [UInt8] = []
  private var place = 0
  private var held: UInt64 = 0
  private var count = 0

  init(_ source: ByteSource) { self.source = source }

  private mutating func fill() throws -> Bool {
    if place == buffer.count {
      guard let more = try source.read(1 << 16), !more.isEmpty else { return false }
      buffer = more
      place = 0
    }
    held = held << 8 | UInt64(buffer[place])
    place += 1
    count += 8
    return true
  }

  mutating func hasMore() throws -> Bool {
    if count > 0 { return true }
    return try fill()
  }

  /// The next bits, at most 32.
  mutating func take(_ wanted: Int) throws -> UInt32 {
    while count < wanted { guard try fill() else { throw CallError("unexpected EOF") } }
    count -= wanted
    return UInt32(truncatingIfNeeded: held >> UInt64(count)) & (wanted == 32 ? .max : 1 << UInt32(wanted) - 1)
  }

  mutating func alignToByte() { count -= count % 8 }
}
