/// One line of the kernel's audit log: `type=… msg=audit(1364481363.243:24287): key=value …`.
struct AuditRecord {
  let type: String
  /// Milliseconds since the epoch.
  let milliseconds: Int64
  let sequence: Int64
  let fields: [(name: String, value: [UInt8])]

  /// A line of a log file; nil for anything else.
  init?(line: [UInt8]) {
    var rest = line[...]
    if rest.starts(with: "node=".utf8), let space = rest.firstIndex(of: 0x20) { rest = rest[(space + 1)...] }
    guard rest.starts(with: "type=".utf8), let space = rest.firstIndex(of: 0x20) else { return nil }
    let type = String(decoding: rest[(rest.startIndex + 5)..<space], as: UTF8.self)
    rest = rest[(space + 1)...]
    guard rest.starts(with: "msg=".utf8) else { return nil }
    self.init(type: type, text: rest.dropFirst(4))
  }

  /// `audit(time:sequence): fields`, as the kernel sends it.
  init?(type: String, text: ArraySlice<UInt8>) {
    guard text.starts(with: "audit(".utf8), let close = text.firstIndex(of: UInt8(ascii: ")")) else { return nil }
    let stamp = String(decoding: text[(text.startIndex + 6)..<close], as: UTF8.self)
    let parts = stamp.split { $0 == "." || $0 == ":" }
    guard parts.count == 3, let seconds = Int64(parts[0]), let fraction = Int64(parts[1]), let number = Int64(parts[2]),
      seconds < 1 << 40
    else { return nil }
    self.type = type
    milliseconds = seconds * 1000 + fraction % 1000
    sequence = number
    fields = Self.fields(text[(close + 1)...].drop { $0 == UInt8(ascii: ":") || $0 == 0x20 })
  }

  subscript(_ name: String) -> String? {
    fields.first { $0.name == name }.map { String(decoding: $0.value, as: UTF8.self) }
  }

  /// Pairs parted by spaces or by the character that starts the interpreted part; the message of a program is read too.
  private static func fields(_ text: ArraySlice<UInt8>) -> [(name: String, value: [UInt8])] {
    var found: [(name: String, value: [UInt8])] = []
    var place = text.startIndex
    while place < text.endIndex, found.count < 500 {
      while place < text.endIndex, text[place] == 0x20 || text[place] == 0x1D || text[place] == UInt8(ascii: ",") {
        place += 1
      }
      guard let equals = text[place...].firstIndex(where: { $0 == UInt8(ascii: "=") || $0 == 0x20 }),
        text[equals] == UInt8(ascii: "=")
      else {
        place = text[place...].firstIndex(of: 0x20) ?? text.endIndex
        continue
      }
      let name = String(decoding: text[place..<equals], as: UTF8.self)
      place = equals + 1
      guard place < text.endIndex else { break }
      let quote = text[place]
      if quote == 0x22 || quote == 0x27 {
        let end = text[(place + 1)...].firstIndex(of: quote) ?? text.endIndex
        let value = text[(place + 1)..<end]
        place = min(end + 1, text.endIndex)
        if name == "msg" {
          found += fields(value)
        } else {
          found.append((name, Array(value)))
        }
      } else {
        let end = text[place...].firstIndex { $0 == 0x20 || $0 == 0x1D } ?? text.endIndex
        found.append((name, unquoted(name, text[place..<end])))
        place = end
      }
    }
    return found
  }

  private static let hexadecimal: Set<String> = ["proctitle", "comm", "exe", "name", "cwd", "key", "acct", "cmd", "data"]

  /// Text with odd characters is logged in hexadecimal, without quotes.
  private static func unquoted(_ name: String, _ value: ArraySlice<UInt8>) -> [UInt8] {
    let isArgument = name.first == "a" && name.dropFirst().allSatisfy(\.isNumber) && value.count > 16
    guard hexadecimal.contains(name) || isArgument, value.count >= 2, value.count % 2 == 0 else { return Array(value) }
    var out: [UInt8] = []
    var high: UInt8?
    for byte in value {
      guard let digit = Hex.digit(byte) else { return Array(value) }
      if let first = high {
        out.append(first << 4 | digit)
        high = nil
      } else {
        high = digit
      }
    }
    return out.map { $0 == 0 ? 0x20 : $0 }
  }
}

/// Records of one event, in the order they came.
struct AuditEvent {
  private(set) var records: [AuditRecord]
  init(_ first: AuditRecord) { records = [first] }
  mutating func add(_ record: AuditRecord) { if records.count < 200 { records.append(record) } }
  var sequence: Int64 { records[0].sequence }
}

/// Puts records together into events. An event is complete when its end is marked, when it can only have one record,
/// or when enough later events have begun.
struct AuditAssembler {
  private static let maximumOpen = 16
  private var open: [AuditEvent] = []

  /// The events that are complete now.
  mutating func add(_ record: AuditRecord) -> [AuditEvent] {
    if record.type == "EOE" { return take(record.sequence) }
    if let place = open.firstIndex(where: { $0.sequence == record.sequence }) {
      open[place].add(record)
      if record.type == "PROCTITLE" { return take(record.sequence) }
      return []
    }
    if !Self.hasCompanions(record.type) { return [AuditEvent(record)] }
    open.append(AuditEvent(record))
    return open.count > Self.maximumOpen ? [open.removeFirst()] : []
  }

  /// What is still open, at the end of the input.
  mutating func flush() -> [AuditEvent] {
    defer { open = [] }
    return open
  }

  private mutating func take(_ sequence: Int64) -> [AuditEvent] {
    guard let place = open.firstIndex(where: { $0.sequence == sequence }) else { return [] }
    return [open.remove(at: place)]
  }

  private static let companions: Set<String> = [
    "SYSCALL", "PATH", "CWD", "EXECVE", "SOCKADDR", "PROCTITLE", "IPC", "MMAP", "FD_PAIR", "OBJ_PID", "BPRM_FCAPS",
    "CAPSET", "NETFILTER_CFG", "AVC", "SELINUX_ERR", "SECCOMP", "KERN_MODULE", "MAC_STATUS", "CONFIG_CHANGE", "BPF",
    "FANOTIFY", "TIME_INJOFFSET", "TIME_ADJNTPVAL", "INTEGRITY_RULE", "MQ_OPEN",
  ]

  private static func hasCompanions(_ type: String) -> Bool { companions.contains(type) }
}
