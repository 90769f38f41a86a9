import Foundation
import PublicIdentity

/// An instant in microseconds since 1970, the unit of the protocol's own time fields (wire.md §4).
package struct Timestamp: Hashable, Comparable, Sendable, Codable {
  package var microseconds: Int64

  package init(microseconds: Int64) {
    self.microseconds = microseconds
  }

  /// - Parameter seconds: Unix seconds.
  package init(seconds: Int64) {
    microseconds = seconds.multipliedReportingOverflow(by: 1_000_000).partialValue
  }

  /// The wall clock of this machine.
  package static func now() -> Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
  }

  /// Unix seconds, rounded down.
  package var seconds: Int64 { microseconds.floorDivided(by: 1_000_000) }

  /// Days since 1970-01-01 UTC.
  package var day: Int64 { microseconds.floorDivided(by: 86_400_000_000) }

  package var date: Date { Date(timeIntervalSince1970: Double(microseconds) / 1_000_000) }

  package static func < (left: Timestamp, right: Timestamp) -> Bool { left.microseconds < right.microseconds }

  package func advanced(by duration: Duration) -> Timestamp {
    Timestamp(microseconds: microseconds &+ duration.wholeMicroseconds)
  }
}

extension Int64 {
  func floorDivided(by divisor: Int64) -> Int64 {
    let quotient = self / divisor
    return self % divisor < 0 ? quotient - 1 : quotient
  }

  /// A protocol counter as SQL can hold it: values above `Int64.max` become `Int64.max`.
  init(saturating value: UInt64) {
    self = Int64(exactly: value) ?? .max
  }
}

extension Duration {
  /// The whole microseconds of this duration.
  package var wholeMicroseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds &* 1_000_000 &+ attoseconds / 1_000_000_000_000
  }
}

/// The name of one flow (collection) of one client.
package struct FlowName: Hashable, Sendable, CustomStringConvertible {
  package let client: ClientName
  package let flow: FlowID

  package init(client: ClientName, flow: FlowID) {
    self.client = client
    self.flow = flow
  }

  package var description: String { "\(client)/\(flow)" }
}

/// A flow id whose form was checked: `F.` and base32hex, with `.H` for a hunt's flows (server.md §2, §5).
package struct FlowID: Hashable, Sendable, CustomStringConvertible {
  package let text: String

  /// - Returns: nil when `text` is not a well-formed flow id.
  package init?(_ text: String) {
    guard text.hasPrefix("F.") else { return nil }
    var digits = text.utf8.dropFirst(2)
    if text.hasSuffix(".H") { digits = digits.dropLast(2) }
    guard (1...32).contains(digits.count), digits.allSatisfy(ASCII.isBase32Hex) else { return nil }
    self.text = text
  }

  /// A new id: base32hex over 4 bytes of big-endian Unix seconds and 4 random bytes (server.md §5).
  package static func make(at time: Timestamp, random: UInt32 = .random(in: .min ... .max)) -> FlowID {
    let seconds = UInt32(truncatingIfNeeded: time.seconds)
    let value = UInt64(seconds) << 32 | UInt64(random)
    return FlowID(unchecked: "F." + ASCII.base32Hex(value))
  }

  /// A new id of a flow that a hunt starts.
  static func makeForHunt(at time: Timestamp) -> FlowID { FlowID(unchecked: make(at: time).text + ".H") }

  /// Holds the uploads of event queries; never listed as a flow.
  static let monitoring = FlowID(unchecked: "F.Monitoring")

  private init(unchecked text: String) {
    self.text = text
  }

  package var description: String { text }
}

/// Where a job belongs, from its `session_id` (server.md §2).
package enum SessionID: Hashable, Sendable {
  case monitoring
  case status
  /// A flow and, for requests added to it, the child after the `/`.
  case flow(FlowID, child: String?)
  /// `E.Foreman`, `E:Enrol` and other well-formed names without meaning for storage.
  case wellKnown(String)

  /// - Returns: nil for an empty or malformed id.
  package init?(_ text: String) {
    switch text {
    case "F.Monitoring": self = .monitoring
    case "F.Status": self = .status
    case "E.Foreman", "E:Enrol": self = .wellKnown(text)
    default:
      let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
      guard let parent = parts.first, let flow = FlowID(String(parent)) else { return nil }
      guard parts.count == 2 else {
        self = .flow(flow, child: nil)
        return
      }
      let child = parts[1]
      guard (1...32).contains(child.utf8.count), child.utf8.allSatisfy(ASCII.isAlphanumeric) else { return nil }
      self = .flow(flow, child: String(child))
    }
  }
}

/// The name of an artifact or `artifact/source` whose form was checked.
package struct ArtifactName: Hashable, Sendable, CustomStringConvertible {
  package let text: String

  /// - Returns: nil when `text` is empty, longer than 256 bytes, obfuscated (`$…`), begins with a dot, or has other
  ///   characters than letters, digits, `_`, `.`, `-` (and spaces after the `/`).
  package init?(_ text: String) {
    let parts = text.utf8.split(separator: UInt8(ascii: "/"), maxSplits: 1, omittingEmptySubsequences: false)
    guard text.utf8.count <= 256, let artifact = parts.first, !artifact.isEmpty,
      artifact.first != UInt8(ascii: "."), artifact.allSatisfy(ASCII.isNameCharacter)
    else { return nil }
    if parts.count == 2 {
      let source = parts[1]
      let spaced = { (byte: UInt8) in byte == UInt8(ascii: " ") || ASCII.isNameCharacter(byte) }
      guard !source.isEmpty, source.first != UInt8(ascii: "."), source.allSatisfy(spaced) else { return nil }
    }
    self.text = text
  }

  package var description: String { text }

  /// Names under which the store writes its own events (completion, alerts, conflicts); an agent must not forge them.
  var isReservedForServer: Bool {
    text != Self.clientInfo && (text.hasPrefix("Server.Internal.") || text.hasPrefix("System."))
  }

  static let clientInfo = "Server.Internal.ClientInfo"
  static let alerts = "Server.Internal.Alerts"
  static let conflict = "Server.Internal.ClientConflict"
  static let flowCompletion = "System.Flow.Completion"
  static let uploadCompletion = "System.Upload.Completion"
}

/// Byte classes of the protocol's names.
enum ASCII {
  static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
  static func isUpper(_ byte: UInt8) -> Bool { (0x41...0x5A).contains(byte) }
  static func isLower(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) }
  static func isAlphanumeric(_ byte: UInt8) -> Bool { isDigit(byte) || isUpper(byte) || isLower(byte) }
  static func isBase32Hex(_ byte: UInt8) -> Bool { isDigit(byte) || (0x41...0x56).contains(byte) }
  static func isNameCharacter(_ byte: UInt8) -> Bool {
    isAlphanumeric(byte) || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
  }

  /// 13 upper-case base32hex characters of a big-endian 64-bit number, without padding.
  static func base32Hex(_ value: UInt64) -> String {
    let alphabet = Array("0123456789ABCDEFGHIJKLMNOPQRSTUV".utf8)
    var text: [UInt8] = []
    for step in 0..<13 {
      // 65 bits are read from 64: the last character holds four bits and a zero.
      let shift = 59 - 5 * step
      let digit = shift >= 0 ? value >> UInt64(shift) : value << UInt64(-shift)
      text.append(alphabet[Int(digit & 31)])
    }
    return String(decoding: text, as: UTF8.self)
  }
}
