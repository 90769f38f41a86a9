import Glibc

/// Rows of `pslist()`, from `/proc` (linux-endpoint.md §2).
enum ProcessList {
  private static let shape = UnsafeShared(
    Shape(
      [
        "Pid", "Name", "Ppid", "CommandLine", "CreateTime", "Times", "Exe", "Cwd", "Username", "MemoryInfo",
      ], frozen: true, caseInsensitive: true))
  private static let ticks = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
  private static let pageSize = Int64(max(1, sysconf(Int32(_SC_PAGESIZE))))

  static var pids: [Int32] {
    (Posix.list("/proc") ?? []).compactMap { Int32(String(decoding: $0, as: UTF8.self)) }.sorted()
  }

  /// The row of a process; members that cost a system call are read when they are touched.
  static func row(_ pid: Int32, boot: Int64, users: UserNames) -> VQLValue? {
    guard let status = Posix.readText("/proc/\(pid)/status") else { return nil }
    var fields: [Substring: Substring] = [:]
    for line in status.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      fields[line[..<colon]] = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
    }
    let command = Posix.readSmall("/proc/\(pid)/cmdline") ?? []
    let numbers = statistics(pid)
    func seconds(_ place: Int) -> Double { place < numbers.count ? Double(numbers[place]) / ticks : 0 }
    let started = boot &+ Int64(seconds(19))
    let uid = fields["Uid"]?.split(separator: "\t").first.flatMap { UInt32($0) }
    let line = command.map { $0 == 0 ? 0x20 : $0 }
    let zone = VQLZone.local
    return .dict(
      VQLDict(
        shape: shape.value,
        values: [
          .int(Int64(pid)), .bytes(name(String(fields["Name"] ?? ""), command)),
          .int(fields["PPid"].flatMap { Int64($0) } ?? 0), .bytes(Bytes.trim(line)),
          .string(GoLayout.format(VQLTime(seconds: started).civil(in: zone), "2006-01-02T15:04:05Z07:00")),
          .dict(times(user: seconds(11), system: seconds(12), wait: seconds(39))),
          .lazy(VQLThunk { .bytes(Posix.link("/proc/\(pid)/exe") ?? []) }),
          .lazy(VQLThunk { .bytes(Posix.link("/proc/\(pid)/cwd") ?? []) }),
          .lazy(VQLThunk { .string(uid.flatMap { users.name(of: $0) } ?? "") }),
          .lazy(VQLThunk { .dict(memory(pid)) }),
        ]))
  }

  private static func name(_ short: String, _ command: [UInt8]) -> [UInt8] {
    let name = Array(short.utf8)
    guard name.count >= 15 else { return name }
    let program = command.prefix { $0 != 0 }
    let base = Array(program.split(separator: UInt8(ascii: "/")).last ?? [])
    return base.starts(with: name) ? base : name
  }

  /// The numbers of `/proc/PID/stat` after the name, which may hold anything; the first is the state's place.
  private static func statistics(_ pid: Int32) -> [Int64] {
    guard let text = Posix.readText("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else { return [] }
    return text[text.index(after: end)...].split(separator: " ").map { Int64($0) ?? 0 }
  }

  private static func times(user: Double, system: Double, wait: Double) -> VQLDict {
    VQLDict([
      ("cpu", .string("cpu")), ("user", .double(user)), ("system", .double(system)), ("idle", .double(0)),
      ("nice", .double(0)), ("iowait", .double(wait)), ("irq", .double(0)), ("softirq", .double(0)),
      ("steal", .double(0)), ("guest", .double(0)), ("guestNice", .double(0)),
    ])
  }

  private static func memory(_ pid: Int32) -> VQLDict {
    let pages = (Posix.readText("/proc/\(pid)/statm") ?? "").split(separator: " ").map { Int64($0) ?? 0 }
    return VQLDict([
      ("rss", .int(pages.count > 1 ? pages[1] &* pageSize : 0)), ("vms", .int((pages.first ?? 0) &* pageSize)),
      ("hwm", .int(0)), ("data", .int(0)), ("stack", .int(0)), ("locked", .int(0)), ("swap", .int(0)),
    ])
  }
}

/// User names by number, each looked up once.
final class UserNames {
  private var names: [UInt32: String] = [:]

  func name(of uid: UInt32) -> String {
    if let known = names[uid] { return known }
    var entry = passwd()
    var buffer = [CChar](repeating: 0, count: 16_384)
    var result: UnsafeMutablePointer<passwd>?
    let found = getpwuid_r(uid, &entry, &buffer, buffer.count, &result) == 0 && result != nil
    let name = found ? entry.pw_name.map { String(cString: $0) } ?? "" : ""
    names[uid] = name
    return name
  }
}

extension Plugins {
  static let processes: [PluginSpec] = [
    PluginSpec("pslist", "pid: int", "Running processes.") { call, emit in
      let users = UserNames()
      let boot = Host.bootTime
      var pids = ProcessList.pids
      if let pid = try call.int("pid"), pid != 0 { pids = [Int32(clamping: pid)] }
      for pid in pids {
        guard let row = ProcessList.row(pid, boot: boot, users: users) else { continue }
        if !emit(row) { return }
      }
    }
  ]
}
