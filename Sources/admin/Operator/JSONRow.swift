import Foundation

/// One JSON object read as text: members in their order, values as they are written. JSON decoders forget the order,
/// which is the order of the query's columns.
struct JSONRow: Equatable {
  struct Member: Equatable {
    var key: String
    /// The value's own text.
    var value: String
  }

  var members: [Member]

  /// - Returns: nil when the text is no object.
  init?(_ text: String) {
    var scanner = JSONScanner(Array(text.utf8))
    guard let members = scanner.object() else { return nil }
    self.members = members
  }

  init(members: [Member]) {
    self.members = members
  }

  /// The value as a person reads it: texts without quotes, null as nothing, the rest as JSON.
  static func display(_ value: String) -> String {
    if value == "null" { return "" }
    guard value.hasPrefix("\"") else { return value }
    return string(value) ?? value
  }

  /// Decodes a JSON string literal.
  static func string(_ literal: String) -> String? {
    if literal.hasPrefix("\""), literal.utf8.count >= 2, !literal.utf8.contains(UInt8(ascii: "\\")) {
      return String(literal.dropFirst().dropLast())
    }
    let data = Data("[\(literal)]".utf8)
    return (try? JSONSerialization.jsonObject(with: data) as? [Any])?.first as? String
  }
}

/// Finds the members of one object. It checks what it needs for their borders, not all of JSON.
private struct JSONScanner {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { position += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    skipSpace()
    guard current == byte else { return false }
    position += 1
    return true
  }

  mutating func object() -> [JSONRow.Member]? {
    guard take(UInt8(ascii: "{")) else { return nil }
    if take(UInt8(ascii: "}")) { return [] }
    var members: [JSONRow.Member] = []
    repeat {
      skipSpace()
      guard current == UInt8(ascii: "\""), let literal = value(), let key = JSONRow.string(literal),
        take(UInt8(ascii: ":")), let text = value()
      else { return nil }
      members.append(JSONRow.Member(key: key, value: text))
    } while take(UInt8(ascii: ","))
    return take(UInt8(ascii: "}")) ? members : nil
  }

  /// The text of one value of any kind.
  private mutating func value() -> String? {
    skipSpace()
    let start = position
    var depth = 0
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        guard skipString() else { return nil }
        if depth == 0 { return text(from: start) }
        continue
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        if depth == 0 { return start < position ? text(from: start) : nil }
        depth -= 1
        if depth == 0 {
          position += 1
          return text(from: start)
        }
      case UInt8(ascii: ",") where depth == 0: return start < position ? text(from: start) : nil
      default: break
      }
      position += 1
    }
    return nil
  }

  private mutating func skipString() -> Bool {
    position += 1
    while let byte = current {
      position += 1
      if byte == UInt8(ascii: "\"") { return true }
      if byte == UInt8(ascii: "\\") { position += 1 }
    }
    return false
  }

  private func text(from start: Int) -> String {
    var end = position
    while end > start,
      bytes[end - 1] == 0x20 || bytes[end - 1] == 0x0A || bytes[end - 1] == 0x0D || bytes[end - 1] == 0x09
    {
      end -= 1
    }
    return String(decoding: bytes[start..<end], as: UTF8.self)
  }
}
