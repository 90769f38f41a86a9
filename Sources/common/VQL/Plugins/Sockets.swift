import Glibc

/// Sockets of this host, from `/proc/net` (linux-endpoint.md §2).
enum SocketTable {
  struct Entry {
    var family: Int64
    /// 1 for streams, 2 for datagrams.
    var kind: Int64
    var localIP = ""
    var localPort: Int64 = 0
    var remoteIP = ""
    var remotePort: Int64 = 0
    var state = 0
    var inode: Int64 = 0
    var uid: Int64 = 0
  }

  /// TCP states by number, as `connections()` and `netstat()` name them.
  static let longStates = [
    "NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING",
  ]
  static let shortStates = [
    "", "ESTAB", "SYN_SENT", "SYN_RCVD", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
    "LISTEN", "CLOSING",
  ]

  static func state(_ number: Int, in names: [String]) -> String { names.indices.contains(number) ? names[number] : "" }

  static var internet: [Entry] {
    let tables: [(String, Int64, Int64)] = [
      ("tcp", 2, 1), ("tcp6", 10, 1), ("udp", 2, 2), ("udp6", 10, 2),
    ]
    return tables.flatMap { name, family, kind in
      (Posix.readText("/proc/net/\(name)") ?? "").split(separator: "\n").dropFirst().compactMap { line in
        let fields = line.split(separator: " ")
        guard fields.count > 9 else { return nil }
        var entry = Entry(family: family, kind: kind)
        (entry.localIP, entry.localPort) = endpoint(fields[1])
        (entry.remoteIP, entry.remotePort) = endpoint(fields[2])
        entry.state = Int(fields[3], radix: 16) ?? 0
        entry.uid = Int64(fields[7]) ?? 0
        entry.inode = Int64(fields[9]) ?? 0
        return entry
      }
    }
  }

  static var local: [Entry] {
    (Posix.readText("/proc/net/unix") ?? "").split(separator: "\n").dropFirst().compactMap { line in
      let fields = line.split(separator: " ", omittingEmptySubsequences: true)
      guard fields.count >= 7 else { return nil }
      var entry = Entry(family: 1, kind: Int64(fields[4], radix: 16) ?? 0)
      entry.inode = Int64(fields[6]) ?? 0
      if fields.count > 7 { entry.localIP = fields[7...].joined(separator: " ") }
      return entry
    }
  }

  /// `0100007F:1F90`: words of the address in host order.
  private static func endpoint(_ text: Substring) -> (String, Int64) {
    let halves = text.split(separator: ":")
    guard halves.count == 2, let port = Int64(halves[1], radix: 16) else { return ("", 0) }
    let digits = Array(halves[0])
    var bytes: [UInt8] = []
    for word in stride(from: 0, to: digits.count - 7, by: 8) {
      let value = UInt32(String(digits[word..<word + 8]), radix: 16) ?? 0
      bytes += [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
    }
    return (IPAddress(bytes).text, port)
  }

  /// Which process and descriptor hold each socket, as far as this user may see.
  static func owners(_ context: Context) -> [Int64: (pid: Int64, descriptor: Int64)] {
    var owners: [Int64: (pid: Int64, descriptor: Int64)] = [:]
    let mark = Array("socket:[".utf8)
    for pid in ProcessList.pids where !context.isStopped {
      for name in Posix.list("/proc/\(pid)/fd") ?? [] {
        let text = String(decoding: name, as: UTF8.self)
        guard let target = Posix.link("/proc/\(pid)/fd/\(text)"), target.starts(with: mark),
          let inode = Int64(String(decoding: target.dropFirst(mark.count).dropLast(), as: UTF8.self))
        else { continue }
        if owners[inode] == nil { owners[inode] = (Int64(pid), Int64(text) ?? 0) }
      }
    }
    return owners
  }
}

extension Plugins {
  static let network: [PluginSpec] = [
    PluginSpec("netstat", "", "TCP and UDP sockets.") { call, emit in
      let owners = SocketTable.owners(call.context)
      let shape = Shape([
        "Fd", "Family", "Type", "Laddr", "Raddr", "Status", "Pid", "FamilyString", "Timestamp", "TypeString",
      ])
      func address(_ ip: String, _ port: Int64) -> VQLValue { .dict([("IP", .string(ip)), ("Port", .int(port))]) }
      for entry in SocketTable.internet {
        let status = entry.kind == 1 ? SocketTable.state(entry.state, in: SocketTable.shortStates) : ""
        let row = VQLDict(
          shape: shape,
          values: [
            .int(0), .int(entry.family), .int(entry.kind), address(entry.localIP, entry.localPort),
            address(entry.remoteIP, entry.remotePort), .string(status), .int(owners[entry.inode]?.pid ?? -1),
            .string(entry.family == 2 ? "IPv4" : "IPv6"), .time(VQLTime(seconds: VQLTime.zeroSeconds)),
            .string(entry.kind == 1 ? "TCP" : "UDP"),
          ])
        if !emit(.dict(row)) { return }
      }
    },
    PluginSpec("connections", "", "All sockets.") { call, emit in
      let owners = SocketTable.owners(call.context)
      let names = ["FD", "Family", "Type", "Laddr", "Raddr", "Status", "Pid", "Uids"]
      let shape = Shape(names, frozen: true, caseInsensitive: true)
      func address(_ ip: String, _ port: Int64) -> VQLValue { .dict([("ip", .string(ip)), ("port", .int(port))]) }
      let families: [Int64: String] = [1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6"]
      for entry in SocketTable.internet + SocketTable.local {
        let isStream = entry.kind == 1
        let status = isStream && entry.family != 1 ? SocketTable.state(entry.state, in: SocketTable.longStates) : "NONE"
        let owner = owners[entry.inode]
        let row = VQLDict(
          shape: shape,
          values: [
            .int(owner?.descriptor ?? 0), .string(families[entry.family] ?? String(entry.family)),
            .string(isStream ? "TCP" : entry.kind == 2 ? "UCP" : String(entry.kind)),
            address(entry.localIP, entry.localPort), address(entry.remoteIP, entry.remotePort), .string(status),
            .int(owner?.pid ?? 0), .array(owner == nil ? [] : [.int(entry.uid)]),
          ])
        if !emit(.dict(row)) { return }
      }
    },
  ]
}
