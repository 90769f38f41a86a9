import Glibc

extension Bytes {
  /// Where the next line feed is.
  static func lineEnd(_ bytes: [UInt8], from start: Int) -> Int? {
    bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress, start < buffer.count,
        let found = memchr(base + start, 10, buffer.count - start)
      else { return nil }
      return UnsafeRawPointer(found) - base
    }
  }
}

/// Lines of a source, without their line ends.
final class LineReader {
  private let source: ByteSource
  private var buffer: [UInt8] = []
  private var place = 0
  private var isAtEnd = false
  private let limit: Int

  /// - Parameter limit: the longest line; a longer one ends the reading with an error.
  init(_ source: ByteSource, limit: Int) {
    self.source = source
    self.limit = limit
  }

  /// Makes a gzip source readable as its content, and drops a byte-order mark.
  static func text(_ source: ByteSource, limit: Int) throws -> LineReader {
    let head = try source.read(65_536) ?? []
    let whole = PrefixedSource(head, source)
    let reader: LineReader
    if head.starts(with: [0x1F, 0x8B]) {
      reader = LineReader(try GzipSource(whole), limit: limit)
    } else {
      reader = LineReader(whole, limit: limit)
    }
    try reader.fill()
    if reader.buffer.starts(with: [0xEF, 0xBB, 0xBF]) { reader.place = 3 }
    return reader
  }

  @discardableResult
  private func fill() throws -> Bool {
    if isAtEnd { return false }
    guard let piece = try source.read(65_536) else {
      isAtEnd = true
      return false
    }
    if place > 0 {
      buffer.removeFirst(place)
      place = 0
    }
    buffer.append(contentsOf: piece)
    return true
  }

  /// The next line; the last one needs no line feed.
  func next() throws -> [UInt8]? { try nextRange().map { Array(buffer[$0]) } }

  /// Calls the body with the next line, which is not copied.
  func next<Result>(_ body: (UnsafeBufferPointer<UInt8>) -> Result) throws -> Result? {
    guard let range = try nextRange() else { return nil }
    return buffer.withUnsafeBufferPointer { body(UnsafeBufferPointer(rebasing: $0[range])) }
  }

  private func nextRange() throws -> Range<Int>? {
    var from = place
    while true {
      if let end = Bytes.lineEnd(buffer, from: from) {
        let start = place
        place = end + 1
        return start..<(end > start && buffer[end - 1] == 13 ? end - 1 : end)
      }
      guard buffer.count - place <= limit else { throw CallError("token too long") }
      let scanned = buffer.count - place
      guard try fill() else { break }
      from = place + scanned
    }
    guard place < buffer.count else { return nil }
    defer { place = buffer.count }
    return place..<buffer.count
  }
}

/// Bytes already read, then the rest of a source.
final class PrefixedSource: ByteSource {
  private var head: [UInt8]?
  private let rest: ByteSource
  init(_ head: [UInt8], _ rest: ByteSource) {
    self.head = head.isEmpty ? nil : head
    self.rest = rest
  }
  override func read(_ maximum: Int) throws -> [UInt8]? {
    guard let head else { return try rest.read(maximum) }
    self.head = head.count > maximum ? Array(head[maximum...]) : nil
    return Array(head.prefix(maximum))
  }
}
