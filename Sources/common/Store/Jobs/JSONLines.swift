import Foundation

/// JSONL as agents send it: one object per line, each ended by an LF that may be missing at the end (server.md §2).
enum JSONLines {
  private static let lineFeed = UInt8(ascii: "\n")

  /// Calls `body` with each non-empty line, without its LF.
  static func forEachLine(
    _ text: UnsafeBufferPointer<UInt8>, _ body: (UnsafeBufferPointer<UInt8>) throws -> Void
  ) rethrows {
    guard let base = text.baseAddress else { return }
    var start = 0
    while start < text.count {
      // memchr is many times faster than a loop over bytes.
      let found = memchr(base + start, Int32(lineFeed), text.count - start)
      let end = found.map { UnsafeRawPointer($0) - UnsafeRawPointer(base) } ?? text.count
      if end > start { try body(UnsafeBufferPointer(rebasing: text[start..<end])) }
      start = end + 1
    }
  }

  /// The lines without their LF; empty lines are left out.
  static func split(_ text: some Collection<UInt8>) -> [[UInt8]] {
    withBytes(text) { bytes in
      var lines: [[UInt8]] = []
      forEachLine(bytes) { lines.append(Array($0)) }
      return lines
    }
  }

  /// The number of non-empty lines.
  static func count(_ text: Data) -> Int64 {
    withBytes(text) { bytes in
      var count: Int64 = 0
      forEachLine(bytes) { _ in count += 1 }
      return count
    }
  }

  private static func withBytes<Value>(
    _ text: some Collection<UInt8>, _ body: (UnsafeBufferPointer<UInt8>) -> Value
  ) -> Value {
    if let value = text.withContiguousStorageIfAvailable(body) { return value }
    return Array(text).withUnsafeBufferPointer(body)
  }

  /// The same text with a final LF.
  static func ended(_ text: Data) -> Data {
    guard let last = text.last, last != lineFeed else { return text }
    var result = text
    result.append(lineFeed)
    return result
  }

  /// Adds `members` (`"Key":"value"` pairs, without a leading comma) at the end of each object (server.md §3). The
  /// rest of the text stays as it is; an empty object stays valid JSON.
  /// - Returns: the rows, how many, and how many lines were left out because they are no objects.
  static func adding(_ members: String, to text: some Collection<UInt8>) -> (Data, count: Int64, refused: Int) {
    var result: [UInt8] = []
    result.reserveCapacity(text.count + 128)
    var count: Int64 = 0
    var refused = 0
    let added = Array(members.utf8)
    withBytes(text) { bytes in
      forEachLine(bytes) { line in
        if append(line, adding: added, to: &result) { count += 1 } else { refused += 1 }
      }
    }
    return (Data(result), count, refused)
  }

  private static func append(
    _ line: UnsafeBufferPointer<UInt8>, adding members: [UInt8], to result: inout [UInt8]
  ) -> Bool {
    let isSpace = { (byte: UInt8) in byte == 0x20 || byte == 0x09 || byte == 0x0D }
    guard let close = line.lastIndex(where: { !isSpace($0) }), line[close] == UInt8(ascii: "}"),
      let open = line.firstIndex(where: { !isSpace($0) }), line[open] == UInt8(ascii: "{"), open < close
    else { return false }
    result.append(contentsOf: line[..<close])
    if !line[(open + 1)..<close].allSatisfy(isSpace) { result.append(UInt8(ascii: ",")) }
    result.append(contentsOf: members)
    result.append(contentsOf: line[close...])
    result.append(lineFeed)
    return true
  }
}

/// Small JSON objects written by the store itself.
enum JSONText {
  /// A string literal with quotes.
  static func literal(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case let control where control.value < 0x20: result += escaped(control.value)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  private static func escaped(_ value: UInt32) -> String {
    let hex = String(value, radix: 16)
    return "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
  }

  /// One row of texts and numbers, with an LF. Values are JSON already.
  static func row(_ members: [(String, String)]) -> Data {
    let body = members.map { "\(literal($0.0)):\($0.1)" }.joined(separator: ",")
    return Data("{\(body)}\n".utf8)
  }
}
