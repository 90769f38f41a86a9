/// CRC-32C (Castagnoli), eight bytes at a step: guards the records of the queue file against torn and rotten bytes.
enum CRC32C {
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for index in 0..<256 {
      var value = UInt32(index)
      for _ in 0..<8 { value = value & 1 == 1 ? (value >> 1) ^ 0x82F6_3B78 : value >> 1 }
      tables[index] = value
    }
    for index in 0..<256 {
      for slice in 1..<8 {
        let before = tables[(slice - 1) * 256 + index]
        tables[slice * 256 + index] = (before >> 8) ^ tables[Int(before & 0xFF)]
      }
    }
    return tables
  }()

  static func checksum(_ bytes: some Sequence<UInt8>, seed: UInt32 = 0) -> UInt32 {
    let fast = bytes.withContiguousStorageIfAvailable { checksum(buffer: $0, seed: seed) }
    if let fast { return fast }
    return Array(bytes).withUnsafeBufferPointer { checksum(buffer: $0, seed: seed) }
  }

  private static func checksum(buffer: UnsafeBufferPointer<UInt8>, seed: UInt32) -> UInt32 {
    tables.withUnsafeBufferPointer { table in
      var value = ~seed
      var index = 0
      while index + 8 <= buffer.count {
        let low =
          value
          ^ UInt32(
            littleEndian: UnsafeRawBufferPointer(buffer)
              .loadUnaligned(fromByteOffset: index, as: UInt32.self))
        let high = UInt32(
          littleEndian: UnsafeRawBufferPointer(buffer)
            .loadUnaligned(fromByteOffset: index + 4, as: UInt32.self))
        var next = table[7 * 256 + Int(low & 0xFF)] ^ table[6 * 256 + Int((low >> 8) & 0xFF)]
        next ^= table[5 * 256 + Int((low >> 16) & 0xFF)] ^ table[4 * 256 + Int(low >> 24)]
        next ^= table[3 * 256 + Int(high & 0xFF)] ^ table[2 * 256 + Int((high >> 8) & 0xFF)]
        next ^= table[256 + Int((high >> 16) & 0xFF)] ^ table[Int(high >> 24)]
        value = next
        index += 8
      }
      while index < buffer.count {
        value = (value >> 8) ^ table[Int((value ^ UInt32(buffer[index])) & 0xFF)]
        index += 1
      }
      return ~value
    }
  }
}
