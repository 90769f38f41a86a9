import CZlib

/// zlib streams (RFC 1950) as message lists, rows and upload pieces use them (wire.md §1, §4; crypto.md §1).
package enum Zlib {
  /// Why a stream was refused.
  package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    /// Not a zlib stream, or damaged, or cut short.
    case malformed
    /// Inflated past the stated limit in bytes.
    case tooLarge(limit: Int)
    /// zlib could not be set up (out of memory).
    case unavailable

    package var description: String {
      switch self {
      case .malformed: "not a valid zlib stream"
      case .tooLarge(let limit): "inflates to more than \(limit) bytes"
      case .unavailable: "zlib could not be initialised"
      }
    }
  }

  /// Inflates one whole stream; bytes after it are ignored.
  /// - Parameters:
  ///   - bytes: the stream.
  ///   - limit: the largest accepted result in bytes; memory never exceeds it by more than a factor of two.
  package static func inflate(_ bytes: some Collection<UInt8>, limit: Int) throws(Failure) -> [UInt8] {
    if let result = bytes.withContiguousStorageIfAvailable({ inflateResult($0, limit: limit) }) {
      return try result.get()
    }
    return try Array(bytes).withUnsafeBufferPointer { inflateResult($0, limit: limit) }.get()
  }

  /// Deflates at the fastest level, as the reference does.
  package static func deflate(_ bytes: some Collection<UInt8>, level: Int32 = 1) throws(Failure) -> [UInt8] {
    if let result = bytes.withContiguousStorageIfAvailable({ deflateResult($0, level: level) }) {
      return try result.get()
    }
    return try Array(bytes).withUnsafeBufferPointer { deflateResult($0, level: level) }.get()
  }

  private static func inflateResult(_ input: UnsafeBufferPointer<UInt8>, limit: Int) -> Result<[UInt8], Failure> {
    guard let base = input.baseAddress, input.count > 0 else { return .failure(.malformed) }
    var stream = z_stream()
    guard inflateInit_(&stream, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      return .failure(.unavailable)
    }
    defer { inflateEnd(&stream) }
    stream.next_in = UnsafeMutablePointer(mutating: base)
    stream.avail_in = UInt32(clamping: input.count)
    // Four times the input is the usual ratio of JSON rows; the buffer grows by doubling.
    var capacity = min(max(1, limit), max(256, input.count.multipliedReportingOverflow(by: 4).partialValue))
    var output: [UInt8] = []
    while true {
      let before = output.count
      var status = Z_OK
      output.append(
        contentsOf: [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
          stream.next_out = buffer.baseAddress
          stream.avail_out = UInt32(clamping: capacity)
          status = CZlib.inflate(&stream, Z_NO_FLUSH)
          count = capacity - Int(stream.avail_out)
        })
      if output.count > limit { return .failure(.tooLarge(limit: limit)) }
      if status == Z_STREAM_END { return .success(output) }
      // Out of input before the end of the stream, or damaged.
      guard status == Z_OK, stream.avail_out == 0 || output.count > before else { return .failure(.malformed) }
      if stream.avail_in == 0, stream.avail_out != 0 { return .failure(.malformed) }
      // One byte over the limit is enough to know that it is exceeded.
      capacity = min(max(output.count, 256), limit - output.count + 1)
    }
  }

  private static func deflateResult(_ input: UnsafeBufferPointer<UInt8>, level: Int32) -> Result<[UInt8], Failure> {
    var length = compressBound(UInt(input.count))
    let capacity = Int(length)
    var status = Z_OK
    let output = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
      var empty: UInt8 = 0
      if let source = input.baseAddress {
        status = compress2(buffer.baseAddress, &length, source, UInt(input.count), level)
      } else {
        status = compress2(buffer.baseAddress, &length, &empty, 0, level)
      }
      count = status == Z_OK ? Int(length) : 0
    }
    return status == Z_OK ? .success(output) : .failure(.unavailable)
  }
}
