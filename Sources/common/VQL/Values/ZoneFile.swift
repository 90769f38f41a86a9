import Glibc
import Synchronization

/// A compiled time zone file (TZif, RFC 9636).
final class ZoneFile: Sendable {
  /// What holds at one time.
  struct Rule: Sendable, Equatable {
    /// Seconds east of UTC.
    var offset: Int
    var name: String
    var isDaylight: Bool
  }

  private let transitions: [Int64]
  /// The rule from each transition on.
  private let indices: [UInt8]
  private let rules: [Rule]
  /// What holds after the last transition.
  private let footer: ZoneFooter?

  /// - Returns: nil when the bytes are no such file.
  init?(_ bytes: [UInt8]) {
    var reader = ZoneReader(bytes)
    guard let first = reader.header() else { return nil }
    var block = first
    var width = 4
    if first.version >= 2 {
      reader.skip(first.size(width: 4))
      guard let second = reader.header() else { return nil }
      block = second
      width = 8
    }
    guard let data = reader.data(block, width: width) else { return nil }
    transitions = data.transitions
    indices = data.indices
    rules = data.rules
    footer = first.version >= 2 ? ZoneFooter(reader.footer()) : nil
  }

  func rule(at seconds: Int64) -> Rule {
    guard let last = transitions.last, seconds < last || footer == nil else {
      return footer?.rule(at: seconds) ?? rules.first ?? Rule(offset: 0, name: "UTC", isDaylight: false)
    }
    var low = 0
    var high = transitions.count
    while low < high {
      let middle = (low + high) / 2
      if transitions[middle] <= seconds { low = middle + 1 } else { high = middle }
    }
    // Before the first transition the first standard time holds.
    guard low > 0 else { return rules.first { !$0.isDaylight } ?? rules[0] }
    return rules[Int(indices[low - 1])]
  }

  // MARK: finding files

  private static let cache = Mutex<[String: ZoneFile]>([:])
  private static let directory = "/usr/share/zoneinfo/"
  private static let largest = 1 << 20

  /// The zone of this name, such as `Europe/Berlin`.
  static func named(_ name: String) -> ZoneFile? {
    if let known = cache.withLock({ $0[name] }) { return known }
    let isName = name.utf8.allSatisfy { byte in
      isLetterOrDigit(byte) || [0x2F, 0x2D, 0x2B, 0x5F].contains(byte)
    }
    guard isName, !name.hasPrefix("/"), let found = read(directory + name) else { return nil }
    cache.withLock { $0[name] = found }
    return found
  }

  private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
  }

  /// The zone of this host; nil is UTC.
  static var local: ZoneFile? {
    guard let variable = getenv("TZ") else { return read("/etc/localtime") }
    var name = String(cString: variable)
    if name.hasPrefix(":") { name.removeFirst() }
    return name.hasPrefix("/") ? read(name) : named(name)
  }

  private static func read(_ path: String) -> ZoneFile? {
    Posix.readSmall(path, limit: largest).flatMap { ZoneFile($0) }
  }
}

/// Walks over a file; every step is checked.
private struct ZoneReader {
  struct Header {
    var version: Int
    /// isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt
    var counts: [Int]

    func size(width: Int) -> Int {
      counts[3] * (width + 1) + counts[4] * 6 + counts[5] + counts[2] * (width + 4) + counts[1] + counts[0]
    }
  }

  private let bytes: [UInt8]
  private var place = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  mutating func skip(_ count: Int) { place = min(bytes.count, place + count) }

  mutating func header() -> Header? {
    guard bytes.count - place >= 44, bytes[place..<place + 4].elementsEqual("TZif".utf8) else { return nil }
    let digit = Int(bytes[place + 4])
    let start = place + 20
    let counts = (0..<6).map { Int(clamping: number(at: start + $0 * 4, width: 4)) }
    place += 44
    guard counts.allSatisfy({ (0...1_000_000).contains($0) }), counts[4] > 0 else { return nil }
    return Header(version: digit == 0 ? 1 : digit - 48, counts: counts)
  }

  private func number(at start: Int, width: Int) -> Int64 {
    let value = bytes[start..<start + width].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return width == 4 ? Int64(Int32(truncatingIfNeeded: value)) : Int64(bitPattern: value)
  }

  mutating func data(
    _ header: Header, width: Int
  ) -> (transitions: [Int64], indices: [UInt8], rules: [ZoneFile.Rule])? {
    guard bytes.count - place >= header.size(width: width) else { return nil }
    let (times, types, characters) = (header.counts[3], header.counts[4], header.counts[5])
    let transitions = (0..<times).map { number(at: place + $0 * width, width: width) }
    let indexStart = place + times * width
    let typeStart = indexStart + times
    let nameStart = typeStart + types * 6
    let indices = Array(bytes[indexStart..<typeStart])
    let names = bytes[nameStart..<nameStart + characters]
    let rules = (0..<types).map { type in
      let start = typeStart + type * 6
      let name = names.dropFirst(Int(bytes[start + 5])).prefix { $0 != 0 }
      return ZoneFile.Rule(
        offset: Int(number(at: start, width: 4)), name: String(decoding: name, as: UTF8.self),
        isDaylight: bytes[start + 4] != 0)
    }
    guard indices.allSatisfy({ Int($0) < types }) else { return nil }
    skip(header.size(width: width))
    return (transitions, indices, rules)
  }

  /// The line after the data.
  func footer() -> [UInt8] {
    Array(bytes[place...].dropFirst().prefix { $0 != 10 })
  }
}
