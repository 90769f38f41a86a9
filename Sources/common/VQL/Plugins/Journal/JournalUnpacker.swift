import Glibc

/// Unpacks the data of journal objects. LZ4 is read here; ZSTD and XZ by the libraries that systemd itself uses, loaded
/// when they are first needed.
struct JournalUnpacker {
  private static let maximumSize = 64 << 20

  func unpack(_ data: [UInt8], flags: UInt8) throws -> [UInt8] {
    switch flags & 7 {
    case 0: return data
    case 1: return try XZLibrary.unpack(data, limit: Self.maximumSize)
    case 2: return try lz4(data)
    case 4: return try ZstdLibrary.unpack(data, limit: Self.maximumSize)
    default: throw CallError("unknown compression \(flags)")
    }
  }

  /// A block with its unpacked size in front.
  private func lz4(_ data: [UInt8]) throws -> [UInt8] {
    let size = JournalFile.number(data, 0, 8)
    guard data.count > 8, size > 0, size <= Int64(Self.maximumSize) else { throw CallError("lz4: damaged data") }
    return try LZ4.block(data[8...], size: Int(size))
  }
}

/// The LZ4 block format.
enum LZ4 {
  static func block(_ input: ArraySlice<UInt8>, size: Int) throws -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(size)
    var place = input.startIndex
    func length(_ start: Int) throws -> Int {
      var total = start
      guard start == 15 else { return total }
      while true {
        guard place < input.endIndex, total <= size else { throw CallError("lz4: damaged data") }
        let byte = input[place]
        place += 1
        total += Int(byte)
        if byte != 255 { return total }
      }
    }
    while place < input.endIndex {
      let token = input[place]
      place += 1
      let literals = try length(Int(token >> 4))
      guard place + literals <= input.endIndex, out.count + literals <= size else { throw CallError("lz4: damaged data") }
      out += input[place..<place + literals]
      place += literals
      if place == input.endIndex { break }
      guard place + 2 <= input.endIndex else { throw CallError("lz4: damaged data") }
      let offset = Int(input[place]) | Int(input[place + 1]) << 8
      place += 2
      let count = try length(Int(token & 15)) + 4
      guard offset > 0, offset <= out.count, out.count + count <= size else { throw CallError("lz4: damaged data") }
      for _ in 0..<count { out.append(out[out.count - offset]) }
    }
    guard out.count == size else { throw CallError("lz4: damaged data") }
    return out
  }
}

/// `libzstd`, found at run time.
enum ZstdLibrary {
  private typealias ContentSize = @convention(c) (UnsafeRawPointer?, Int) -> UInt64
  private typealias Decompress = @convention(c) (UnsafeMutableRawPointer?, Int, UnsafeRawPointer?, Int) -> Int
  private typealias IsError = @convention(c) (Int) -> UInt32

  static func unpack(_ data: [UInt8], limit: Int) throws -> [UInt8] {
    guard let library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL),
      let contentSize = dlsym(library, "ZSTD_getFrameContentSize"), let decompress = dlsym(library, "ZSTD_decompress"),
      let isError = dlsym(library, "ZSTD_isError")
    else { throw CallError("zstd: libzstd is not installed") }
    let size = data.withUnsafeBytes { unsafeBitCast(contentSize, to: ContentSize.self)($0.baseAddress, $0.count) }
    guard size <= UInt64(limit) else { throw CallError("zstd: damaged data") }
    var failed = false
    let out = [UInt8](unsafeUninitializedCapacity: max(1, Int(size))) { buffer, count in
      let written = data.withUnsafeBytes {
        unsafeBitCast(decompress, to: Decompress.self)(buffer.baseAddress, Int(size), $0.baseAddress, $0.count)
      }
      failed = unsafeBitCast(isError, to: IsError.self)(written) != 0
      count = failed ? 0 : min(written, Int(size))
    }
    guard !failed else { throw CallError("zstd: damaged data") }
    return out
  }
}

/// `liblzma`, found at run time.
enum XZLibrary {
  private typealias Decode =
    @convention(c) (
      UnsafeMutablePointer<UInt64>, UInt32, UnsafeRawPointer?, UnsafeRawPointer?, UnsafeMutablePointer<Int>, Int,
      UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>, Int
    ) -> Int32

  static func unpack(_ data: [UInt8], limit: Int) throws -> [UInt8] {
    guard let library = dlopen("liblzma.so.5", RTLD_NOW | RTLD_LOCAL),
      let symbol = dlsym(library, "lzma_stream_buffer_decode")
    else { throw CallError("xz: liblzma is not installed") }
    let decode = unsafeBitCast(symbol, to: Decode.self)
    var capacity = max(4096, data.count * 8)
    while capacity <= limit {
      var memory: UInt64 = 256 << 20
      var inputPlace = 0
      var outputPlace = 0
      var code: Int32 = -1
      let out = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
        code = data.withUnsafeBytes {
          decode(&memory, 0, nil, $0.baseAddress, &inputPlace, $0.count, buffer.baseAddress, &outputPlace, capacity)
        }
        count = code == 0 ? outputPlace : 0
      }
      if code == 0 { return out }
      // 10: the output did not fit.
      guard code == 10 else { break }
      capacity *= 4
    }
    throw CallError("xz: damaged data")
  }
}
