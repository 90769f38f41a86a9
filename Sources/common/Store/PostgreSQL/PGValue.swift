import Foundation

/// A parameter of a statement. All parameters are bound in PostgreSQL's binary format; the SQL text names their types
/// (`$1::bigint`), so that nothing is ever interpolated.
enum PGValue: Sendable {
  case null
  case int(Int64)
  case bool(Bool)
  case text(String)
  case bytes(Data)
  case ints([Int64])
  case optionalInts([Int64?])
  case bools([Bool])
  case texts([String])
  case blobs([Data])
  case optionalBlobs([Data?])

  static func time(_ time: Timestamp) -> PGValue { .int(time.microseconds) }
  static func optionalTime(_ time: Timestamp?) -> PGValue { time.map { .int($0.microseconds) } ?? .null }
  static func optionalBytes(_ bytes: Data?) -> PGValue { bytes.map(PGValue.bytes) ?? .null }
}

/// One statement with its parameters, encoded by the caller so that the socket's thread only copies.
struct PGStatement: Sendable {
  let sql: String
  fileprivate(set) var buffer: [UInt8] = []
  /// Where each parameter lies in `buffer`; a negative length is NULL.
  fileprivate(set) var spans: [(offset: Int, length: Int)] = []

  init(_ sql: String, _ values: [PGValue] = []) {
    self.sql = sql
    spans.reserveCapacity(values.count)
    for value in values { append(value) }
  }

  private mutating func append(_ value: PGValue) {
    let start = buffer.count
    switch value {
    case .null:
      spans.append((start, -1))
      return
    case .int(let number): buffer.appendBigEndian(number)
    case .bool(let flag): buffer.append(flag ? 1 : 0)
    case .text(let text): buffer.append(contentsOf: text.utf8)
    case .bytes(let data): buffer.append(contentsOf: data)
    case .ints(let numbers): array(.int8, numbers.count) { $0.appendInts(numbers) }
    case .optionalInts(let numbers): array(.int8, numbers.count, hasNulls: true) { $0.appendInts(numbers) }
    case .bools(let flags): array(.bool, flags.count) { $0.appendBools(flags) }
    case .texts(let texts): array(.text, texts.count) { $0.appendTexts(texts) }
    case .blobs(let blobs): array(.bytea, blobs.count) { $0.appendBlobs(blobs) }
    case .optionalBlobs(let blobs): array(.bytea, blobs.count, hasNulls: true) { $0.appendBlobs(blobs) }
    }
    spans.append((start, buffer.count - start))
  }

  /// OIDs of the element types; they never change.
  private enum Element: Int32 {
    case bool = 16
    case bytea = 17
    case int8 = 20
    case text = 25
  }

  private mutating func array(
    _ element: Element, _ count: Int, hasNulls: Bool = false, _ elements: (inout [UInt8]) -> Void
  ) {
    buffer.appendBigEndian(Int32(count == 0 ? 0 : 1))
    buffer.appendBigEndian(Int32(hasNulls ? 1 : 0))
    buffer.appendBigEndian(element.rawValue)
    guard count > 0 else { return }
    buffer.appendBigEndian(Int32(clamping: count))
    buffer.appendBigEndian(Int32(1))
    elements(&buffer)
  }
}

extension [UInt8] {
  fileprivate mutating func appendBigEndian<Number: FixedWidthInteger>(_ number: Number) {
    Swift.withUnsafeBytes(of: number.bigEndian) { append(contentsOf: $0) }
  }

  fileprivate mutating func appendInts(_ numbers: [Int64]) {
    reserveCapacity(count + numbers.count * 12)
    for number in numbers {
      appendBigEndian(Int32(8))
      appendBigEndian(number)
    }
  }

  fileprivate mutating func appendInts(_ numbers: [Int64?]) {
    for number in numbers {
      guard let number else {
        appendBigEndian(Int32(-1))
        continue
      }
      appendBigEndian(Int32(8))
      appendBigEndian(number)
    }
  }

  fileprivate mutating func appendBools(_ flags: [Bool]) {
    for flag in flags {
      appendBigEndian(Int32(1))
      append(flag ? 1 : 0)
    }
  }

  fileprivate mutating func appendTexts(_ texts: [String]) {
    for text in texts {
      appendBigEndian(Int32(clamping: text.utf8.count))
      append(contentsOf: text.utf8)
    }
  }

  fileprivate mutating func appendBlobs(_ blobs: [Data]) {
    reserveCapacity(count + blobs.reduce(0) { $0 + $1.count + 4 })
    for blob in blobs {
      appendBigEndian(Int32(clamping: blob.count))
      append(contentsOf: blob)
    }
  }

  fileprivate mutating func appendBlobs(_ blobs: [Data?]) {
    for blob in blobs {
      guard let blob else {
        appendBigEndian(Int32(-1))
        continue
      }
      appendBigEndian(Int32(clamping: blob.count))
      append(contentsOf: blob)
    }
  }
}

extension String {
  /// PostgreSQL's text holds no NUL; a text that only serves display loses them.
  var withoutNUL: String {
    utf8.contains(0) ? String(String.UnicodeScalarView(unicodeScalars.filter { $0.value != 0 })) : self
  }
}
