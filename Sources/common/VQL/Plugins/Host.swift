import Glibc

/// Facts about the machine, read from the kernel and from `/etc` (linux-endpoint.md §2).
enum Host {
  /// When this process started: the engine's clock is read at first use, which the agent does at start-up.
  static let started = Clock.nanoseconds

  static var info: VQLDict {
    var names = utsname()
    uname(&names)
    let release = osRelease
    let boot = bootTime
    let zone = VQLZone.local.offset(at: Clock.seconds)
    let virtual = virtualization
    let hostname = text(of: names.nodename)
    return VQLDict([
      ("Hostname", .string(hostname)), ("Uptime", .int(uptime)), ("BootTime", .int(boot)), ("OS", .string("linux")),
      ("Platform", .string(platform(release))), ("PlatformFamily", .string(family(release))),
      ("PlatformVersion", .string(version(release))), ("KernelVersion", .string(text(of: names.release))),
      ("VirtualizationSystem", .string(virtual)), ("VirtualizationRole", .string(virtual.isEmpty ? "" : "guest")),
      ("CompilerVersion", .string("swift")), ("HostID", .string(hostID)),
      ("Exe", .bytes(Posix.link("/proc/self/exe") ?? [])), ("CWD", .bytes(Posix.link("/proc/self/cwd") ?? [])),
      ("IsAdmin", .bool(geteuid() == 0)), ("ClientStart", .time(VQLTime(nanosecondsSinceEpoch: started))),
      ("LocalTZ", .string(zone.name)), ("LocalTZOffset", .int(Int64(zone.seconds))),
      ("Fqdn", .string(fullName(hostname))), ("Architecture", .string(architecture(text(of: names.machine)))),
    ])
  }

  private static func text<Tuple>(of tuple: Tuple) -> String {
    withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  static var bootTime: Int64 {
    for line in (Posix.readText("/proc/stat") ?? "").split(separator: "\n") where line.hasPrefix("btime ") {
      return Int64(line.dropFirst(6)) ?? 0
    }
    return Clock.seconds - uptime
  }

  private static var uptime: Int64 {
    let first = (Posix.readText("/proc/uptime") ?? "").split(separator: " ").first
    return first.flatMap { Double($0) }.map { VQLValue.truncate($0) } ?? 0
  }

  private static var osRelease: [String: String] {
    let content = Posix.readText("/etc/os-release") ?? Posix.readText("/usr/lib/os-release") ?? ""
    var values: [String: String] = [:]
    for line in content.split(separator: "\n") {
      guard let equals = line.firstIndex(of: "=") else { continue }
      values[String(line[..<equals])] = line[line.index(after: equals)...].filter { $0 != "\"" && $0 != "'" }
    }
    return values
  }

  private static func platform(_ release: [String: String]) -> String {
    let id = (release["ID"] ?? "linux").lowercased()
    let renamed = ["rhel": "redhat", "ol": "oracle", "amzn": "amazon", "sles": "suse", "opensuse-leap": "opensuse"]
    return renamed[id] ?? id
  }

  private static func family(_ release: [String: String]) -> String {
    let words = Set(
      ((release["ID"] ?? "") + " " + (release["ID_LIKE"] ?? "")).lowercased().split(separator: " ").map(String.init))
    if words.contains("fedora") && release["ID"] == "fedora" { return "fedora" }
    if !words.isDisjoint(with: ["debian", "ubuntu"]) { return "debian" }
    if !words.isDisjoint(with: ["rhel", "centos", "fedora", "ol", "rocky", "almalinux", "amzn"]) { return "rhel" }
    if words.contains(where: { $0.contains("suse") || $0 == "sles" }) { return "suse" }
    return words.first { ["arch", "alpine", "gentoo", "slackware"].contains($0) } ?? ""
  }

  private static func version(_ release: [String: String]) -> String {
    if release["ID"] == "debian", let text = Posix.readText("/etc/debian_version") {
      return String(decoding: Bytes.trim(Array(text.utf8)), as: UTF8.self)
    }
    return release["VERSION_ID"] ?? ""
  }

  private static var virtualization: String {
    let cgroup = Posix.readText("/proc/1/cgroup") ?? ""
    if access("/.dockerenv", F_OK) == 0 || cgroup.contains("docker") { return "docker" }
    if cgroup.contains("lxc") || access("/dev/lxd", F_OK) == 0 { return "lxc" }
    let product =
      ((Posix.readText("/sys/class/dmi/id/sys_vendor") ?? "")
      + (Posix.readText("/sys/class/dmi/id/product_name") ?? "")).lowercased()
    let known = [
      ("kvm", "kvm"), ("qemu", "kvm"), ("vmware", "vmware"), ("virtualbox", "vbox"), ("xen", "xen"),
      ("microsoft", "hyperv"), ("amazon ec2", "kvm"), ("google", "kvm"),
    ]
    for (mark, name) in known where product.contains(mark) { return name }
    return access("/proc/xen", F_OK) == 0 ? "xen" : ""
  }

  private static var hostID: String {
    func line(_ path: String) -> String? {
      let text = Posix.readText(path).map { String(decoding: Bytes.trim(Array($0.utf8)), as: UTF8.self) }
      return text?.isEmpty == false ? text?.lowercased() : nil
    }
    if let product = line("/sys/class/dmi/id/product_uuid") { return product }
    if let machine = line("/etc/machine-id"), machine.utf8.count == 32 {
      var text = ""
      for (place, digit) in machine.enumerated() {
        if [8, 12, 16, 20].contains(place) { text += "-" }
        text.append(digit)
      }
      return text
    }
    return line("/proc/sys/kernel/random/boot_id") ?? ""
  }

  /// The full name from `/etc/hosts`; the resolver is not asked, as it may block.
  private static func fullName(_ hostname: String) -> String {
    for line in (Posix.readText("/etc/hosts") ?? "").split(separator: "\n") {
      let names = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }.dropFirst()
      guard names.contains(Substring(hostname)) else { continue }
      if let full = names.first(where: { $0.hasPrefix(hostname + ".") }) { return String(full) }
    }
    return hostname
  }

