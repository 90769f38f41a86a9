import CZlib

/// Unpacks zlib, gzip and raw deflate data piece by piece.
final class Inflate {
  enum Format: Int32 {
    case gzip = 31
    case zlib = 15
    case raw = -15
  }
  private var stream = z_stream()
  private var isOpen = false
  private(set) var isAtEnd = false
  private let pull: () throws -> [UInt8]?
  private var input: [UInt8] = []
  private var consumed = 0
  private let format: Format

  /// - Parameter pull: gives the next packed bytes, nil at the end.
  init(_ format: Format, pull: @escaping () throws -> [UInt8]?) throws {
    self.pull = pull
    self.format = format
    guard inflateInit2_(&stream, format.rawValue, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw CallError("inflate: out of memory")
    }
    isOpen = true
  }

  deinit { if isOpen { inflateEnd(&stream) } }

  /// The next unpacked bytes, at most as many as asked for; nil at the end.
  func read(_ maximum: Int) throws -> [UInt8]? {
    guard maximum > 0 else { return [] }
    while !isAtEnd {
      if consumed == input.count {
        guard let more = try pull(), !more.isEmpty else {
          throw CallError("unexpected EOF")
        }
        input = more
        consumed = 0
      }
      var status = Z_OK
      let out = [UInt8](unsafeUninitializedCapacity: maximum) { output, count in
        input.withUnsafeMutableBufferPointer { buffer in
          stream.next_in = buffer.baseAddress.map { $0 + consumed }
          stream.avail_in = UInt32(buffer.count - consumed)
          stream.next_out = output.baseAddress
          stream.avail_out = UInt32(maximum)
          status = inflate(&stream, Z_NO_FLUSH)
          consumed = buffer.count - Int(stream.avail_in)
        }
        count = maximum - Int(stream.avail_out)
      }
      if status == Z_STREAM_END {
        isAtEnd = try !nextMember()
      } else if status != Z_OK && status != Z_BUF_ERROR {
        throw CallError("gzip: invalid data")
      }
      if !out.isEmpty { return out }
    }
    return nil
  }

  /// Gzip files may hold several members one after the other.
  private func nextMember() throws -> Bool {
    guard format == .gzip else { return false }
    if consumed == input.count {
      guard let more = try pull(), !more.isEmpty else { return false }
      input = more
      consumed = 0
    }
    guard input[consumed] == 0x1F else { return false }
    inflateReset(&stream)
    return true
  }

  static func all(_ data: [UInt8], format: Format, limit: Int) throws -> [UInt8] {
    var pending: [UInt8]? = data
    let inflate = try Inflate(format) {
      defer { pending = nil }
      return pending
    }
    var out: [UInt8] = []
    while out.count < limit, let piece = try inflate.read(min(65_536, limit - out.count)) { out += piece }
    return out
  }
}