  private static func architecture(_ machine: String) -> String {
    let names = ["x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm"]
    return names[machine] ?? machine
  }
}

extension Plugins {
  /// The `info()` row, kept for the session.
  static func info(_ context: Context) -> VQLValue {
    if let known = context.caches["info"] { return known }
    let made = VQLValue.dict(Host.info)
    context.caches["info"] = made
    return made
  }

  static let host: [PluginSpec] = [
    PluginSpec("info", "", "Facts about this host.") { call, emit in _ = emit(info(call.context)) },
    PluginSpec("interfaces", "", "Network interfaces and their addresses.") { call, emit in
      for row in NetworkInterfaces.rows where !emit(row) { return }
    },
    PluginSpec("environ", "vars: string[]", "Environment variables.") { call, emit in
      var wanted = call.strings("vars").map { String(decoding: $0, as: UTF8.self) }
      let all = HostEnvironment.all
      if wanted.isEmpty { wanted = all.map(\.0) }
      let shape = Shape(Array(Set(wanted)).sorted(), frozen: true, caseInsensitive: true)
      let values = Dictionary(all, uniquingKeysWith: { first, _ in first })
      _ = emit(.dict(VQLDict(shape: shape, values: shape.names.map { values[$0].map { .string($0) } ?? .null })))
    },
    PluginSpec("partitions", "", "Mounted file systems.") { call, emit in
      for row in Mounts.rows where !emit(row) { return }
    },
    PluginSpec("filesystems", "", "Mounted file systems with their description.") { call, emit in
      for row in Mounts.rows {
        guard case .dict(let dict) = row, let partition = dict["Partition"] else { continue }
        var text: [UInt8] = []
        partition.appendJSON(to: &text)
        if !emit(.dict([("PartitionStat", partition), ("String", .bytes(text))])) { return }
      }
    },
  ]
}

enum HostEnvironment {
  /// All environment variables, in their order.
  static var all: [(String, String)] {
    guard let block = Posix.readSmall("/proc/self/environ") else { return [] }
    return block.split(separator: 0).compactMap { entry in
      guard let equals = entry.firstIndex(of: UInt8(ascii: "=")) else { return nil }
      return (
        String(decoding: entry[..<equals], as: UTF8.self), String(decoding: entry[(equals + 1)...], as: UTF8.self)
      )
    }
  }

  static func value(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}

enum Mounts {
  /// Undoes the octal escapes of `/proc/self/mounts`.
  static func unescape(_ text: Substring) -> [UInt8] {
    let bytes = Array(text.utf8)
    var out: [UInt8] = []
    var place = 0
    while place < bytes.count {
      if bytes[place] == 0x5C, place + 3 < bytes.count,
        let value = UInt8(String(decoding: bytes[(place + 1)...(place + 3)], as: UTF8.self), radix: 8)
      {
        out.append(value)
        place += 4
      } else {
        out.append(bytes[place])
        place += 1
      }
    }
    return out
  }

  static var rows: [VQLValue] {
    (Posix.readText("/proc/self/mounts") ?? "").split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      guard fields.count >= 4 else { return nil }
      let mountpoint = unescape(fields[1])
      let type = String(fields[2])
      let shape = Shape(["device", "mountpoint", "fstype", "opts"], frozen: true, caseInsensitive: true)
      let partition = VQLDict(
        shape: shape,
        values: [
          .bytes(unescape(fields[0])), .bytes(mountpoint), .string(type),
          .array(fields[3].split(separator: ",").map { .string(String($0)) }),
        ])
      return .dict([
        ("Partition", .dict(partition)), ("SerialNumber", .string("")),
        ("Usage", .lazy(VQLThunk { usage(mountpoint, type) })),
      ])
    }
  }

  private static func usage(_ path: [UInt8], _ type: String) -> VQLValue {
    var status = statvfs()
    guard statvfs(String(decoding: path, as: UTF8.self), &status) == 0 else { return .null }
    let block = Int64(status.f_frsize)
    let total = Int64(status.f_blocks) &* block
    let free = Int64(status.f_bavail) &* block
    let used = (Int64(status.f_blocks) &- Int64(status.f_bfree)) &* block
    let inodes = Int64(status.f_files)
    let inodesFree = Int64(status.f_ffree)
    func percent(_ part: Int64, _ whole: Int64) -> VQLValue {
      .double(whole > 0 ? Double(part) / Double(whole) * 100 : 0)
    }
    let names = [
      "path", "fstype", "total", "free", "used", "usedPercent", "inodesTotal", "inodesUsed", "inodesFree",
      "inodesUsedPercent",
    ]
    let shape = Shape(names, frozen: true, caseInsensitive: true)
    return .dict(
      VQLDict(
        shape: shape,
        values: [
          .bytes(path), .string(type), .int(total), .int(free), .int(used), percent(used, used &+ free), .int(inodes),
          .int(inodes &- inodesFree), .int(inodesFree), percent(inodes &- inodesFree, inodes),
        ]))
  }
}
